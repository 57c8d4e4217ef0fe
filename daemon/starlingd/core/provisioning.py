"""The provisioning loop's arithmetic: who is to be enrolled, who has changed, who has left (SEMANTICS §8, §11).

Plain functions of one page of people at a time, so that a directory of any size needs the memory of a page. Nothing
here may do I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from starlingd.core.enrolment import judge
from starlingd.core.rules import OnChange

if TYPE_CHECKING:
    from starlingd.core.enrolment import Contact, Enrolment
    from starlingd.core.rules import Provisioning


class OnLeaving(StrEnum):
    """What becomes of somebody who is in none of the groups any more; the service knows no way to delete."""

    KEEP = "keep"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Loop:
    """How the loop goes; times in seconds. ``rate_limit`` is calls of the service in a minute."""

    groups: tuple[str, ...]
    interval: float = 3600.0
    rate_limit: int = 60
    on_leaving: OnLeaving = OnLeaving.KEEP
    dry_run: bool = False
    max_errors: int = 10
    max_shrink: float = 0.2


class Action(StrEnum):
    """What is to be done about a person."""

    NOTHING = "nothing"
    CREATE = "create"
    CHANGED = "changed"
    """Number or address are not those of the enrolment; only reported, unless on_change says reprovision."""
    UNUSABLE = "unusable"
    """Number or address are missing or cannot be used."""
    LEFT = "left"
    """Is in none of the groups any more; only reported, unless on_leaving says block."""
    BLOCK = "block"
    UNBLOCK = "unblock"


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody in the groups: the account's name, and the contact or what is wrong with it."""

    user: str
    contact: Contact | None
    flaw: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """What is to be done about one person, and why; never a number or an address."""

    user: str
    action: Action
    note: str = ""

    def told(self) -> dict[str, str]:
        """Tell it as JSON."""
        return {"user": self.user, "action": self.action, "note": self.note}


@dataclass(slots=True)
class Tally:
    """How far a run is."""

    members: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, action: Action) -> None:
        """Count one person."""
        self.counts[action] = self.counts.get(action, 0) + 1


def compare(member: Member, kept: Enrolment | None, rule: Provisioning, now: float) -> Difference:
    """Tell what is to be done about somebody who is in the groups, at wall-clock time ``now``."""
    if member.contact is None:
        return Difference(member.user, Action.UNUSABLE, member.flaw)
    if kept is None:
        return Difference(member.user, Action.CREATE)
    if (kept.phone, kept.email) != (member.contact.phone, member.contact.email):
        return Difference(member.user, Action.CHANGED, "number or address changed since enrolment")
    if kept.blocked:
        return Difference(member.user, Action.UNBLOCK, "is in the groups again")
    if judge(kept, member.contact, rule, now) is None:
        return Difference(member.user, Action.CREATE, "the service did not know the id")
    return Difference(member.user, Action.NOTHING)


def is_work(action: Action, rule: Provisioning) -> bool:
    """Tell whether a run has to do something about a member."""
    if action is Action.CHANGED:
        return rule.on_change is OnChange.REPROVISION
    return action in {Action.CREATE, Action.UNBLOCK}


def looks_wrong(members: int, before: int, leaving: int, max_shrink: float) -> str:
    """Tell why a directory's answer must not be acted upon; empty when it may be.

    ``before`` is how many members the last complete run saw; 0 when there was none. ``leaving`` is how many people
    would be blocked: a group that has as many members as ever, but others, is as wrong as one that has none.
    """
    if not members:
        return "the directory says that nobody is in the groups"
    if members < before * (1 - max_shrink):
        return f"the directory says that of {before} members only {members} are left"
    if before and leaving > before * max_shrink:
        return f"the directory says that of {before} members {leaving} have left"
    return ""
