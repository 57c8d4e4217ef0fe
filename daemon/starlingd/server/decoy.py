"""Logins about nobody: they take the time that the service took lately, and fail as it failed lately.

So neither the clock nor an outage tells a stranger which names exist (FIELD-FACTS 14). Nothing here may call anybody.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TYPICAL_SECONDS = 0.2
"""What a call is taken to last while none was seen lately."""
MEMORY = 120.0
"""Seconds after which a call says nothing any more about the next one."""

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds up to which calls are counted together, for metrics; there is one more for those that took longer."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How the last real call went, and the monotonic time at which it ended."""

    ended: float
    seconds: float = TYPICAL_SECONDS
    outage: Unavailable | None = None


@dataclass(slots=True)
class Totals:
    """All calls of one kind since the start."""

    number: int = 0
    seconds: float = 0.0
    errors: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))

    def add(self, seconds: float, *, failed: bool) -> None:
        """Count a call."""
        self.number += 1
        self.seconds += seconds
        self.errors += failed
        self.buckets[bisect_left(BUCKETS, seconds)] += 1


class Decoy:
    """Remembers the last real call of each kind (``verify``, ``start_push``, ``check_push``) and replays it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, Weather] = {}
        self.totals: dict[str, Totals] = {}

    @contextmanager
    def observe(self, kind: str) -> Iterator[None]:
        """Watch a real call."""
        began = self._clock()
        try:
            yield
        except Unavailable as outage:
            # Our own full pool says nothing about the next call of somebody else.
            self._note(kind, began, None if outage.fault is Fault.BUSY else outage)
            raise
        self._note(kind, began, None)

    def last(self) -> Weather | None:
        """Tell how the last call of any kind went."""
        return max(self._last.values(), key=lambda weather: weather.ended, default=None)

    async def replay(self, kind: str) -> None:
        """Take as long as the last real call of this kind did, and fail as it did."""
        weather = self._last.get(kind)
        if weather is None or self._clock() - weather.ended > MEMORY:
            weather = Weather(self._clock())
        await asyncio.sleep(weather.seconds)
        if weather.outage is not None:
            outage = weather.outage
            raise Unavailable(outage.port, outage.fault, "as the last real call", outage.retry_after)

    def _note(self, kind: str, began: float, outage: Unavailable | None) -> None:
        now = self._clock()
        self._last[kind] = Weather(now, now - began, outage)
        self.totals.setdefault(kind, Totals()).add(now - began, failed=outage is not None)
