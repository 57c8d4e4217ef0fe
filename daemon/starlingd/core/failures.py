"""Wrong codes, counted per user and address, and per user and day (SEMANTICS §11; max_failures, failure_window).

A guess is counted before it is checked and taken back when it was right, so that parallel guesses all count. Known and
unknown users are counted alike. The table is bounded; what does not fit is told to wait, never let through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlingd.core.rules import Rules

DAY = 86400.0
DAILY_CEILING = 50
"""Wrong codes of one user in a day, from wherever; then only ``starlingctl unlock``, a helpdesk code or grace helps."""
LONGEST_WAIT = 3600.0
Failure = tuple[str, str, float, bool]
"""A wrong code: canonical user, place, time, and whether a right one came after it (then only the day counts it)."""
MOST_PLACES = 50_000
"""Pairs of user and address in the table at most."""


class Failures:
    """The failures of the last day. Times are seconds of one clock that never goes back.

    ``user`` is everywhere the canonical name, or what stands for a stranger.
    """

    def __init__(self, known: Iterable[Failure] = ()) -> None:
        self._times: dict[str, dict[str, list[float]]] = {}
        self._cleared: dict[tuple[str, str], float] = {}
        self._places = 0
        for user, address, at, cleared in sorted(known, key=lambda failure: failure[2]):
            self._add(user, address, at)
            if cleared:
                self._cleared[user, address] = at

    def locked_until(self, user: str, address: str, rules: Rules, now: float) -> float | None:
        """Tell until when this user must wait at this address; None when not at all."""
        places = self._times.get(user, {})
        today = sorted(at for times in places.values() for at in times if at > now - DAY)
        if len(today) >= DAILY_CEILING:
            return today[-DAILY_CEILING] + DAY
        if address not in places and self._places >= MOST_PLACES:
            return now + rules.failure_window
        since = max(now - DAY, self._cleared.get((user, address), float("-inf")))
        return _wait_ends([at for at in places.get(address, ()) if at > since], rules, now)

    def begin(self, user: str, address: str, rules: Rules, now: float) -> bool:
        """Count a guess that is about to be checked; False when it must not be checked at all."""
        if self.locked_until(user, address, rules, now) is not None:
            return False
        self._add(user, address, now)
        return True

    def take_back(self, user: str, address: str, at: float) -> None:
        """Uncount the guess that ``begin`` counted at ``at``: it was right, or nobody could tell."""
        times = self._times.get(user, {}).get(address, [])
        if at in times:
            times.remove(at)
            self._drop_if_empty(user, address)

    def succeed(self, user: str, address: str, now: float) -> bool:
        """Start the count at this address anew; the day's ceiling stays. Tell whether there was a count."""
        counted = address in self._times.get(user, {})
        if counted:
            self._cleared[user, address] = now
        return counted

    def unlock(self, user: str) -> bool:
        """Forget a user's failures everywhere; tell whether there were any."""
        places = self._times.pop(user, {})
        self._places -= len(places)
        for address in places:
            self._cleared.pop((user, address), None)
        return bool(places)

    def prune(self, now: float) -> None:
        """Forget what is older than a day."""
        for user, places in list(self._times.items()):
            for address in list(places):
                places[address] = [at for at in places[address] if at > now - DAY]
                self._drop_if_empty(user, address)

    def _add(self, user: str, address: str, at: float) -> None:
        places = self._times.setdefault(user, {})
        if address not in places:
            self._places += 1
        places.setdefault(address, []).append(at)

    def _drop_if_empty(self, user: str, address: str) -> None:
        places = self._times[user]
        if not places[address]:
            del places[address]
            self._cleared.pop((user, address), None)
            self._places -= 1
        if not places:
            del self._times[user]


def _wait_ends(times: list[float], rules: Rules, now: float) -> float | None:
    """Tell when the wait after the newest failures ends; each full series of max_failures doubles the wait."""
    series = len(times) // rules.max_failures
    newest = times[-rules.max_failures :]
    if not series or newest[-1] - newest[0] > rules.failure_window:
        return None
    ends = newest[-1] + min(LONGEST_WAIT, rules.failure_window * 2.0 ** (series - 1))
    return ends if ends > now else None
