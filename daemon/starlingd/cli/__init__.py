"""starlingctl, the administrator's command: one file for each group of commands."""
