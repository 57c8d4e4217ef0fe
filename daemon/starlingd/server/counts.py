"""How logins were decided: today for ``starlingctl status``, and since the start for metrics. No names are kept."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlingd.core.model import Verdict


class Counts:
    """Verdicts by outcome and reason; a day is one of the host's time zone."""

    def __init__(self) -> None:
        self.total: Counter[tuple[str, str]] = Counter()
        self.events: Counter[tuple[str, str]] = Counter()
        """Other events than logins, by name and outcome."""
        self._today: Counter[tuple[str, str]] = Counter()
        self._day = time.localtime().tm_yday

    def add(self, verdict: Verdict) -> None:
        """Count a verdict."""
        self.total[verdict.outcome, verdict.reason] += 1
        self._turn()
        self._today[verdict.outcome, verdict.reason] += 1

    def today(self) -> dict[str, dict[str, int]]:
        """Tell today's counts: reason and number by outcome."""
        self._turn()
        told: dict[str, dict[str, int]] = {}
        for (outcome, reason), number in sorted(self._today.items()):
            told.setdefault(outcome, {})[reason] = number
        return told

    def _turn(self) -> None:
        day = time.localtime().tm_yday
        if day != self._day:
            self._day = day
            self._today.clear()
