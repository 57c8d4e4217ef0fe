"""The daemon's memory of decided logins, from the verdict to the session (DESIGN §5).

Kept in the store as well, so that a restart in between refuses nobody. Memory decides, on the one event loop, so a
record is consumed once; what the store cannot keep is not let in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlingd.core.records import LIFETIME, belongs

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlingd.core.model import Process
    from starlingd.core.records import Claim, Record
    from starlingd.ports import Store
    from starlingd.server.workers import Pool

STORE_WAIT = 10.0
"""Seconds a login waits for the store at most."""
MOST_OPEN = 100_000


class Logins:
    """Records by login id, and the sessions that were opened from them by the process that did."""

    def __init__(self, store: Store, pool: Pool, boot: str, boottime: Callable[[], float]) -> None:
        self._store = store
        self._pool = pool
        self._boot = boot
        self._boottime = boottime
        self._records: dict[str, Record] = {}
        self._open: dict[Process, Record] = {}
        self._unwanted: list[str] = []

    async def load(self) -> None:
        """Read back what an earlier daemon kept, and forget what no login can claim any more. Raises Unavailable."""
        kept = await self._pool.run(STORE_WAIT, self._store.records)
        now = self._boottime()
        alive = [record for record in kept if record.boot == self._boot and 0 <= now - record.made <= LIFETIME]
        self._records.update({record.login_id: record for record in alive})
        dead = [record.login_id for record in kept if record.login_id not in self._records]
        await self._pool.run(STORE_WAIT, self._store.forget_records, dead)

    async def add(self, record: Record) -> None:
        """Remember a login that is about to be let in. Raises Unavailable, and then it must not be."""
        try:
            await self._pool.run(STORE_WAIT, self._store.save_record, record)
        except BaseException:
            self._unwanted.append(record.login_id)  # it may have been saved all the same
            raise
        self._records[record.login_id] = record

    def find(self, claim: Claim) -> Record | None:
        """Find the record that a later call belongs to."""
        record = self._records.get(claim.login_id)
        return record if record and belongs(claim, record, self._boot, self._boottime()) else None

    async def open(self, claim: Claim) -> Record | None:
        """Consume the record that ``claim`` belongs to; a second call finds nothing. Raises Unavailable."""
        record = self.find(claim)
        if record is None:
            return None
        del self._records[record.login_id]
        await self._pool.run(STORE_WAIT, self._store.forget_records, [record.login_id])
        if len(self._open) < MOST_OPEN:
            self._open[claim.caller] = record
        return record

    def close(self, caller: Process) -> Record | None:
        """Take back the session that this process opened."""
        return self._open.pop(caller, None)

    def drop(self, login_id: str) -> None:
        """Drop a record whose verdict did not reach its login; the next sweep takes it off the store."""
        self._records.pop(login_id, None)
        self._unwanted.append(login_id)

    async def sweep(self, is_alive: Callable[[Process], bool]) -> None:
        """Forget records that are too old and sessions whose process is gone. Raises Unavailable."""
        now = self._boottime()
        old = [record.login_id for record in self._records.values() if now - record.made > LIFETIME]
        for login_id in old:
            del self._records[login_id]
        for process in [process for process in self._open if not is_alive(process)]:
            del self._open[process]
        self._unwanted += old
        if self._unwanted:
            unwanted, self._unwanted = self._unwanted, []
            await self._pool.run(STORE_WAIT, self._store.forget_records, unwanted)
