"""Whether whoever confirms a change has come in through it: by a login since, with a second factor, in this session."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlingd.core.model import Factor, Process

if TYPE_CHECKING:
    from collections.abc import Sequence

PROVING = frozenset({Factor.PUSH, Factor.CODE, Factor.TOTP})
_PPID, _START = 4 - 3, 22 - 3
"""Fields of /proc/PID/stat, counted from the first after the name."""


@dataclass(frozen=True)
class Since:
    """Since when the change counts: wall-clock seconds, and clock ticks since boot."""

    wall: float
    ticks: int


def ancestors() -> list[Process]:
    """Tell this process, its parent, and so on."""
    found: list[Process] = []
    pid = os.getpid()
    while pid:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            break
        fields = stat.rpartition(")")[2].split()
        found.append(Process(pid, int(fields[_START])))
        pid = int(fields[_PPID])
    return found


def start_time(pid: int) -> int:
    """Tell when a living process started, in clock ticks. Raises OSError."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return int(stat.rpartition(")")[2].split()[_START])


def objection(sessions: Sequence[dict[str, Any]], chain: Sequence[Process], service: str, since: Since) -> str | None:
    """Tell why the sessions that the daemon knows do not prove the change; None when one of them does.

    ``sessions`` are those of the control socket, ``chain`` this process and its ancestors.
    """
    mine = [session for session in sessions if Process(session["pid"], session["start"]) in chain]
    if not mine:
        return (
            "this command does not run inside a session that the daemon knows. In tmux, screen, systemd-run or at, and "
            "in sessions from before the change, it does not: log in anew and confirm directly in that session"
        )
    reasons = [_objection(session, service, since) for session in mine]
    return None if None in reasons else reasons[0]


def _objection(session: dict[str, Any], service: str, since: Since) -> str | None:
    if session["service"] != service:
        return f"this session came in through {session['service']}, and the change is about {service}"
    if session["since"] < since.wall or (service == "sshd" and session["start"] < since.ticks):
        return "this session, or its connection, is older than the change: log in anew (without ControlMaster)"
    if session["factor"] not in PROVING:
        return (
            f"this session came in without a fresh second factor (factor: {session['factor']}), as those do who are "
            "exempt, cached or helped by the helpdesk, and everybody while the daemon only observes ([auth] enforce): "
            "log in with a push or a code of your own"
        )
    return None
