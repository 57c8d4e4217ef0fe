"""Logins on a virtual clock, with a store that answers when a test says so and processes that die on command."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from starlingd.core.grace import Entry, Key, Moment
from starlingd.core.model import Factor, Process, Reason
from starlingd.core.records import Claim, Lease, Record
from starlingd.ports import Fault, Unavailable
from starlingd.server.logins import Logins
from tests.daemon_under_test import Dead
from tests.fakes import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

P = ParamSpec("P")
T = TypeVar("T")

BOOT = "boot-1"
WALL = 1_700_000_000.0
ADDRESS = "198.51.100.7"
LISTENER = Process(30, 300)
KEY = Key("alice", ADDRESS, "", "")
TURNS = 20
"""How often the event loop goes round for everything that can happen now to have happened."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__()

    def time(self) -> float:
        """Tell the virtual time."""
        return self.now


class Hand:
    """The store's worker, moved by hand: calls wait in order; while ``free``, none waits.

    ``down`` makes every call fail unmade.
    """

    def __init__(self) -> None:
        self.free = True
        self.down = False
        self._waiting: deque[tuple[Callable[[], Any], asyncio.Future[Any]]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    async def run(self, wait: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Wait for the hand."""
        assert wait > 0
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((lambda: call(*args, **kwargs), future))
        if self.free:
            self.move(unmade=self.down)
        return await future

    def move(self, *, unmade: bool = False, unheard: bool = False) -> None:
        """Make the oldest call; or fail without making it, or make it and fail all the same."""
        call, future = self._waiting.popleft()
        result = None if unmade else call()
        if future.done():
            return
        if unmade or unheard:
            future.set_exception(Unavailable("store", Fault.BUSY, "no answer"))
        else:
            future.set_result(result)

    def close(self) -> None:
        """Make nothing any more."""
        self._waiting.clear()


@dataclass
class House:
    """One daemon after another on the same store; ``boottime`` is the clock that outlives them."""

    store: MemoryStore = field(default_factory=MemoryStore)
    boottime: float = 5000.0
    boot: str = BOOT
    gone: set[Process] = field(default_factory=set)
    lost: list[Lease] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start a daemon that has read nothing yet."""
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(lambda _, context: self.errors.append(context))
        self.hand = Hand()
        self.deaths = Dead()
        self.deaths.gone = self.gone
        self.logins = Logins(self.store, self.hand, self.boot, lambda: self.boottime, self.deaths)
        self.logins.lost = self.lost.append

    def end(self) -> None:
        """Kill the daemon where it stands."""
        self.hand.close()
        self.hand.free = False
        while tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            self.turn()
        self.loop.close()
        assert self.errors == []

    def restart(self) -> None:
        """Kill the daemon, start another, and let it read what is kept."""
        self.end()
        self.begin()
        self.do(self.logins.load(self.is_alive))

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self.loop.run_until_complete(coroutine)

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a coroutine and let happen what can."""
        task = self.loop.create_task(coroutine)
        self.turn()
        return task

    def turn(self) -> None:
        """Let everything happen that can happen now."""

        async def turns() -> None:
            for _ in range(TURNS):
                await asyncio.sleep(0)

        self.do(turns())

    def pass_time(self, seconds: float) -> None:
        """Let time pass by both clocks."""
        self.boottime += seconds
        self.loop.now += seconds
        self.turn()

    def die(self, *processes: Process) -> None:
        """Let processes die, and let the daemon notice."""

        async def dying() -> None:
            for process in processes:
                self.deaths.die(process)

        self.do(dying())
        self.turn()

    def is_alive(self, process: Process) -> bool:
        """Tell whether a process has not died."""
        return process not in self.gone

    def add(self, record: Record, limit: int = 0) -> None:
        """Add a record and wait for it."""
        self.do(self.logins.add(record, limit))

    def open(self, record: Record, limit: int = 0, caller: Process | None = None) -> Record | None:
        """Open the session of a record, as its parent if not said otherwise."""
        return self.do(self.logins.open(claim_of(record, caller), limit))

    def drop(self, *login_ids: str) -> None:
        """Drop logins, one right after the other."""

        async def dropping() -> None:
            for login_id in login_ids:
                self.logins.drop(login_id)

        self.do(dropping())
        self.turn()

    def close(self, caller: Process) -> Lease | None:
        """Close the session of a process."""

        async def closing() -> Lease | None:
            return self.logins.close(caller)

        lease = self.do(closing())
        self.turn()
        return lease

    @property
    def count(self) -> int:
        """How many slots alice holds from the one address."""
        return self.logins.count("alice", ADDRESS)

    def record(self, number: int = 0, **changes: object) -> Record:
        """Make a record of alice's, in sshd's child ``100 + number`` whose monitor is ``200 + number``."""
        values: dict[str, Any] = {
            "login_id": f"login {number}",
            "user": "alice",
            "service": "sshd",
            "caller": Process(100 + number, 1000 + number),
            "parent": Process(200 + number, 2000 + number),
            "client_ip": ADDRESS,
            "tty": "ssh",
            "auth_info": "",
            "factor": Factor.CODE,
            "reason": Reason.CODE_VERIFIED,
            "boot": self.boot,
            "made": self.boottime,
            "wall": WALL,
        }
        return Record(**{**values, **changes})

    def entry(self, **changes: object) -> Entry:
        """Make a grace entry of this moment."""
        moment = Moment(WALL, self.boottime, self.boot)
        values: dict[str, Any] = {"basis": "1000 alice", "authenticated": moment, "used": moment}
        return Entry(**{**values, **changes})


def claim_of(record: Record, caller: Process | None = None) -> Claim:
    """Make the claim of a record's session, by its parent if not said otherwise."""
    return Claim(record.login_id, record.user, record.service, caller or record.parent)
