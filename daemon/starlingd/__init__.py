"""starlingd: the daemon that owns policy, secrets and network traffic of pam-starling."""
