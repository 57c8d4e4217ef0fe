"""What the daemon and systemd tell each other: the sockets, READY, STATUS, the watchdog, STOPPING.

Without systemd (tests, a developer's shell) every call does nothing.
"""

from __future__ import annotations

import os
import socket

from systemd import daemon


def inherited_sockets() -> tuple[socket.socket | None, socket.socket | None]:
    """Take over the PAM socket and the control socket that systemd made; raises OSError for any other.

    The one is told from the other by its type: SOCK_SEQPACKET, SOCK_STREAM.
    """
    found: dict[int, socket.socket] = {}
    for descriptor in daemon.listen_fds(unset_environment=True):
        sock = socket.socket(fileno=descriptor)
        if sock.family is not socket.AF_UNIX or sock.type in found:
            raise OSError("systemd handed over a socket that is neither the PAM nor the control socket")
        found[sock.type] = sock
    pam, control = found.pop(socket.SOCK_SEQPACKET, None), found.pop(socket.SOCK_STREAM, None)
    if found:
        raise OSError("systemd handed over a socket that is neither the PAM nor the control socket")
    return pam, control


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
