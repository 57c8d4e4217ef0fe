"""Which later PAM call belongs to which login (DESIGN §5).

A record is the daemon's memory of one decided login. A later call belongs to it only if the calling process, with its
start time, *is* the recorded caller or the recorded parent, and service, canonical user and login id are equal. Two
parents are never compared: key-only logins run in sshd's monitors, which all have the listener as their parent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlingd.core.model import Factor, Process, Reason

LIFETIME = 600.0
"""Seconds after ``authenticate`` at which a record ends even if its process lives on."""


@dataclass(frozen=True, slots=True)
class Record:
    """A login that was let in and waits for its session. ``boot`` is the boot id, ``made`` boot-time seconds."""

    login_id: str
    user: str
    service: str
    caller: Process
    parent: Process
    client_ip: str
    tty: str
    auth_info: str
    factor: Factor
    reason: Reason
    boot: str
    made: float


@dataclass(frozen=True, slots=True)
class Claim:
    """A later call that says it belongs to a login; ``caller`` is what the kernel says, not the module."""

    login_id: str
    user: str
    service: str
    caller: Process


def belongs(claim: Claim, record: Record, boot: str, now: float) -> bool:
    """Whether ``claim`` may use ``record`` at boot-time ``now`` of boot ``boot``."""
    return (
        claim.login_id == record.login_id
        and claim.user == record.user
        and claim.service == record.service
        and claim.caller in (record.caller, record.parent)
        and record.boot == boot
        and 0.0 <= now - record.made <= LIFETIME
    )
