"""Which later PAM call belongs to which login (DESIGN §5).

A record is the daemon's memory of one decided login. A later call belongs to it only if the calling process, with its
start time, *is* the recorded caller or the recorded parent, and service, canonical user and login id are equal. Two
parents are never compared: key-only logins run in sshd's monitors, which all have the listener as their parent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlingd.core.grace import Entry, Key, Moment
from starlingd.core.model import Factor

if TYPE_CHECKING:
    from starlingd.core.model import Process, Reason

LIFETIME = 600.0
"""Seconds after ``authenticate`` at which a record ends even if its process lives on."""


FRESH = frozenset({Factor.PUSH, Factor.CODE, Factor.TOTP})
"""The factors whose session writes a grace entry (SEMANTICS §13)."""


@dataclass(frozen=True, slots=True)
class Record:
    """A login that was let in and waits for its session. ``boot`` is the boot id, ``made`` boot-time seconds.

    ``wall`` is the same moment by the wall clock. ``key`` is that of the login's grace entry, if it can have one, and
    ``basis`` what the entry rests on.
    """

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
    wall: float = 0.0
    key: Key | None = None
    basis: str = ""

    @property
    def place(self) -> str:
        """Where the login comes from: its address, or a console's tty."""
        return self.client_ip or self.tty

    @property
    def earned(self) -> tuple[Key, Entry] | None:
        """The grace entry that the session of this login writes, if it writes one."""
        if self.key is None or self.factor not in FRESH:
            return None
        moment = Moment(self.wall, self.made, self.boot)
        return self.key, Entry(self.basis, moment, moment)


@dataclass(frozen=True, slots=True)
class Lease:
    """An open session: ``process`` called open_session, and holds the slot while it lives.

    ``since`` is wall-clock seconds; ``boot`` tells after a reboot that the pid means nothing any more.
    """

    login_id: str
    user: str
    service: str
    client_ip: str
    tty: str
    process: Process
    boot: str
    since: float
    factor: Factor
    reason: Reason

    @property
    def place(self) -> str:
        """Where the session comes from."""
        return self.client_ip or self.tty


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
