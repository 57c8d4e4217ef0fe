"""What the daemon and systemd tell each other: the sockets, READY, STATUS, the watchdog, STOPPING.

Without systemd (tests, a developer's shell) every call does nothing.
"""

from __future__ import annotations

import os
import socket

from systemd import daemon


def inherited_socket() -> socket.socket | None:
    """Take over the PAM socket that systemd made; None when there is none. Raises OSError for a wrong one."""
    descriptors = daemon.listen_fds(unset_environment=True)
    if not descriptors:
        return None
    sock = socket.socket(fileno=descriptors[0])
    if sock.family is not socket.AF_UNIX or sock.type is not socket.SOCK_SEQPACKET:
        raise OSError("the socket handed over by systemd is not a Unix SOCK_SEQPACKET socket")
    return sock


def ready(status: str) -> None:
    """Tell that logins are served (or refused with a reason), and what to show in ``systemctl status``."""
    daemon.notify(f"READY=1\nSTATUS={_line(status)}")


def status(text: str) -> None:
    """Change what ``systemctl status`` shows."""
    daemon.notify(f"STATUS={_line(text)}")


def alive() -> None:
    """Answer the watchdog."""
    daemon.notify("WATCHDOG=1")


def stopping() -> None:
    """Tell that the daemon ends."""
    daemon.notify("STOPPING=1")


def watchdog_interval() -> float | None:
    """Tell how often ``alive`` must be said, in seconds: half the time systemd allows; None without a watchdog."""
    try:
        allowed = int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000
    except ValueError:
        return None
    return allowed / 2 if allowed > 0 else None


def _line(text: str) -> str:
    return text.replace("\n", " ")
