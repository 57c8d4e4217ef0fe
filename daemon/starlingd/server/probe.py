"""Whether the service cannot be reached by the daemon itself: what ``fail_mode = safe`` wants to know (SEMANTICS §10).

A login's own failed call proves nothing, since whoever logs in may have caused it. So the daemon asks for a token on
its own account, at most every few seconds however many logins want to know.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from starlingd.ports import SecondFactor
    from starlingd.server.workers import Workers

INTERVAL = 5.0
"""Seconds for which an answer holds."""


class Probe:
    """The last such call."""

    def __init__(self) -> None:
        self._call: asyncio.Task[bool] | None = None
        self._provider: SecondFactor | None = None
        self._ended = float("-inf")

    async def is_unreachable(self, workers: Workers, provider: SecondFactor, seconds: float) -> bool:
        """Tell whether a call of our own fails as unreachable within ``seconds``; anything else it fails with is no."""
        call = self._call
        if (
            call is None
            or self._provider is not provider
            or (call.done() and time.monotonic() - self._ended > INTERVAL)
        ):
            call = self._call = asyncio.get_running_loop().create_task(self._ask(workers, provider, seconds))
            self._provider = provider
        return await asyncio.shield(call)  # whoever hangs up ends no more than their own wait

    async def _ask(self, workers: Workers, provider: SecondFactor, seconds: float) -> bool:
        try:
            return await _fails(workers, provider, seconds)
        finally:
            self._ended = time.monotonic()


async def _fails(workers: Workers, provider: SecondFactor, seconds: float) -> bool:
    try:
        await workers.run(seconds + 1.0, provider.probe_token, seconds)
    except Unavailable as outage:
        return outage.fault is Fault.UNREACHABLE
    return False
