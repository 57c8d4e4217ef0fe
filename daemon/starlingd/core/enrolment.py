"""Who is enrolled with the service, and how a login may become so (SEMANTICS §8).

The first id of a user is bound to that user, not to the number: whoever can write telephone numbers in the directory
must not be able to move somebody's second factor to another phone. Nothing here may do I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlingd.core.model import Reason
from starlingd.core.rules import OnChange

if TYPE_CHECKING:
    from starlingd.core.rules import Provisioning


@dataclass(frozen=True, slots=True)
class Contact:
    """What the service is told of a person; the number as ``+``, country code and digits."""

    phone: str
    email: str
    display_name: str = ""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A user's id at the service, and the contact it was made with; times are wall-clock seconds.

    ``disowned`` is when the service last did not know the id; 0 when it does.
    """

    user: str
    identity: str
    phone: str
    email: str
    made: float
    disowned: float = 0.0
    seen: float = 0.0
    """When the provisioning loop last saw the user in its groups; 0 for whoever it never saw."""
    blocked: bool = False
    """The loop found that the user has left the groups."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What enrolment says of a login: whom to ask about, or why the login is refused; neither when it has no say.

    ``note`` is for the audit log and names the attribute at fault, never its value. ``is_new`` people have no app yet.
    """

    identity: str = ""
    reason: Reason | None = None
    note: str = ""
    is_new: bool = False


NO_SAY = Enrolled()
BLOCKED = Enrolled(reason=Reason.BLOCKED, note="has left the groups of [provisioning]")
TO_BE_ENROLLED = "(to be enrolled)"
"""In place of the id of somebody who would get one by logging in, where nobody logs in."""


def judge(kept: Enrolment | None, contact: Contact, rule: Provisioning, now: float) -> Enrolled | None:
    """Tell what is known of somebody's enrolment; None when the service has to be asked to create it."""
    if kept is None:
        return None
    if (refusal := _refused(kept, contact, rule)) is not None:
        return refusal
    if (kept.phone, kept.email) != (contact.phone, contact.email):
        return None
    if not kept.disowned:
        return Enrolled(kept.identity)
    if 0 <= now - kept.disowned <= rule.forget_after:
        return Enrolled(reason=Reason.NOT_ENROLLED, note="the service did not know the id lately; try again later")
    return None


def _refused(kept: Enrolment, contact: Contact, rule: Provisioning) -> Enrolled | None:
    if kept.blocked:
        return BLOCKED
    changed = [name for name, old, new in _compared(kept, contact, rule) if old != new]
    if changed and rule.on_change is OnChange.REFUSE:
        return Enrolled(reason=Reason.PROVISIONING_CHANGED, note=f"{' and '.join(changed)} changed since enrolment")
    return None


def _compared(kept: Enrolment, contact: Contact, rule: Provisioning) -> tuple[tuple[str, str, str], ...]:
    return (
        (rule.phone_attribute, kept.phone, contact.phone),
        (rule.email_attribute, kept.email, contact.email),
    )


@dataclass(frozen=True, slots=True)
class LoopState:
    """What the provisioning loop remembers: when its last run started, whether it came to its end, and its members."""

    started: float = 0.0
    complete: bool = True
    members: int = 0
