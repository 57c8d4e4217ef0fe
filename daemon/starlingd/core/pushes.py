"""Pushes: what the phone shows, when a poll is due, and how many a user may cause.

The ledger is a bounded table that the server holds; the time is handed in. Known and unknown users are treated alike,
so that limits tell nobody which names exist (SEMANTICS §11, push_limit).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import TYPE_CHECKING

from starlingd.core.model import NotStarted, Push, is_stranger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from starlingd.core.model import Login
    from starlingd.core.rules import Rules

SCHEDULE = (1, 1, 2, 2, 3, 5, 5, 8)
"""Seconds between polls when rest_poll_interval is unset; the last one repeats (DESIGN §6)."""
DENIALS_ALLOWED = 1
"""One denial may be a slip; the second in the window stops pushes."""
UNKNOWN = "N/A"
LONGEST_PENDING = 900.0
"""Seconds; longer than any login lasts, so a place still taken then is one that a bug never gave back."""
MOST_USERS = 20_000
"""Names of users in the ledger at most, and names of strangers, whatever an attacker sends."""


def pauses(poll_interval: int | None) -> Iterator[float]:
    """Tell the pauses before each poll, in seconds, without end."""
    if poll_interval is not None:
        return repeat(float(poll_interval))
    return chain(map(float, SCHEDULE), repeat(float(SCHEDULE[-1])))


def describe(login: Login, rules: Rules, gateway: str, number: str, lifetime: int) -> Push:
    """Make what the phone shows; ``number`` is empty where the user sees no prompt that holds it."""
    values = {
        "gateway": gateway,
        "user": login.user,
        "client_ip": login.client_ip or UNKNOWN,
        "service": login.service,
        "number": number,
    }
    # One pass over the message: a user name that looks like a field stays a user name.
    message = re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), rules.push_message)
    details = (
        ("Gateway", gateway),
        ("Gateway User", login.user),
        ("Client IP", login.client_ip or UNKNOWN),
        ("Protocol", login.service or UNKNOWN),
        ("Number", number),
    )
    return Push(message, tuple((label, text) for label, text in details if text), lifetime)


@dataclass(slots=True)
class _Entry:
    pending_since: float | None = None
    failures: list[tuple[float, bool]] = field(default_factory=list)
    """(monotonic time, denied), oldest first."""

    def settle(self, now: float, window: float) -> None:
        """Forget what the window no longer holds; a place that was never given back becomes an unanswered push."""
        if self.pending_since is not None and now - self.pending_since > LONGEST_PENDING:
            self.failures.append((self.pending_since, False))
            self.pending_since = None
        self.failures = [failure for failure in self.failures if failure[0] > now - window]


class PushLedger:
    """Who has a push pending, and whose pushes went unanswered or were denied. Times are seconds of one clock."""

    def __init__(self, failures: Mapping[str, list[tuple[float, bool]]]) -> None:
        self._entries = {user: _Entry(failures=sorted(list_)) for user, list_ in failures.items()}

    def reserve(self, user: str, rules: Rules, now: float) -> NotStarted | None:
        """Take the user's one place for a pending push; None when it was taken, else why not."""
        entry = self._entries.get(user) or _Entry()
        entry.settle(now, rules.push_window)
        if entry.pending_since is not None:
            return NotStarted.PENDING
        denials = sum(denied for _, denied in entry.failures)
        if len(entry.failures) >= rules.push_limit or denials > DENIALS_ALLOWED:
            return NotStarted.LIMIT
        if user not in self._entries and self._is_full(user):
            self._make_room(now, rules.push_window)
        if user not in self._entries and is_stranger(user) and self._is_full(user):
            self._forget_oldest_stranger()  # to be refused would tell him that he is one
        if user not in self._entries and self._is_full(user):
            return NotStarted.LIMIT  # fail secure: a flood of names must not lift anybody's limit
        entry.pending_since = now
        self._entries[user] = entry
        return None

    def release(self, user: str) -> None:
        """Give the place back without counting: no push reached the phone."""
        entry = self._entries.get(user)
        if entry is not None:
            entry.pending_since = None
            if not entry.failures:
                del self._entries[user]

    def approve(self, user: str) -> None:
        """Give the place back after an approval, which ends the series of failures."""
        self._entries.pop(user, None)

    def fail(self, user: str, now: float, *, denied: bool) -> None:
        """Give the place back after a denial, or after a push that nobody answered."""
        entry = self._entries.setdefault(user, _Entry())
        entry.pending_since = None
        entry.failures.append((now, denied))

    def _is_full(self, user: str) -> bool:
        """Tell whether there is no room for one more user, or stranger: those must not take the room of these."""
        if len(self._entries) < MOST_USERS:
            return False
        return sum(is_stranger(other) == is_stranger(user) for other in self._entries) >= MOST_USERS

    def _forget_oldest_stranger(self) -> None:
        for user, entry in self._entries.items():
            if is_stranger(user) and entry.pending_since is None:
                del self._entries[user]
                return

    def _make_room(self, now: float, window: float) -> None:
        for user, entry in list(self._entries.items()):
            entry.settle(now, window)
            if entry.pending_since is None and not entry.failures:
                del self._entries[user]
