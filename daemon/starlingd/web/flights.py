"""Work that many threads want at once and only one should do: a new token, a name's addresses.

The work runs in a thread of its own, so that the patience of the login that happened to ask first does not decide for
the others, and so that getaddrinfo, which knows no time-out, delays nobody beyond theirs. It must never hold its lock
while the work runs.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class Flights:
    """At most one run for each key at a time, shared by all who ask meanwhile. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, tuple[Future[Any], threading.Thread]] = {}

    def share(self, key: Hashable, work: Callable[[], Any], seconds: float) -> Any:  # noqa: ANN401  work decides
        """Give the result of the run for ``key``, starting one if there is none.

        Raises what the run raises (the same object in every waiting thread: do not let it travel on), or TimeoutError
        after ``seconds``; the run goes on for the others.
        """
        with self._lock:
            flight = self._flights.get(key)
            if flight is None or flight[0].done():
                flight = self._flights[key] = self._start(key, work)
        return flight[0].result(timeout=seconds)

    def close(self) -> None:
        """Wait for the runs in progress to end."""
        with self._lock:
            threads = [thread for _, thread in self._flights.values()]
        for thread in threads:
            thread.join()

    def _start(self, key: Hashable, work: Callable[[], Any]) -> tuple[Future[Any], threading.Thread]:
        future: Future[Any] = Future()
        # A daemon thread: a resolver that hangs must not keep the process from stopping.
        thread = threading.Thread(target=_run, args=(work, future), name=f"starling {key}", daemon=True)
        thread.start()
        return future, thread


def _run(work: Callable[[], Any], future: Future[Any]) -> None:
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001  handed to everyone who waits
        future.set_exception(error)
    else:
        future.set_result(result)
