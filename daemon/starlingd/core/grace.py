"""The grace period: who was asked lately need not be asked again (SEMANTICS §4).

Pure arithmetic on one entry; the store runs ``judge`` inside the transaction that takes the reuse, so that n reuses
are n however many logins run in parallel. Nothing here may make an entry last longer than promised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from starlingd.core.rules import Bind

if TYPE_CHECKING:
    from starlingd.core.model import Login
    from starlingd.core.rules import Grace


SSHD_TTY = "ssh"
"""sshd's PAM_TTY, which names no terminal."""


class Miss(StrEnum):
    """Why an entry does not help; for the audit log and ``explain``."""

    OFF = "off"
    UNKNOWN_KEY = "the ssh key is not known"
    UNKNOWN_ADDRESS = "the address is not known"
    NO_ENTRY = "no entry"
    OTHER_BASIS = "account or mapping changed"
    CLOCK_WENT_BACK = "the clock went back"
    HARD_TIMEOUT = "hard_timeout"
    SOFT_TIMEOUT = "soft_timeout"
    REUSE_LIMIT = "reuse_limit"


@dataclass(frozen=True, slots=True)
class Moment:
    """One point in time by both clocks: wall-clock seconds, and boot-time seconds of the boot ``boot``."""

    wall: float
    boottime: float
    boot: str


@dataclass(frozen=True, slots=True)
class Key:
    """What an entry is bound to; a part that ``bind`` leaves out is empty."""

    user: str
    client_ip: str
    ssh_key: str
    service: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One remembered authentication: what it rests on, and how often it has helped since (``reuses``)."""

    basis: str
    authenticated: Moment
    used: Moment
    reuses: int = 0


def key_of(login: Login, user: str, rule: Grace) -> Key | Miss:
    """Tell the key of a login's entry, or why it has none. ``user`` is the canonical name."""
    if rule.reuse_limit == 0:
        return Miss.OFF
    if Bind.SSH_KEY in rule.bind and not login.ssh_key:
        return Miss.UNKNOWN_KEY
    # A login on a console has no address; its tty stands in. What sshd calls its tty is the same for everybody.
    place = login.client_ip or (login.tty if login.tty != SSHD_TTY else "")
    if Bind.CLIENT_IP in rule.bind and not place:
        return Miss.UNKNOWN_ADDRESS
    return Key(
        user,
        place if Bind.CLIENT_IP in rule.bind else "",
        login.ssh_key if Bind.SSH_KEY in rule.bind else "",
        login.service if Bind.SERVICE in rule.bind else "",
    )


def judge(  # noqa: PLR0911  one line for each line of SEMANTICS §4
    entry: Entry | None, basis: str, rule: Grace, now: Moment
) -> Entry | Miss:
    """Tell the entry as it is after one more reuse, or why it does not help. Boundaries are inclusive."""
    if rule.reuse_limit == 0:
        return Miss.OFF
    if entry is None:
        return Miss.NO_ENTRY
    if entry.basis != basis:
        return Miss.OTHER_BASIS
    since_authenticated, since_used = age(entry.authenticated, now), age(entry.used, now)
    if since_authenticated is None or since_used is None:
        return Miss.CLOCK_WENT_BACK
    if since_authenticated > rule.hard_timeout:
        return Miss.HARD_TIMEOUT
    if since_used > rule.soft_timeout:
        return Miss.SOFT_TIMEOUT
    if 0 <= rule.reuse_limit <= entry.reuses:
        return Miss.REUSE_LIMIT
    return replace(entry, used=now, reuses=entry.reuses + 1)


def age(then: Moment, now: Moment) -> float | None:
    """Tell the seconds between two moments, the larger of both clocks'; None when the wall clock went back."""
    by_wall = now.wall - then.wall
    if by_wall < 0:
        return None
    by_boottime = now.boottime - then.boottime if now.boot == then.boot else 0.0
    return max(by_wall, by_boottime)
