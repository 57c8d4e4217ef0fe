"""Wrong codes, counted per user and address, and per user and day (SEMANTICS §11; max_failures, failure_window).

No more guesses are under way at a time than may fail before the lock, so that parallel guesses all count and parallel
logins with right codes all get in. Known and unknown users are counted alike. The table is bounded; what does not fit
is locked, never let through; only strangers, who are let in by no code, make room for one another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from starlingd.core.model import is_stranger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlingd.core.rules import Rules

DAY = 86400.0
DAILY_CEILING = 50
"""Wrong codes of one user in a day, from wherever; then only ``starlingctl unlock`` or grace helps."""
LONGEST_WAIT = 3600.0
Failure = tuple[str, str, float, bool]
"""A wrong code: canonical user, place, time, and whether a right one came after it (then only the day counts it)."""
MOST_PLACES = 50_000
"""Pairs of user and address in the table at most, of users and of strangers each: made-up names lock nobody."""


class Admission(Enum):
    """Whether a guess may be checked now."""

    GO = "go"
    WAIT = "wait"
    """Not before another guess of this user has come to its end."""
    LOCKED = "locked"


@dataclass(slots=True)
class _Place:
    """What a user did at one place: when wrong codes came, those no right one has followed, and guesses under way."""

    times: list[float] = field(default_factory=list)
    standing: list[float] = field(default_factory=list)
    under_way: int = 0

    def add(self, at: float) -> None:
        self.times.append(at)
        self.standing.append(at)

    def since(self, time: float) -> list[float]:
        """Tell the wrong codes after ``time`` that no right one has followed."""
        return [at for at in self.standing if at > time]

    def forget_before(self, time: float) -> None:
        self.times, self.standing = [at for at in self.times if at > time], self.since(time)


class Failures:
    """The failures of the last day. Times are seconds of one clock that never goes back.

    ``user`` is everywhere the canonical name, or what stands for a stranger; ``address`` that of the login, or its tty.
    """

    def __init__(self, known: Iterable[Failure] = ()) -> None:
        self._users: dict[str, dict[str, _Place]] = {}
        self._places = 0
        """How many there are of users."""
        self._strangers: dict[tuple[str, str], None] = {}
        """Those of strangers, the oldest first."""
        for user, address, at, cleared in sorted(known, key=lambda failure: failure[2]):
            place = self._place(user, address)
            place.add(at)
            if cleared:
                place.standing.clear()

    def locked_until(self, user: str, address: str, rules: Rules, now: float) -> float | None:
        """Tell until when this user must wait at this address; None when not at all."""
        places = self._users.get(user, {})
        today = sorted(at for place in places.values() for at in place.times if at > now - DAY)
        if len(today) >= DAILY_CEILING:
            return today[-DAILY_CEILING] + DAY
        if address not in places:
            is_full = self._places >= MOST_PLACES and not is_stranger(user)
            return now + rules.failure_window if is_full else None
        return _wait_ends(places[address].since(now - DAY), rules, now)

    def begin(self, user: str, address: str, rules: Rules, now: float) -> Admission:
        """Admit a guess that is about to be checked; one that goes must be followed by ``fail`` or ``release``."""
        if self.locked_until(user, address, rules, now) is not None:
            return Admission.LOCKED
        places = self._users.get(user, {})
        place = places.get(address, _Place())
        here = rules.max_failures - len(place.since(now - rules.failure_window))
        today = DAILY_CEILING - sum(at > now - DAY for other in places.values() for at in other.times)
        if place.under_way >= max(1, here) or sum(other.under_way for other in places.values()) >= today:
            return Admission.WAIT
        self._place(user, address).under_way += 1
        return Admission.GO

    def fail(self, user: str, address: str, now: float) -> None:
        """End a guess that was wrong, or that nobody waited for."""
        place = self._place(user, address)
        place.under_way -= 1
        place.add(now)

    def release(self, user: str, address: str) -> None:
        """End a guess of which nobody could tell whether it was wrong."""
        self._place(user, address).under_way -= 1
        self._drop_if_empty(user, address)

    def succeed(self, user: str, address: str) -> bool:
        """End a right guess: the count at this address starts anew, the day's ceiling stays. Tell if there was one."""
        place = self._place(user, address)
        place.under_way -= 1
        place.standing.clear()
        counted = bool(place.times)
        self._drop_if_empty(user, address)
        return counted

    def unlock(self, user: str) -> bool:
        """Forget a user's failures everywhere; tell whether there were any."""
        places = self._users.get(user, {})
        counted = any(place.times for place in places.values())
        for address in list(places):
            places[address].forget_before(float("inf"))
            self._drop_if_empty(user, address)
        return counted

    def prune(self, now: float) -> None:
        """Forget what is older than a day."""
        for user, places in list(self._users.items()):
            for address in list(places):
                places[address].forget_before(now - DAY)
                self._drop_if_empty(user, address)

    def _place(self, user: str, address: str) -> _Place:
        places = self._users.setdefault(user, {})
        if address not in places:
            places[address] = _Place()
            if is_stranger(user):
                self._strangers[user, address] = None
                self._forget_oldest_stranger()
            else:
                self._places += 1
        return places[address]

    def _forget_oldest_stranger(self) -> None:
        """Make room: a stranger who is refused for a full table would learn that he is one."""
        if len(self._strangers) <= MOST_PLACES:
            return
        for user, address in self._strangers:
            if self._users[user][address].under_way <= 0:
                self._drop(user, address)
                return

    def _drop_if_empty(self, user: str, address: str) -> None:
        place = self._users[user][address]
        if not place.times and place.under_way <= 0:
            self._drop(user, address)

    def _drop(self, user: str, address: str) -> None:
        del self._users[user][address]
        if is_stranger(user):
            del self._strangers[user, address]
        else:
            self._places -= 1
        if not self._users[user]:
            del self._users[user]


def _wait_ends(times: list[float], rules: Rules, now: float) -> float | None:
    """Tell when the wait after the newest failures ends; each full series of max_failures doubles the wait."""
    series = len(times) // rules.max_failures
    newest = times[-rules.max_failures :]
    if not series or newest[-1] - newest[0] >= rules.failure_window:
        return None
    ends = newest[-1] + min(LONGEST_WAIT, rules.failure_window * 2.0 ** (series - 1))
    return ends if ends > now else None
