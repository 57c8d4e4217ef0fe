"""A pool runs blocking calls, is bounded, and says at once when it is full."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from starlingd.ports import Fault, Unavailable
from starlingd.server.workers import Pool


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
