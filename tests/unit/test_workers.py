"""A pool runs blocking calls, is bounded, and says at once when it is full."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from starlingd.ports import Fault, Unavailable
from starlingd.server.workers import LARGEST_GROUP, GroupingWorker, Pool


def in_pool(threads: int, queue: int, test: Callable[[Pool], Awaitable[None]]) -> None:
    """Run ``test(pool)`` on an event loop; its workers end with their last call."""

    async def run() -> None:
        pool = Pool("starling", threads, queue)
        try:
            await test(pool)
        finally:
            pool.close()

    asyncio.run(run())


def test_a_call_runs_in_another_thread_and_hands_on_its_answer() -> None:
    async def test(pool: Pool) -> None:
        name = await pool.run(5, lambda: threading.current_thread().name)
        assert name.startswith("starling")

    in_pool(1, 0, test)


def test_a_calls_own_exception_is_handed_on() -> None:
    async def test(pool: Pool) -> None:
        with pytest.raises(ZeroDivisionError):
            await pool.run(5, lambda: 1 // 0)

    in_pool(1, 0, test)


def test_a_full_pool_says_busy_at_once_and_works_again_afterwards() -> None:
    async def test(pool: Pool) -> None:
        gate = threading.Event()
        running = asyncio.create_task(pool.run(5, gate.wait))
        queued = asyncio.create_task(pool.run(5, gate.wait))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            await pool.run(5, gate.wait)
        assert refused.value.fault is Fault.BUSY
        gate.set()
        assert await running
        assert await queued
        assert await pool.run(5, lambda: "again") == "again"

    in_pool(1, 1, test)


def test_a_wait_is_bounded_and_the_place_is_given_back() -> None:
    async def test(pool: Pool) -> None:
        gate = threading.Event()
        with pytest.raises(Unavailable) as refused:
            await pool.run(0.01, gate.wait)
        assert refused.value.fault is Fault.BUSY
        gate.set()
        assert await pool.run(5, lambda: "again") == "again"

    in_pool(1, 1, test)


def test_a_closed_pool_takes_nothing() -> None:
    async def test(pool: Pool) -> None:
        pool.close()
        with pytest.raises(Unavailable):
            await pool.run(5, lambda: None)

    in_pool(1, 0, test)


# One thread for the store


class Gate:
    """A call that holds the worker until it is opened."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.open = threading.Event()

    def wait(self) -> bool:
        """Say that this has begun, and wait."""
        self.begun.set()
        return self.open.wait(5)

    async def hold(self, worker: GroupingWorker) -> asyncio.Task[bool]:
        """Have the worker wait here; return when it does."""
        task = asyncio.create_task(worker.run(5, self.wait))
        await asyncio.to_thread(self.begun.wait, 5)
        return task


class Transactions:
    """Tells what happened in each transaction; a commit waits for ``disk`` if there is one, and fails if told to."""

    def __init__(self) -> None:
        self.done: list[list[str]] = []
        self.threads: set[str] = set()
        self.failing: Exception | None = None
        self.disk: Gate | None = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make one transaction."""
        self.done.append([])
        self.threads.add(threading.current_thread().name)
        yield
        if self.disk:
            self.disk.wait()
        if self.failing:
            raise self.failing

    def note(self, what: str) -> str:
        """Do something within a transaction."""
        self.done[-1].append(what)
        return what


def in_group(test: Callable[[GroupingWorker, Transactions], Awaitable[None]], waiting: int = 1000) -> None:
    """Run ``test(worker, transactions)`` on an event loop; the worker's thread ends with the test."""
    transactions = Transactions()
    worker = GroupingWorker("store", waiting, transactions.together)

    async def run() -> None:
        try:
            await test(worker, transactions)
        finally:
            worker.close()

    asyncio.run(run())
    for thread in threading.enumerate():
        if thread.name == "store":
            thread.join(5)
            assert not thread.is_alive()
    assert transactions.threads <= {"store"}


def start(worker: GroupingWorker, *calls: Callable[[], str]) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(worker.run(5, call)) for call in calls]


def test_calls_that_wait_at_the_same_time_share_one_transaction_in_their_order() -> None:
    async def test(worker: GroupingWorker, transactions: Transactions) -> None:
        gate = Gate()
        held = await gate.hold(worker)
        names = [f"call {number}" for number in range(100)]
        waiting = start(worker, *(partial(transactions.note, name) for name in names))
        await asyncio.sleep(0)
        gate.open.set()
        assert await held
        assert await asyncio.gather(*waiting) == names
        assert transactions.done == [[], names]

    in_group(test)


def test_a_group_is_bounded() -> None:
    async def test(worker: GroupingWorker, transactions: Transactions) -> None:
        gate = Gate()
        held = await gate.hold(worker)
        waiting = start(worker, *[partial(transactions.note, "one")] * (LARGEST_GROUP + 10))
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(held, *waiting)
        assert [len(done) for done in transactions.done] == [0, LARGEST_GROUP, 10]

    in_group(test)


def test_a_call_that_waits_alone_waits_for_nobody() -> None:
    async def test(worker: GroupingWorker, transactions: Transactions) -> None:
        for name in ("one", "two"):
            assert await worker.run(5, transactions.note, name) == name
        assert transactions.done == [["one"], ["two"]]

    in_group(test)


def test_a_failing_call_spoils_no_other() -> None:
    async def test(worker: GroupingWorker, transactions: Transactions) -> None:
        gate = Gate()
        held = await gate.hold(worker)
        good, bad, also_good = start(
            worker, partial(transactions.note, "a"), lambda: str(1 // 0), partial(transactions.note, "b")
        )
        await asyncio.sleep(0)
        gate.open.set()
        assert await held
        assert await good == "a"
        with pytest.raises(ZeroDivisionError):
            await bad
        assert await also_good == "b"

    in_group(test)


def test_a_commit_that_fails_fails_every_call_of_the_group_and_no_later_one() -> None:
    async def test(worker: GroupingWorker, transactions: Transactions) -> None:
        gate = Gate()
        held = await gate.hold(worker)
        waiting = start(worker, partial(transactions.note, "a"), partial(transactions.note, "b"))
        await asyncio.sleep(0)
        transactions.failing = Unavailable("store", Fault.BROKEN, "disk full")
        gate.open.set()
        for call in (held, *waiting):
            with pytest.raises(Unavailable, match="disk full"):
                await call
        transactions.failing = None
        assert await worker.run(5, transactions.note, "c") == "c"

    in_group(test)


def test_nothing_is_answered_before_it_is_on_disk() -> None:
    async def test(worker: GroupingWorker, transactions: Transactions) -> None:
        transactions.disk = Gate()
        call = asyncio.create_task(worker.run(5, transactions.note, "kept"))
        await asyncio.to_thread(transactions.disk.begun.wait, 5)
        await asyncio.sleep(0)
        assert transactions.done == [["kept"]]
        assert not call.done()
        transactions.disk.open.set()
        assert await call == "kept"

    in_group(test)


def test_a_transaction_that_cannot_begin_fails_its_calls_and_makes_none() -> None:
    made: list[str] = []

    @contextmanager
    def broken() -> Iterator[None]:
        raise Unavailable("store", Fault.BROKEN, "no such file")
        yield

    async def test() -> None:
        worker = GroupingWorker("store", 10, broken)
        try:
            for _ in range(2):
                with pytest.raises(Unavailable, match="no such file"):
                    await worker.run(5, made.append, "never")
        finally:
            worker.close()

    asyncio.run(test())
    assert made == []


def test_a_call_nobody_waits_for_any_more_is_not_made() -> None:
    async def test(worker: GroupingWorker, transactions: Transactions) -> None:
        gate = Gate()
        held = await gate.hold(worker)
        with pytest.raises(Unavailable) as refused:
            await worker.run(0.01, transactions.note, "late")
        assert refused.value.fault is Fault.BUSY
        [given_up] = start(worker, partial(transactions.note, "given up"))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        gate.open.set()
        assert await held
        assert await worker.run(5, transactions.note, "next") == "next"
        assert [what for done in transactions.done for what in done] == ["next"]

    in_group(test)


def test_a_full_queue_says_busy_at_once_and_works_again_afterwards() -> None:
    async def test(worker: GroupingWorker, transactions: Transactions) -> None:
        gate = Gate()
        held = await gate.hold(worker)
        waiting = start(worker, partial(transactions.note, "a"), partial(transactions.note, "b"))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            await worker.run(5, transactions.note, "c")
        assert refused.value.fault is Fault.BUSY
        gate.open.set()
        assert await asyncio.gather(held, *waiting) == [True, "a", "b"]
        assert await worker.run(5, transactions.note, "d") == "d"

    in_group(test, waiting=2)


def test_a_closed_worker_finishes_what_waits_and_takes_nothing_more() -> None:
    async def test(worker: GroupingWorker, transactions: Transactions) -> None:
        gate = Gate()
        held = await gate.hold(worker)
        waiting = start(worker, partial(transactions.note, "a"), partial(transactions.note, "b"))
        await asyncio.sleep(0)
        worker.close()
        with pytest.raises(Unavailable):
            await worker.run(5, transactions.note, "c")
        gate.open.set()
        assert await asyncio.gather(held, *waiting) == [True, "a", "b"]
        assert transactions.done == [[], ["a", "b"]]

    in_group(test)


def test_closing_a_worker_that_hangs_with_a_full_queue_waits_for_nobody() -> None:
    async def test(worker: GroupingWorker, transactions: Transactions) -> None:
        gate = Gate()
        held = await gate.hold(worker)
        waiting = start(worker, partial(transactions.note, "a"))
        await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.to_thread(worker.close), 2)
        gate.open.set()
        assert await asyncio.gather(held, *waiting) == [True, "a"]

    in_group(test, waiting=1)


def test_an_answer_for_a_loop_that_has_ended_ends_no_worker() -> None:
    transactions = Transactions()
    worker = GroupingWorker("store", 10, transactions.together)
    gate = Gate()

    async def leave() -> None:
        held = await gate.hold(worker)
        held.cancel()
        await asyncio.wait([held])

    async def come_back() -> str:
        return await worker.run(5, transactions.note, "still there")

    asyncio.run(leave())
    gate.open.set()
    assert asyncio.run(come_back()) == "still there"
    worker.close()
