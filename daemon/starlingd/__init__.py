"""starlingd: the daemon that owns policy, secrets and network traffic of pam-starling."""

VERSION = "0.1.0"
"""The version of the package; setup.cfg and debian/changelog say the same."""
