"""Deaths are noticed by the kernel's word, of that very process, and each who waits is told once."""

import asyncio
import os
import resource
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from starlingd.core.model import Process
from starlingd.server.deaths import Deaths
from starlingd.server.processes import is_alive
from tests.unit.children import child

PATIENCE = 5.0


def open_descriptors() -> int:
    """Count this process's open descriptors."""
    return len(list(Path("/proc/self/fd").iterdir()))


def kill(process: Process) -> None:
    """Kill a child and reap it, so that nothing is left of it."""
    os.kill(process.pid, signal.SIGKILL)
    os.waitpid(process.pid, 0)


class Told:
    """Notes who was told."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._changed = asyncio.Event()

    def by(self, name: str) -> Callable[[], None]:
        """Make a callback that notes ``name``."""

        def note() -> None:
            self.names.append(name)
            self._changed.set()

        return note

    async def wait_for(self, count: int) -> list[str]:
        """Wait until so many were told."""
        async with asyncio.timeout(PATIENCE):
            while len(self.names) < count:
                await self._changed.wait()
                self._changed.clear()
        return self.names


def watching(test: Callable[[Deaths, Told], Awaitable[None]]) -> None:
    """Run ``test(deaths, told)`` on an event loop, and see that no descriptor is left open."""

    async def run() -> None:
        deaths = Deaths()
        before = open_descriptors()
        try:
            await test(deaths, Told())
        finally:
            deaths.close()
        assert open_descriptors() == before

    asyncio.run(run())


def test_a_death_is_noticed_before_anybody_reaps_it() -> None:
    async def test(deaths: Deaths, told: Told) -> None:
        with child() as process:
            deaths.watch(process, "one", told.by("one"))
            os.kill(process.pid, signal.SIGKILL)
            assert await told.wait_for(1) == ["one"]
            assert is_alive(process), "a zombie still has its entry"

    watching(test)


def test_the_living_are_not_told_of() -> None:
    async def test(deaths: Deaths, told: Told) -> None:
        with child() as living, child() as dying:
            deaths.watch(living, "living", told.by("living"))
            deaths.watch(dying, "dying", told.by("dying"))
            os.kill(dying.pid, signal.SIGKILL)
            assert await told.wait_for(1) == ["dying"]

    watching(test)


def test_another_process_with_the_same_pid_is_a_death_at_once() -> None:
    async def test(deaths: Deaths, told: Told) -> None:
        with child() as process:
            deaths.watch(Process(process.pid, process.start - 1), "earlier", told.by("earlier"))
            deaths.watch(process, "this", told.by("this"))
            assert await told.wait_for(1) == ["earlier"]
            assert told.names == ["earlier"]

    watching(test)


@pytest.mark.parametrize("pid", [2**22 + 1, 2**31, 2**64])
def test_a_pid_nobody_has_is_a_death_at_once(pid: int) -> None:
    async def test(deaths: Deaths, told: Told) -> None:
        deaths.watch(Process(pid, 1), "nobody", told.by("nobody"))
        assert told.names == [], "never from within watch: its caller is not ready"
        assert await told.wait_for(1) == ["nobody"]

    watching(test)


def test_a_process_outside_our_namespace_is_not_taken_for_dead() -> None:
    async def test(deaths: Deaths, told: Told) -> None:
        deaths.watch(Process(0, 0), "outside", told.by("outside"))
        deaths.watch(Process(2**22 + 1, 1), "nobody", told.by("nobody"))
        assert await told.wait_for(1) == ["nobody"]

    watching(test)


def test_who_comes_after_the_death_is_told_too() -> None:
    async def test(deaths: Deaths, told: Told) -> None:
        with child() as process:
            pass
        deaths.watch(process, "late", told.by("late"))
        assert await told.wait_for(1) == ["late"]

    watching(test)


def test_everybody_who_waits_for_one_process_is_told_once() -> None:
    async def test(deaths: Deaths, told: Told) -> None:
        with child() as process:
            names = [f"login {number}" for number in range(50)]
            for name in names:
                deaths.watch(process, name, told.by(name))
            os.kill(process.pid, signal.SIGKILL)
            assert await told.wait_for(50) == names

    watching(test)


def test_who_has_forgotten_is_not_told() -> None:
    async def test(deaths: Deaths, told: Told) -> None:
        with child() as process:
            for name in ("one", "two", "three"):
                deaths.watch(process, name, told.by(name))
            deaths.forget(process, "two")
            deaths.forget(process, "never was")
            deaths.forget(Process(1, 1), "never was")
            os.kill(process.pid, signal.SIGKILL)
            assert await told.wait_for(2) == ["one", "three"]

    watching(test)


def test_when_all_have_forgotten_the_process_can_be_watched_anew() -> None:
    async def test(deaths: Deaths, told: Told) -> None:
        with child() as process:
            before = open_descriptors()
            deaths.watch(process, "one", told.by("one"))
            deaths.forget(process, "one")
            assert open_descriptors() == before
            deaths.watch(process, "two", told.by("two"))
            os.kill(process.pid, signal.SIGKILL)
            assert await told.wait_for(1) == ["two"]

    watching(test)


def test_a_callback_may_forget_and_watch_as_it_likes() -> None:
    async def test(deaths: Deaths, told: Told) -> None:
        with child() as dying, child() as other:

            def busy() -> None:
                deaths.forget(dying, "busy")
                deaths.forget(dying, "second")
                deaths.watch(dying, "again", told.by("again"))
                deaths.watch(other, "other", told.by("other"))
                told.by("busy")()

            deaths.watch(dying, "busy", busy)
            deaths.watch(dying, "second", told.by("second"))
            kill(dying)
            os.kill(other.pid, signal.SIGKILL)
            assert set(await told.wait_for(4)) >= {"busy", "again", "other"}

    watching(test)


def test_a_callback_that_fails_keeps_nobody_from_being_told() -> None:
    async def test(deaths: Deaths, told: Told) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, __: None)

        def fail() -> None:
            raise ZeroDivisionError

        with child() as process:
            deaths.watch(process, "failing", fail)
            deaths.watch(process, "second", told.by("second"))
            os.kill(process.pid, signal.SIGKILL)
            assert await told.wait_for(1) == ["second"]

    watching(test)


def test_without_a_descriptor_left_nothing_is_called_and_nothing_fails() -> None:
    async def test(deaths: Deaths, told: Told) -> None:
        with child() as process:
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
            try:
                deaths.watch(process, "one", told.by("one"))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            await asyncio.sleep(0)
            assert told.names == []
            deaths.forget(process, "one")

    watching(test)
