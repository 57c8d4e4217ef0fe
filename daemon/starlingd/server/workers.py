"""Threads for calls that block: one bounded pool for each dependency, so that a dead one starves only itself.

Waiting for a push holds no thread; only a call that is under way does. A pool that is full says so at once.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class Pool:
    """At most ``threads`` calls at a time and ``queue`` waiting; ``name`` is the port's, for ``Unavailable``."""

    def __init__(self, name: str, threads: int, queue: int) -> None:
        self.name = name
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._places = threading.BoundedSemaphore(threads + queue)

    async def run(self, wait: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``call`` in a thread and hand on what it returns or raises.

        Raises Unavailable (busy) when the pool is full or no answer came within ``wait`` seconds; a call that has
        begun then runs to its own time-out, unheard.
        """
        if not self._places.acquire(blocking=False):
            raise Unavailable(self.name, Fault.BUSY, "every worker and every place in the queue is taken")
        try:
            future = self._executor.submit(call, *args, **kwargs)
        except RuntimeError:
            self._places.release()
            raise Unavailable(self.name, Fault.BUSY, "shutting down") from None
        future.add_done_callback(lambda _: self._places.release())
        try:
            async with asyncio.timeout(wait):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise Unavailable(self.name, Fault.BUSY, f"no answer from a worker within {wait:.1f} s") from None

    def close(self) -> None:
        """Take no more calls and drop those that have not begun."""
        self._executor.shutdown(wait=False, cancel_futures=True)
