"""Logins about nobody: they take the time that the service took lately, and fail as it failed lately.

So neither the clock nor an outage tells a stranger which names exist (FIELD-FACTS 14). Nothing here may call anybody.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

TYPICAL_SECONDS = 0.2
"""What a call is taken to last before the first was seen."""
OUR_OWN = frozenset({Fault.BUSY, Fault.RATE_LIMITED})
"""Faults that say nothing about the next call of somebody else."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How the last real call went."""

    seconds: float = TYPICAL_SECONDS
    outage: Unavailable | None = None


class Decoy:
    """Remembers the last real call of each kind (``verify``, ``start_push``) and replays it."""

    def __init__(self) -> None:
        self._last: dict[str, Weather] = {}

    @contextmanager
    def observe(self, kind: str) -> Iterator[None]:
        """Watch a real call."""
        began = time.monotonic()
        try:
            yield
        except Unavailable as outage:
            ours = outage.fault in OUR_OWN
            self._last[kind] = Weather(time.monotonic() - began, None if ours else outage)
            raise
        self._last[kind] = Weather(time.monotonic() - began)

    async def replay(self, kind: str) -> None:
        """Take as long as the last real call of this kind did, and fail as it did."""
        weather = self._last.get(kind, Weather())
        await asyncio.sleep(weather.seconds)
        if weather.outage is not None:
            raise Unavailable(weather.outage.port, weather.outage.fault, "as the last real call")
