"""starlingctl login-test: the real PAM stack, run for somebody on the administrator's terminal, with no session."""
