"""What the core needs from outside, and the one way in which the outside may fail.

An adapter answers with the core's values; a denial is such a value. Whatever keeps it from answering is an
``Unavailable``, raised at exactly one place of the adapter. Ports never say how an answer is obtained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from starlingd.core.model import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from starlingd.core.directory import Membership, Person
    from starlingd.core.enrolment import Contact, Enrolment, LoopState
    from starlingd.core.failures import Failure
    from starlingd.core.grace import Entry, Key, Miss, Moment
    from starlingd.core.localcodes import HelpdeskCode, Recovery
    from starlingd.core.model import Account, Check, NotStarted, Push, PushStatus, Started
    from starlingd.core.otp import Over, Token
    from starlingd.core.records import Lease, Record
    from starlingd.core.rules import Grace

__all__ = [
    "Accounts",
    "AuditLog",
    "Directory",
    "Fault",
    "Patterns",
    "Phones",
    "SecondFactor",
    "Store",
    "Unavailable",
    "Vault",
]


class SecondFactor(Protocol):
    """A provider of the second factor. Calls block; ``timeout`` is the most they may take in all, in seconds."""

    def verify(self, identity: str, code: str, timeout: float) -> Check:
        """Check a code, once; raises Unavailable."""

    def start_push(self, identity: str, push: Push, timeout: float) -> Started | NotStarted:
        """Send a push to the phone; raises Unavailable."""

    def check_push(self, request: str, timeout: float) -> PushStatus:
        """Ask how a push stands; raises Unavailable."""

    def enrol(self, contact: Contact, timeout: float) -> str | None:
        """Create a user, or find who has this contact, and tell the id; None when the service takes no such contact.

        Raises Unavailable.
        """

    def probe_token(self, timeout: float) -> None:
        """Ask for a token as no login caused it; raises Unavailable as the calls of logins do."""


class Accounts(Protocol):
    """The account database of the host (NSS)."""

    def look_up(self, name: str) -> Account | None:
        """Find an account; None when there certainly is none. Raises Unavailable when NSS could not tell."""


class Directory(Protocol):
    """People and groups, as LDAP or Active Directory knows them. Calls block and raise Unavailable.

    ``timeout`` is the most a call may take in all, in seconds; the directory's own time-out holds as well. More than
    one entry where one is meant is an outage too: nobody is exempt, mapped or enrolled by an ambiguous answer.
    """

    def person(self, user: str, attributes: Sequence[str], timeout: float) -> Person | None:
        """Find the one entry of ``user``, with these attributes; None when there certainly is none."""

    def membership(self, person: Person, groups: Sequence[str], timeout: float) -> Membership:
        """Tell which of ``groups`` (names, or DNs where there is a ``=``) the person is in, nested groups included."""

    def people(self, groups: Sequence[str], attributes: Sequence[str], page: int) -> Iterator[tuple[Person, ...]]:
        """Go through everybody in ``groups``, nested groups included, at most ``page`` people at a time, or none.

        Each step lasts no longer than the directory's time-out. A group that does not exist raises Unavailable. The
        iterator is to be closed, or used up; when it raises, what it gave so far is not everybody.
        """


class Store(Protocol):
    """The daemon's durable state. Every method is one transaction, on disk when it returns. Raises Unavailable."""

    def save_record(self, record: Record) -> None:
        """Keep the record of a login that was decided, until it is consumed or forgotten."""

    def forget_records(self, login_ids: Iterable[str]) -> None:
        """Forget records, and give back the reuses that these logins took; unknown ids do no harm."""

    def records(self) -> list[Record]:
        """All records kept, in no order."""

    def give_back_orphans(self) -> None:
        """Give back the reuses of logins that have no record: the daemon died in between."""

    def open_session(self, lease: Lease, earned: tuple[Key, Entry] | None) -> None:
        """Turn the record of ``lease.login_id`` into a session, and write the grace entry it earned, if any."""

    def close_sessions(self, login_ids: Iterable[str]) -> None:
        """Forget sessions; unknown ids do no harm."""

    def sessions(self) -> list[Lease]:
        """All sessions kept, in no order."""

    def reuse(self, login_id: str, key: Key, basis: str, rule: Grace, now: Moment) -> Entry | Miss:
        """Judge the entry under ``key`` (``grace.judge``) and, on a hit, take one reuse for the login ``login_id``."""

    def grace_entry(self, key: Key) -> Entry | None:
        """Tell one grace entry; one that cannot be read is none."""

    def grace_entries(self) -> list[tuple[Key, Entry]]:
        """All grace entries, ordered by their keys."""

    def forget_grace(self, keys: Iterable[Key]) -> None:
        """Forget grace entries; unknown keys do no harm."""

    def forget_grace_of(self, user: str) -> None:
        """Forget all grace entries of a user."""

    def forget_grace_before(self, wall: float) -> None:
        """Forget the grace entries whose authentication is older than wall-clock time ``wall``."""

    def add_push_failure(self, user: str, at: float, *, denied: bool) -> None:
        """Note that a push to the canonical ``user`` was denied or left unanswered at wall-clock time ``at``."""

    def clear_push_failures(self, user: str) -> None:
        """Forget a user's push failures (an approval ends the series)."""

    def push_failures(self, since: float) -> Mapping[str, list[tuple[float, bool]]]:
        """Tell each canonical user's push failures younger than ``since``: (wall-clock time, denied)."""

    def add_failure(self, user: str, place: str, at: float) -> None:
        """Note a wrong code of the canonical ``user`` from ``place`` at wall-clock time ``at``."""

    def clear_failures(self, user: str, place: str) -> None:
        """Let a user's wrong codes from a place count for the day's ceiling only: a right one came."""

    def forget_failures(self, user: str) -> None:
        """Forget a user's wrong codes."""

    def failures(self, since: float) -> list[Failure]:
        """Tell the wrong codes younger than ``since``, oldest first, times by the wall clock."""

    def enrolment(self, user: str) -> Enrolment | None:
        """Tell how the canonical ``user`` is enrolled with the service."""

    def enrolments(self) -> list[Enrolment]:
        """All enrolments, ordered by user."""

    def save_enrolment(self, enrolment: Enrolment) -> str:
        """Keep an enrolment in place of the user's old one, unless its id is somebody else's; tell whose it is."""

    def forget_enrolment(self, user: str) -> None:
        """Forget how somebody is enrolled."""

    def had_second_factor(self, user: str) -> bool:
        """Tell whether somebody ever had an id, or opened a session with a fresh second factor here."""

    def enrolments_of(self, users: Iterable[str]) -> Mapping[str, Enrolment]:
        """Tell how these users are enrolled, by user; who is not is left out."""

    def mark_seen(self, users: Iterable[str], at: float) -> None:
        """Note that the loop saw these users in its groups; who is not enrolled is left out."""

    def not_seen_since(self, at: float) -> list[str]:
        """Tell who was seen once, but not since ``at``, and is not blocked yet; ordered."""

    def block(self, users: Iterable[str], *, blocked: bool) -> None:
        """Block these users' enrolments, or block them no more."""

    def provisioning_state(self) -> LoopState:
        """Tell what the loop remembers."""

    def save_provisioning_state(self, state: LoopState) -> None:
        """Keep what the loop remembers."""

    def token(self, user: str) -> Token | None:
        """Tell the authenticator app of the canonical ``user``."""

    def tokens(self) -> list[Token]:
        """All authenticator apps, ordered by user."""

    def save_token(self, token: Token, over: Over) -> bool:
        """Keep a user's app; False when there is already what it may not take the place of, which stays."""

    def forget_token(self, user: str) -> bool:
        """Forget a user's app; tell whether there was one."""

    def use_token(self, user: str, judge: Callable[[Token], tuple[Check, Token]]) -> Check:
        """Have ``judge`` check a code with the user's app, and keep the app as it is then; without one NOT_ENROLLED.

        What ``judge`` raises is raised, and nothing is kept.
        """

    def reseal_tokens(self, seal: Callable[[Token], Token], after: str, most: int) -> list[str]:
        """Replace the apps of the next ``most`` users behind ``after`` by what ``seal`` makes of them, all or none.

        Tell those users, in order. What ``seal`` raises is raised, and nothing is replaced.
        """

    def recovery(self, user: str) -> Recovery | None:
        """Tell what is kept of a user's recovery codes; None when none is left."""

    def save_recovery(self, user: str, kept: Recovery) -> None:
        """Keep recovery codes in place of the user's old ones; whoever has any ever had a second factor here."""

    def use_recovery(self, user: str, digest: bytes) -> int | None:
        """Use up the recovery code with this hash, and tell how many are left; None when there is no such code."""

    def forget_recovery(self, user: str) -> bool:
        """Forget a user's recovery codes; tell whether there were any."""

    def helpdesk_code(self, user: str) -> HelpdeskCode | None:
        """Tell the helpdesk code that was issued for a user, good or not."""

    def save_helpdesk_code(self, code: HelpdeskCode) -> None:
        """Keep a helpdesk code in place of the user's old one."""

    def forget_helpdesk_code(self, user: str) -> bool:
        """Forget a user's helpdesk code; tell whether there was one."""

    def use_helpdesk_code(self, user: str, digest: bytes) -> HelpdeskCode | None:
        """Use up the user's helpdesk code if its hash is this one, and tell it."""

    def together(self) -> AbstractContextManager[None]:
        """Make the calls within it one transaction: on disk when it ends, or, with Unavailable, not at all."""


class Vault(Protocol):
    """A safe for the secrets of authenticator apps."""

    def seal(self, user: str, secret: bytes) -> bytes:
        """Put a secret into a box that opens for ``user`` only."""

    def open(self, user: str, box: bytes) -> bytes:
        """Take a secret out of its box; raises Unavailable(MISCONFIGURED) when that cannot be."""


class Phones(Protocol):
    """Somebody who can read telephone numbers."""

    def normalise(self, text: str, region: str) -> str | None:
        """Write a number as ``+``, country code and digits; None when it is not unambiguously one.

        ``region`` is the ISO 3166 region that national numbers are of, or empty.
        """


class Patterns(Protocol):
    """A matcher of regular expressions that strangers' input cannot keep busy."""

    def matches(self, pattern: str, text: str) -> bool:
        """Tell whether the pattern matches the whole text; False when finding out takes too long."""


class AuditLog(Protocol):
    """Where audit events go. It must not raise: a log that cannot be written is its own last resort."""

    def write(self, message: str, fields: Mapping[str, str], *, warning: bool = False) -> None:
        """Write one event: a sentence for people, ``STARLING_*`` fields for programs (SEMANTICS §12)."""
