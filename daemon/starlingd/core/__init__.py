"""The pure heart of the daemon: no I/O, no clock, no randomness. Time and chance are handed in as values."""
