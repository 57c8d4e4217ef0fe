"""Threads for calls that block: one bounded pool for each dependency, so that a dead one starves only itself.

Waiting for a push holds no thread; only a call that is under way does. A pool that is full says so at once.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

P = ParamSpec("P")
T = TypeVar("T")

LARGEST_GROUP = 256
"""Calls that share one transaction at most."""


class Workers(Protocol):
    """Where blocking calls run."""

    name: str
    """The port's, for ``Unavailable``."""

    @property
    def under_way(self) -> int:
        """How many calls wait or run."""

    async def run(self, wait: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``call`` in a thread and hand on what it returns or raises.

        Raises Unavailable (busy) when there is no place, or no answer came within ``wait`` seconds; a call that has
        begun then runs to its own time-out, unheard.
        """

    def close(self) -> None:
        """Take no more calls and drop those that have not begun."""


class Pool:
    """At most ``threads`` calls at a time and ``queue`` waiting; ``name`` is the port's, for ``Unavailable``."""

    def __init__(self, name: str, threads: int, queue: int) -> None:
        self.name = name
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._places = threading.BoundedSemaphore(threads + queue)
        self._under_way = 0

    async def run(self, wait: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call, as Workers say."""
        if not self._places.acquire(blocking=False):
            raise Unavailable(self.name, Fault.BUSY, "every worker and every place in the queue is taken")
        try:
            future = self._executor.submit(call, *args, **kwargs)
        except RuntimeError:
            self._places.release()
            raise Unavailable(self.name, Fault.BUSY, "shutting down") from None
        future.add_done_callback(lambda _: self._places.release())
        self._under_way += 1
        try:
            return await _answer(self.name, asyncio.wrap_future(future), wait)
        finally:
            self._under_way -= 1

    @property
    def under_way(self) -> int:
        """How many calls wait or run."""
        return self._under_way

    def close(self) -> None:
        """Take no more calls and drop those that have not begun."""
        self._executor.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class _Call:
    """A call that waits for the store; its future belongs to ``loop`` and is set there."""

    make: Callable[[], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    failure: Exception | None = None


class GroupingWorker:
    """One thread for the store: calls that wait at the same time share one transaction, and one wait for the disk.

    ``together`` makes that transaction; a call has happened only when it has ended.
    """

    def __init__(self, name: str, waiting: int, together: Callable[[], AbstractContextManager[None]]) -> None:
        self.name = name
        self._together = together
        self._waiting = waiting
        self._queue: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()  # never full for the word that ends it
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()
        self._closed = False

    async def run(self, wait: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call, as Workers say."""
        if self._closed:
            raise Unavailable(self.name, Fault.BUSY, "shutting down")
        if self._queue.qsize() >= self._waiting:
            raise Unavailable(self.name, Fault.BUSY, "every place in the queue is taken")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Call(partial(call, *args, **kwargs), future, loop))
        return await _answer(self.name, future, wait)

    @property
    def under_way(self) -> int:
        """How many calls wait."""
        return self._queue.qsize()

    def close(self) -> None:
        """Take no more calls; those that wait are still done."""
        self._closed = True
        self._queue.put(None)

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            group = [first]
            while len(group) < LARGEST_GROUP:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    self._queue.put(None)
                    break
                group.append(more)
            self._do([call for call in group if not call.future.cancelled()])

    def _do(self, group: list[_Call]) -> None:
        try:
            with self._together():
                for call in group:
                    _make(call)
        except Exception as error:  # noqa: BLE001  nothing of the group is on disk, whatever it was
            for call in group:
                call.result, call.failure = None, error
        for loop in {call.loop for call in group}:
            with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
                loop.call_soon_threadsafe(_deliver, [call for call in group if call.loop is loop])


def _make(call: _Call) -> None:
    try:
        call.result = call.make()
    except Exception as error:  # noqa: BLE001  handed on to whoever waits for this call
        call.failure = error


def _deliver(group: list[_Call]) -> None:
    """Set the futures of a group, on their loop: one wake-up for all."""
    for call in group:
        if call.future.done():
            continue
        if call.failure is None:
            call.future.set_result(call.result)
        else:
            call.future.set_exception(call.failure)


async def _answer(name: str, future: asyncio.Future[T], wait: float) -> T:
    try:
        async with asyncio.timeout(wait):
            return await future
    except TimeoutError:
        outage = Unavailable(name, Fault.BUSY, f"no answer from a worker within {wait:.1f} s")
        outage.sent = True
    raise outage
