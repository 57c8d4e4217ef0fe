"""Guesses under way: lets no more codes of a user be checked at a time than may be wrong before the lock.

A login that finds all of them taken waits for one to end, at most until its own deadline; so ten parallel guesses
count ten, and ten parallel logins with right codes all get in. It must never let one through that is locked.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from starlingd.core.failures import Admission

if TYPE_CHECKING:
    from starlingd.core.failures import Failures
    from starlingd.core.rules import Rules


class Guesses:
    """The ledger of wrong codes, on the event loop."""

    def __init__(self, failures: Failures) -> None:
        self._failures = failures
        self._ended = asyncio.Event()

    def locked_until(self, user: str, place: str, rules: Rules) -> float | None:
        """Tell until when, in monotonic seconds, this user must wait at this place; None when not at all."""
        return self._failures.locked_until(user, place, rules, time.monotonic())

    async def begin(self, user: str, place: str, rules: Rules) -> bool:
        """Wait until a guess may be checked; False when it must not be."""
        while True:
            admission = self._failures.begin(user, place, rules, time.monotonic())
            if admission is not Admission.WAIT:
                return admission is Admission.GO
            await self._ended.wait()

    def fail(self, user: str, place: str) -> None:
        """End a guess that was wrong, or that nobody waited for."""
        self._failures.fail(user, place, time.monotonic())
        self._wake()

    def release(self, user: str, place: str) -> None:
        """End a guess of which nobody could tell."""
        self._failures.release(user, place)
        self._wake()

    def succeed(self, user: str, place: str) -> bool:
        """End a right guess; tell whether there were wrong ones before."""
        counted = self._failures.succeed(user, place)
        self._wake()
        return counted

    def unlock(self, user: str) -> bool:
        """Forget a user's wrong codes; tell whether there were any."""
        return self._failures.unlock(user)

    def prune(self) -> None:
        """Forget what is older than a day."""
        self._failures.prune(time.monotonic())

    def _wake(self) -> None:
        """Let everybody who waits look again; those who have to wait on do so on a new event."""
        ended, self._ended = self._ended, asyncio.Event()
        ended.set()
