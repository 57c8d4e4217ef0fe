"""The daemon's memory of decided logins and open sessions, and the slots they hold (DESIGN §5).

Kept in the store as well, so that a restart refuses nobody and frees nothing. Memory decides, on the one event loop,
so a record is consumed once and n slots are n; what the store cannot keep is not let in, break-glass excepted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from starlingd.core.model import Reason
from starlingd.core.records import LIFETIME, Lease, belongs
from starlingd.ports import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlingd.core.grace import Key
    from starlingd.core.model import Process
    from starlingd.core.records import Claim, Record
    from starlingd.ports import Store
    from starlingd.server.deaths import Deaths
    from starlingd.server.workers import Workers

STORE_WAIT = 10.0
"""Seconds a login waits for the store at most."""
HOLD = 30.0
"""Seconds for which a login holds its slot after the process that authenticated has ended.

sshd authenticates in a child that ends before the session opens; how the child's parent fares says nothing, since it
may be the listener of all connections. The account hook, which comes last, takes the slot again.
"""
INIT = 1
"""The pid of a parent that has nothing to do with a login."""

log = logging.getLogger("starlingd.logins")


class Full(Exception):  # noqa: N818  it is what it is called
    """The connection limit is reached; ``open`` sessions hold it."""

    def __init__(self, open_: int) -> None:
        super().__init__(f"{open_} open")
        self.open = open_


@dataclass(slots=True)
class _Pending:
    """A record that waits for its session."""

    record: Record
    holds: bool = True
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class _Rubbish:
    """What the store is still to forget."""

    records: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    entries: list[Key] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.records or self.sessions or self.entries)

    def __iadd__(self, other: _Rubbish) -> Self:
        self.records += other.records
        self.sessions += other.sessions
        self.entries += other.entries
        return self


class Logins:
    """Records that wait for their session, and sessions, by login id.

    ``boottime`` tells boot-time seconds. ``lost`` is called with a session whose process died without closing it.
    """

    def __init__(self, store: Store, pool: Workers, boot: str, boottime: Callable[[], float], deaths: Deaths) -> None:
        self._store = store
        self._pool = pool
        self._boot = boot
        self._boottime = boottime
        self._deaths = deaths
        self._pending: dict[str, _Pending] = {}
        self._leases: dict[str, Lease] = {}
        self._slots: Counter[tuple[str, str]] = Counter()
        self._rubbish = _Rubbish()
        self._cleaner: asyncio.Task[None] | None = None
        self.lost: Callable[[Lease], None] = lambda _: None

    @property
    def leases(self) -> list[Lease]:
        """The open sessions, oldest first."""
        return sorted(self._leases.values(), key=lambda lease: lease.since)

    async def load(self, is_alive: Callable[[Process], bool]) -> None:
        """Read back what an earlier daemon kept, and forget what has ended since; once, before any login.

        Raises Unavailable, and then nothing was read and it can be tried again.
        """
        await self._pool.run(STORE_WAIT, self._store.give_back_orphans)
        records = await self._pool.run(STORE_WAIT, self._store.records)
        leases = await self._pool.run(STORE_WAIT, self._store.sessions)
        now = self._boottime()
        for record in records:
            if record.boot == self._boot and 0 <= now - record.made <= LIFETIME:
                self._wait_for_session(record)
        for lease in leases:
            if lease.boot == self._boot and is_alive(lease.process):
                self._hold(lease)
        self._rubbish.records += [record.login_id for record in records if record.login_id not in self._pending]
        self._rubbish.sessions += [lease.login_id for lease in leases if lease.login_id not in self._leases]
        await self._clean_quietly()

    def count(self, user: str, place: str) -> int:
        """Count the slots that a user holds from one place: sessions, and logins about to open one."""
        return self._slots[user, place]

    async def add(self, record: Record, limit: int) -> None:
        """Take a slot for a login that is about to be let in, and remember it; ``limit`` 0 is none.

        Raises Full or Unavailable, and then it must not be let in.
        """
        self._check(record, limit)
        self._wait_for_session(record)
        try:
            with emergency(record):
                await self._pool.run(STORE_WAIT, self._store.save_record, record)
        except BaseException:
            self.drop(record.login_id)  # it may have been saved all the same
            raise

    def find(self, claim: Claim) -> Record | None:
        """Find the record that a later call belongs to."""
        pending = self._pending.get(claim.login_id)
        record = pending.record if pending else None
        return record if record and belongs(claim, record, self._boot, self._boottime()) else None

    def renew(self, record: Record, limit: int) -> None:
        """Take the slot of a known login again if it has lost it. Raises Full."""
        pending = self._pending[record.login_id]
        if not pending.holds:
            self._check(record, limit)
            self._wait_for_session(record)

    async def open(self, claim: Claim, limit: int) -> Record | None:
        """Turn the record that ``claim`` belongs to into a session; a second call finds nothing.

        Raises Full or Unavailable, and then there is no session.
        """
        record = self.find(claim)
        if record is None:
            return None
        self.renew(record, limit)
        self._forget(record.login_id)
        lease = _lease(record, claim.caller, self._boot)
        self._hold(lease)
        try:
            with emergency(record):
                await self._pool.run(STORE_WAIT, self._store.open_session, lease, record.earned)
        except BaseException:
            self._rubbish.records.append(record.login_id)
            if record.earned:  # it may have been written all the same
                self._rubbish.entries.append(record.earned[0])
            self._end(lease)
            raise
        return record

    def close(self, caller: Process) -> Lease | None:
        """Take back the session that this process opened."""
        lease = next((lease for lease in self._leases.values() if lease.process == caller), None)
        if lease is not None:
            self._end(lease)
        return lease

    def drop(self, login_id: str) -> None:
        """Forget a login that opens no session: what it held and reused is given back."""
        self._forget(login_id)
        self._rubbish.records.append(login_id)
        self._clean_soon()

    async def sweep(self, is_alive: Callable[[Process], bool]) -> None:
        """Forget records that are too old, and what the death of a process should have ended. Raises Unavailable."""
        now = self._boottime()
        for pending in list(self._pending.values()):
            if now - pending.record.made > LIFETIME:
                self.drop(pending.record.login_id)
            elif pending.timer is None and not is_alive(pending.record.caller):
                self._caller_died(pending.record)
        for lease in [lease for lease in self._leases.values() if not is_alive(lease.process)]:
            self._lose(lease)
        await self._clean()

    async def settle(self) -> None:
        """Have the store forget what has ended, because the daemon is about to end as well.

        What stays in the file is a login to the next daemon, and holds a slot. What fails is logged.
        """
        await self._clean_soon()

    def _check(self, record: Record, limit: int) -> None:
        held = self.count(record.user, record.place)
        if limit and held >= limit:
            raise Full(held)

    def _wait_for_session(self, record: Record) -> None:
        self._forget(record.login_id)
        self._pending[record.login_id] = _Pending(record)
        self._take_slot(record)
        self._deaths.watch(record.caller, record.login_id, lambda: self._caller_died(record))

    def _caller_died(self, record: Record) -> None:
        pending = self._pending.get(record.login_id)
        if pending is None or pending.record is not record:
            return
        if record.parent.pid == INIT:
            self.drop(record.login_id)
            return
        pending.timer = asyncio.get_running_loop().call_later(HOLD, self._release, pending)
        self._deaths.watch(record.parent, record.login_id, lambda: self.drop(record.login_id))

    def _release(self, pending: _Pending) -> None:
        if pending.holds:
            pending.holds = False
            self._give_slot(pending.record)

    def _take_slot(self, holder: Record | Lease) -> None:
        self._slots[holder.user, holder.place] += 1

    def _give_slot(self, holder: Record | Lease) -> None:
        self._slots[holder.user, holder.place] -= 1
        if not self._slots[holder.user, holder.place]:
            del self._slots[holder.user, holder.place]

    def _forget(self, login_id: str) -> None:
        pending = self._pending.pop(login_id, None)
        if pending is None:
            return
        self._release(pending)
        if pending.timer:
            pending.timer.cancel()
        for process in (pending.record.caller, pending.record.parent):
            self._deaths.forget(process, login_id)

    def _hold(self, lease: Lease) -> None:
        self._leases[lease.login_id] = lease
        self._take_slot(lease)
        self._deaths.watch(lease.process, lease.login_id, lambda: self._lose(lease))

    def _lose(self, lease: Lease) -> None:
        if lease.login_id in self._leases:
            self._end(lease)
            self.lost(lease)

    def _end(self, lease: Lease) -> None:
        if self._leases.pop(lease.login_id, None) is None:
            return
        self._give_slot(lease)
        self._deaths.forget(lease.process, lease.login_id)
        self._rubbish.sessions.append(lease.login_id)
        self._clean_soon()

    def _clean_soon(self) -> asyncio.Task[None]:
        if self._cleaner is None or self._cleaner.done():
            self._cleaner = asyncio.get_running_loop().create_task(self._clean_quietly())
        return self._cleaner

    async def _clean_quietly(self) -> None:
        try:
            while self._rubbish:
                await self._clean()
        except Unavailable as outage:
            log.warning("ended logins stay in the state file until the next sweep: %s", outage)

    async def _clean(self) -> None:
        """Have the store forget what has ended; what it cannot forget now is tried again."""
        rubbish, self._rubbish = self._rubbish, _Rubbish()
        try:
            if rubbish.records:
                await self._pool.run(STORE_WAIT, self._store.forget_records, rubbish.records)
            if rubbish.sessions:
                await self._pool.run(STORE_WAIT, self._store.close_sessions, rubbish.sessions)
            if rubbish.entries:
                await self._pool.run(STORE_WAIT, self._store.forget_grace, rubbish.entries)
        except BaseException:
            self._rubbish += rubbish
            raise


@contextmanager
def emergency(record: Record) -> Iterator[None]:
    """Let a break-glass login do without the store: it is for the night on which things are broken."""
    try:
        yield
    except Unavailable as outage:
        if record.reason is not Reason.BREAK_GLASS:
            raise
        log.warning("a break-glass login is remembered until the daemon ends, and no longer: %s", outage)


def _lease(record: Record, process: Process, boot: str) -> Lease:
    return Lease(
        login_id=record.login_id,
        user=record.user,
        service=record.service,
        client_ip=record.client_ip,
        tty=record.tty,
        process=process,
        boot=boot,
        since=time.time(),
        factor=record.factor,
        reason=record.reason,
    )
