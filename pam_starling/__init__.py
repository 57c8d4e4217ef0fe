"""The PAM side of pam-starling: a thin terminal that runs inside sshd and login.

It says who is logging in, shows what the daemon tells it to show, and returns what the daemon decided. It must never
decide anything itself, import more than the light part of the standard library, or turn a failure into anything but a
refusal. All modules together are at most 400 lines.
"""
