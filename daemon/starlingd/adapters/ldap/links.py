"""The connections to all configured servers: who is asked, in which order, and what happens when one fails.

A bounded number of links; one that is idle is used again, one that the server dropped is opened anew. Addresses are
tried in the configured order; one that failed comes last for a while, then gets its place back. Each try gets an equal
share of the time that is left, so that a server that swallows everything leaves time for the next. It must never ask
twice what was answered, and no lock is held across the network.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from starlingd.adapters.ldap.budget import PORT, Budget, Outage
from starlingd.adapters.ldap.link import open_link
from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from starlingd.adapters.ldap.line import Address, Line
    from starlingd.adapters.ldap.link import Link
    from starlingd.core.rules import DirectoryPolicy

T = TypeVar("T")

MAX_IDLE = 30.0
"""Seconds after which an idle link is not trusted any more: firewalls forget quiet ones without a word."""

HOLD = 30.0
"""Seconds for which an address that failed comes last."""


class Links:
    """The links to one directory. Safe from any thread."""

    def __init__(self, addresses: Sequence[Address], line: Line, policy: DirectoryPolicy) -> None:
        self._addresses = tuple(addresses)
        self._line = line
        self._policy = policy
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(policy.pool_size)
        self._idle: dict[Address, list[Link]] = defaultdict(list)
        self._failed: dict[Address, float] = {}
        self._closed = False

    @contextmanager
    def asking(self, work: Callable[[Link], T], budget: Budget) -> Iterator[tuple[T, Link]]:
        """Do ``work`` on some link, and hold that link for more of it meanwhile; raises Unavailable.

        ``work`` may be done anew on another link when one fails: it only asks.
        """
        if not self._places.acquire(timeout=budget.left()):
            raise Unavailable(PORT, Fault.BUSY, "every connection is in use")
        try:
            answer, link = self._try_all(work, budget)
            try:
                yield answer, link
            except BaseException:
                link.close()
                raise
            self._keep(link)
        finally:
            self._places.release()

    def ask(self, work: Callable[[Link], T], budget: Budget) -> T:
        """Do ``work`` on some link; raises Unavailable."""
        with self.asking(work, budget) as (answer, _):
            return answer

    def close(self) -> None:
        """Close what is idle, and what is in use as soon as it is not."""
        with self._lock:
            self._closed = True
            idle = [link for links in self._idle.values() for link in links]
            self._idle.clear()
        for link in idle:
            link.close()

    def _try_all(self, work: Callable[[Link], T], budget: Budget) -> tuple[T, Link]:
        order = self._order()
        failure = Outage("no address")
        for index, address in enumerate(order):
            try:
                return self._try(address, work, budget.share(len(order) - index))
            except Outage as outage:
                with self._lock:
                    self._failed[address] = time.monotonic()
                failure = outage
        raise failure

    def _order(self) -> list[Address]:
        """Tell the addresses in the order to try them: those that failed lately come last, the earliest first."""
        now = time.monotonic()
        with self._lock:
            held = {address: at for address, at in self._failed.items() if now - at < HOLD}
        return sorted(self._addresses, key=lambda address: held.get(address, 0.0))

    def _try(self, address: Address, work: Callable[[Link], T], budget: Budget) -> tuple[T, Link]:
        kept = self._take(address)
        if kept is not None:
            try:
                return _done(kept, work, budget)
            except Outage:
                # Most likely the server has dropped its connections, all of them: say again on a new one who we are.
                self._drop(address)
        answered = _done(open_link(address, self._line, self._policy, budget), work, budget)
        with self._lock:
            self._failed.pop(address, None)
        return answered

    def _take(self, address: Address) -> Link | None:
        """Take an idle link that is good still; close those that are not."""
        while True:
            with self._lock:
                links = self._idle[address]
                link = links.pop() if links else None
            if link is None or (time.monotonic() - link.last_used < MAX_IDLE and link.is_fresh()):
                return link
            link.close()

    def _drop(self, address: Address) -> None:
        with self._lock:
            links = self._idle.pop(address, [])
        for link in links:
            link.close()

    def _keep(self, link: Link) -> None:
        now = link.last_used = time.monotonic()
        with self._lock:
            kept = [] if self._closed or link.broken else [link]
            gone = [old for links in self._idle.values() for old in links if now - old.last_used >= MAX_IDLE]
            for old in gone:
                self._idle[old.address].remove(old)
            self._idle[link.address] += kept
        for each in gone if kept else [*gone, link]:
            each.close()


def _done(link: Link, work: Callable[[Link], T], budget: Budget) -> tuple[T, Link]:
    with link.using(budget):
        return work(link), link
