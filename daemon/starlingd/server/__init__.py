"""What talks to the modules: sockets, sessions, worker pools, login records, systemd."""
