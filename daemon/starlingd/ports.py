"""What the core needs from outside, and the one way in which the outside may fail.

An adapter answers with the core's values; a denial is such a value. Whatever keeps it from answering is an
``Unavailable``, raised at exactly one place of the adapter. Ports never say how an answer is obtained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from starlingd.core.model import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlingd.core.model import Account, Check, NotStarted, Push, PushStatus, Started
    from starlingd.core.records import Record

__all__ = ["Accounts", "AuditLog", "Fault", "SecondFactor", "Store", "Unavailable"]


class SecondFactor(Protocol):
    """A provider of the second factor. Calls block; ``timeout`` is the most they may take in all, in seconds."""

    def verify(self, identity: str, code: str, timeout: float) -> Check:
        """Check a code, once; raises Unavailable."""

    def start_push(self, identity: str, push: Push, timeout: float) -> Started | NotStarted:
        """Send a push to the phone; raises Unavailable."""

    def check_push(self, request: str, timeout: float) -> PushStatus:
        """Ask how a push stands; raises Unavailable."""


class Accounts(Protocol):
    """The account database of the host (NSS)."""

    def look_up(self, name: str) -> Account | None:
        """Find an account; None when there certainly is none. Raises Unavailable when NSS could not tell."""


class Store(Protocol):
    """The daemon's durable state. Every method is one transaction, on disk when it returns. Raises Unavailable."""

    def save_record(self, record: Record) -> None:
        """Keep the record of a login that was decided, until it is consumed or forgotten."""

    def forget_records(self, login_ids: Iterable[str]) -> None:
        """Forget records; unknown ids do no harm."""

    def records(self) -> list[Record]:
        """All records kept, in no order."""

    def add_push_failure(self, user: str, at: float, *, denied: bool) -> None:
        """Note that a push to the canonical ``user`` was denied or left unanswered at wall-clock time ``at``."""

    def clear_push_failures(self, user: str) -> None:
        """Forget a user's push failures (an approval ends the series)."""

    def push_failures(self, since: float) -> Mapping[str, list[tuple[float, bool]]]:
        """Tell each canonical user's push failures younger than ``since``: (wall-clock time, denied)."""


class AuditLog(Protocol):
    """Where audit events go. It must not raise: a log that cannot be written is its own last resort."""

    def write(self, message: str, fields: Mapping[str, str], *, warning: bool = False) -> None:
        """Write one event: a sentence for people, ``STARLING_*`` fields for programs (SEMANTICS §12)."""
