"""The connection limit against a simple model, whatever happens in whatever order: no slot lost, none leaked.

The store answers when the machine says so, and may fail a call, or make it and fail to say so; processes die, clients
hang up, time passes, the daemon is killed and the host reboots at any point in between.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from starlingd.core.model import Factor, Process, Reason
from starlingd.core.records import LIFETIME, Lease, Record
from starlingd.core.rules import Grace
from starlingd.server.logins import HOLD, INIT, Full
from tests.fakes import MemoryStore
from tests.unit.slots import KEY, LISTENER, House, claim_of

if TYPE_CHECKING:
    from starlingd.core.grace import Entry, Key

LIMIT = 2
PLACES = ("198.51.100.7", "198.51.100.8")
KINDS = ("asked", "key only", "under init")
UNLIMITED = Grace(soft_timeout=1e9, hard_timeout=1e9, reuse_limit=-1)


class CountingStore(MemoryStore):
    """Counts the sessions that were ever opened on a reuse."""

    cached_sessions = 0

    def open_session(self, lease: Lease, earned: tuple[Key, Entry] | None) -> None:
        """Turn a record into a session."""
        super().open_session(lease, earned)
        self.cached_sessions += lease.reason is Reason.CACHED


@dataclass
class Login:
    """What the model knows of one login. ``task`` is the daemon's work on it; ``told`` what the module was told."""

    record: Record
    opener: Process
    state: str = "adding"
    holds: bool = True
    until: float = float("inf")
    task: asyncio.Task[Record | None] | asyncio.Task[None] | None = None
    told: str = ""

    def free(self) -> None:
        """Hold nothing any more."""
        self.state, self.holds = "gone", False


class Slots(RuleBasedStateMachine):
    """The daemon's slots, and the model's."""

    def __init__(self) -> None:
        super().__init__()
        self.store = CountingStore()
        self.house = House(store=self.store)
        self.house.hand.free = False
        self.store.entries[KEY] = self.house.entry()
        self.logins: list[Login] = []

    # The model

    def held(self, place: str) -> int:
        """Count the slots at a place as the model sees it."""
        return sum(login.holds and login.record.place == place for login in self.logins)

    def dead(self, process: Process) -> bool:
        """Tell whether a process has died."""
        return process in self.house.gone

    def settle(self) -> None:
        """Let the model see deaths and the time."""
        for login in self.logins:
            record = login.record
            if login.state in {"adding", "waiting"} and self.dead(record.caller):
                if record.parent.pid == INIT or self.dead(record.parent):
                    login.free()
                login.until = min(login.until, self.house.boottime + HOLD)
            elif login.state in {"opening", "open"} and self.dead(login.opener):
                login.free()
            if login.state in {"adding", "waiting"} and login.until <= self.house.boottime:
                login.holds = False

    def some(self, number: int, *states: str) -> Login | None:
        """Choose a login in one of some states."""
        found = [login for login in self.logins if login.state in states]
        return found[number % len(found)] if found else None

    def conclude(self) -> None:
        """Take the results of what the daemon has finished, as a session does."""
        for login in self.logins:
            task, login.task = login.task, login.task if login.task and not login.task.done() else None
            if task is None or not task.done():
                continue
            failed = task.cancelled() or task.exception() is not None
            if not failed:
                login.told = "session" if task.result() else "let in"
            if login.state not in {"adding", "opening"}:
                continue
            if failed:
                self.house.drop(login.record.login_id)
                login.free()
            else:
                login.state = {"adding": "waiting", "opening": "open"}[login.state]

    # Logins

    @rule(place=st.sampled_from(PLACES), kind=st.sampled_from(KINDS), cached=st.booleans())
    def log_in(self, place: str, kind: str, cached: bool) -> None:  # noqa: FBT001
        """Somebody has passed, and is let in if there is a slot."""
        number = len(self.logins)
        changes: dict[str, object] = {"client_ip": place, "key": KEY if cached else None}
        if cached:
            changes |= {"factor": Factor.NONE, "reason": Reason.CACHED}
        if kind != "asked":
            parent = LISTENER if kind == "key only" else Process(INIT, 1)
            changes |= {"caller": Process(200 + number, 2000 + number), "parent": parent}
        record = self.house.record(number, **changes)
        opener = record.parent if kind == "asked" else record.caller
        if cached:
            self.store.reuse(record.login_id, KEY, "1000 alice", UNLIMITED, self.house.entry().used)
        full = self.held(place) >= LIMIT
        login = Login(record, opener, holds=not full, state="gone" if full else "adding")
        self.logins.append(login)
        task = self.house.start(self.house.logins.add(record, LIMIT))
        if full:
            assert isinstance(task.exception(), Full)
            self.house.drop(record.login_id)
        else:
            assert not task.done()
            login.task = task

    @rule(number=st.integers(0, 50))
    def account(self, number: int) -> None:
        """Have the account hook take a lost slot again."""
        login = self.some(number, "waiting")
        if login is None:
            return
        full = not login.holds and self.held(login.record.place) >= LIMIT

        async def renew() -> None:
            self.house.logins.renew(login.record, LIMIT)

        task = self.house.start(renew())
        assert isinstance(task.exception(), Full) == full
        if not login.holds and not full:
            login.holds, login.until = True, float("inf")
            self.settle()

    @rule(number=st.integers(0, 50))
    def open_session(self, number: int) -> None:
        """Open the session."""
        login = self.some(number, "waiting")
        if login is None:
            return
        full = not login.holds and self.held(login.record.place) >= LIMIT
        old = self.house.boottime - login.record.made > LIFETIME
        task = self.house.start(self.house.logins.open(claim_of(login.record, login.opener), LIMIT))
        if old:
            assert task.result() is None
        elif full:
            assert isinstance(task.exception(), Full)
        else:
            login.state, login.holds, login.task = "opening", True, task

    @rule(number=st.integers(0, 50))
    def close_session(self, number: int) -> None:
        """Close the session."""
        login = self.some(number, "open")
        if login is not None:
            lease = self.house.close(login.opener)
            assert lease is not None
            assert lease.login_id == login.record.login_id
            login.free()

    @rule(number=st.integers(0, 50))
    def hang_up(self, number: int) -> None:
        """Let the client go while the daemon works on its login."""
        login = self.some(number, "adding", "opening")
        if login is not None and login.task is not None:
            login.task.cancel()
            self.house.turn()

    @rule(number=st.integers(0, 50))
    def drop(self, number: int) -> None:
        """Learn that the verdict did not reach the module."""
        login = self.some(number, "waiting")
        if login is not None:
            self.house.drop(login.record.login_id)
            login.free()

    # Processes

    @rule(number=st.integers(0, 50))
    def child_dies(self, number: int) -> None:
        """End the process that authenticated."""
        login = self.some(number, "adding", "waiting", "opening", "open")
        if login is not None:
            self.house.die(login.record.caller)

    @rule(number=st.integers(0, 50))
    def opener_dies(self, number: int) -> None:
        """Kill the process that opened the session, or would have."""
        login = self.some(number, "adding", "waiting", "opening", "open")
        if login is not None:
            self.house.die(login.opener)

    # The world

    @precondition(lambda self: len(self.house.hand))
    @rule(how=st.sampled_from(["made", "made", "made", "unmade", "unheard"]))
    def store_answers(self, how: str) -> None:
        """Let the store get to its oldest call."""
        self.house.hand.move(unmade=how == "unmade", unheard=how == "unheard")
        self.house.turn()

    @rule()
    def store_works(self) -> None:
        """Let the store make all calls that wait, and those they lead to."""
        while len(self.house.hand):
            self.store_answers("made")
            self.conclude()

    @rule(place=st.sampled_from(PLACES), kind=st.sampled_from(KINDS), cached=st.booleans())
    def log_in_wholly(self, place: str, kind: str, cached: bool) -> None:  # noqa: FBT001
        """Let a login go all the way without an incident."""
        self.log_in(place, kind, cached)
        self.store_works()
        login = self.logins[-1]
        if login.state == "waiting":
            self.open_session(sum(other.state == "waiting" for other in self.logins) - 1)
            self.store_works()
            self.settle()
            assert login.told == "session"

    @rule(seconds=st.sampled_from([1.0, HOLD, LIFETIME]))
    def pass_time(self, seconds: float) -> None:
        """Time passes."""
        self.house.pass_time(seconds)

    @rule()
    def sweep(self) -> None:
        """Sweep; what is too old ends."""
        self.house.start(self.house.logins.sweep(self.house.is_alive)).add_done_callback(
            lambda task: task.cancelled() or task.exception()
        )
        for login in self.logins:
            if login.state in {"adding", "waiting"} and self.house.boottime - login.record.made > LIFETIME:
                login.free()

    @rule(reboots=st.sampled_from([False, False, False, True]))
    def restart(self, reboots: bool) -> None:  # noqa: FBT001
        """Kill the daemon and begin another; or the whole host."""
        kept, leases = dict(self.store.kept), dict(self.store.open)
        for login in self.logins:
            if login.told == "session" and login.state == "open":
                assert login.record.login_id in leases, "a session that the daemon's death would forget"
            if login.told == "let in" and login.state == "waiting":
                assert login.record.login_id in kept, "a login that the daemon's death would refuse"
        if reboots:
            self.house.boot += "'"
            self.house.gone |= {process for login in self.logins for process in (login.record.caller, login.opener)}
        self.house.restart()
        self.house.hand.free = False
        for login in self.logins:
            record, login.task, login.until = login.record, None, float("inf")
            young = self.house.boottime - record.made <= LIFETIME and record.boot == self.house.boot
            login.free()
            if record.login_id in kept and young:
                login.state, login.holds = "waiting", True
            elif record.login_id in leases and not self.dead(login.opener) and not reboots:
                login.state, login.holds = "open", True
        self.house.turn()

    # What must hold

    @invariant()
    def the_daemon_and_the_model_count_alike(self) -> None:
        """Compare; and never may more sessions be open than the limit allows."""
        self.conclude()
        self.settle()
        for place in PLACES:
            assert self.house.logins.count("alice", place) == self.held(place)
            opened = [login for login in self.logins if login.state == "open" and login.record.place == place]
            assert len(opened) <= self.held(place) <= LIMIT
        assert self.house.errors == []

    def teardown(self) -> None:
        """When everybody is gone nothing is left: no slot, no record, no session, no reuse."""
        self.house.hand.free = True
        while len(self.house.hand):
            self.house.hand.move()
            self.house.turn()
        self.conclude()
        self.house.die(*{process for login in self.logins for process in (login.record.caller, login.opener)})
        self.house.pass_time(LIFETIME + 1)
        self.house.do(self.house.logins.sweep(self.house.is_alive))
        self.house.turn()
        assert [self.house.logins.count("alice", place) for place in PLACES] == [0, 0]
        assert (self.store.kept, self.store.open, self.store.reuses) == ({}, {}, {})
        assert self.store.entries[KEY].reuses == self.store.cached_sessions
        self.house.end()


TestSlots = Slots.TestCase
TestSlots.settings = settings(max_examples=150, stateful_step_count=40)
