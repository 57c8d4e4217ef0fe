"""The provisioning loop: enrols the members of the directory's groups ahead of time (SEMANTICS §11, [provisioning]).

A run reads the directory to its end, page by page, and remembers no more than a batch of names; then it enrols those
people, one call of the service at a time, and reads again for the next batch. Nothing is done while a search is open,
and nothing at all when the directory's answer looks wrong. What is done is stored person by person, so that a run
that ends in the middle is resumed by the next. Nothing here may let anybody in.

A long file, because a run and its guards are read as one: what may stop it stands beside what it does.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from starlingd.core.enrolment import Contact, LoopState
from starlingd.core.provisioning import (
    Action,
    Difference,
    Loop,
    Member,
    OnLeaving,
    Tally,
    compare,
    is_work,
    looks_wrong,
)
from starlingd.ports import Fault, Unavailable
from starlingd.server.enrolments import Service

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator

    from starlingd.core.directory import Person
    from starlingd.core.enrolment import Enrolled, Enrolment
    from starlingd.core.rules import Provisioning as Rule
    from starlingd.ports import Directory
    from starlingd.server.host import Host

PAGE = 500
"""People read from the directory at a time."""
BATCH = 2000
"""People that a run remembers while it enrols them, and differences that it remembers for ``starlingctl provision``;
all of them are counted."""
STORE_WAIT = 30.0
NSS_WAIT = 10.0
RETRY = 5.0
"""Seconds to wait after a 429 that does not say for how long."""
LONGEST_RETRY = 3600.0
"""The most seconds that a 429 can make a run wait."""
LEAST_PAUSE = 300.0
"""Seconds until the loop tries again after a run that failed."""
CHECK_INTERVAL = 10.0
"""Seconds between looks at whether a run is due."""
STOPPED = "stopped; the next run goes on"

log = logging.getLogger("starlingd.provisioning")


class Stopped(Exception):  # noqa: N818  it is what it is called
    """Why a run ended before its end, or a person cannot be enrolled; the text is for the administrator."""


@dataclass(slots=True)
class Run:
    """One run, under way or over. ``outcome`` is empty while it is under way; ``dry`` ones change nothing."""

    started: float
    dry: bool
    phase: str = "reading"
    todo: int = 0
    done: int = 0
    """How many of the ``todo`` people were enrolled or given up."""
    tally: Tally = field(default_factory=Tally)
    differences: list[Difference] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    ended: float = 0.0
    outcome: str = ""

    @property
    def errors(self) -> int:
        """How many people could not be enrolled."""
        return len(self.failed)

    def note(self, difference: Difference) -> None:
        """Count a person, and remember what is to be done."""
        self.tally.add(difference.action)
        if difference.action is not Action.NOTHING and len(self.differences) < BATCH:
            self.differences.append(difference)

    def told(self, *, brief: bool = False) -> dict[str, Any]:
        """Tell the run as JSON; ``brief`` leaves out who the differences are about."""
        noted = sum(number for action, number in self.tally.counts.items() if action != Action.NOTHING)
        return {
            "started": self.started,
            "ended": self.ended,
            "dry_run": self.dry,
            "phase": self.phase,
            "todo": self.todo,
            "done": self.done,
            "members": self.tally.members,
            "counts": dict(self.tally.counts),
            "errors": self.errors,
            "outcome": self.outcome,
            "differences": [] if brief else [found.told() for found in self.differences],
            "not_shown": noted - len(self.differences),
        }


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a run works with: one configuration, from its beginning to its end.

    ``partial`` runs look at some of the groups only, so they can neither tell who has left nor how many there are.
    """

    loop: Loop
    rule: Rule
    directory: Directory
    service: Service
    timeout: float
    """Seconds that the directory may take for one answer."""
    partial: bool = False
    accept_shrink: bool = False

    @property
    def attributes(self) -> tuple[str, ...]:
        return (self.rule.email_attribute, self.rule.phone_attribute, self.rule.display_name_attribute)


class Slot:
    """Holds one run at a time, and remembers the last one."""

    def __init__(self) -> None:
        self.last: Run | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether a run is under way."""
        return self._task is not None and not self._task.done()

    def start(self, run: Run, work: Coroutine[Any, Any, None]) -> None:
        """Begin a run; there must be none."""
        self.last = run
        self._task = asyncio.get_running_loop().create_task(work)

    async def stop(self) -> None:
        """End the run that is under way."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class ProvisioningLoop:
    """Starts a run when it is due or asked for. Plans never stand in a run's way: they have a slot of their own."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.runs = Slot()
        self.plans = Slot()
        self._rests_until = float("-inf")
        """The loop starts nothing before this moment, in monotonic seconds."""

    async def run(self) -> None:
        """Start a run whenever one is due."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            current = self._host.current
            if current is None or current.loop is None or self.runs.is_running or time.monotonic() < self._rests_until:
                continue
            try:
                state = await self._store(self._host.store.provisioning_state)
                if current.loop.dry_run or _is_due(current.loop, state, time.time()):
                    self.start(dry=current.loop.dry_run)
            except (Unavailable, Stopped) as why:
                self._rests_until = time.monotonic() + LEAST_PAUSE
                log.warning("%s", why)

    def start(self, *, dry: bool, groups: tuple[str, ...] = (), accept_shrink: bool = False) -> Run:
        """Start a run, unless one is under way, and tell it. Raises Stopped where nothing is configured."""
        return self._start(self.runs, dry=dry, groups=groups, accept_shrink=accept_shrink)

    def plan(self, groups: tuple[str, ...] = ()) -> Run:
        """Start a plan, unless one is under way, and tell it. Raises Stopped where nothing is configured."""
        return self._start(self.plans, dry=True, groups=groups)

    async def stop(self) -> None:
        """End the run that is under way, for an interval; the next one goes on where it was."""
        current = self._host.current
        if self.runs.is_running and current is not None and current.loop is not None:
            self._rests_until = time.monotonic() + current.loop.interval
        await self.runs.stop()

    async def close(self) -> None:
        """End whatever is under way."""
        await self.runs.stop()
        await self.plans.stop()

    async def look(self, user: str) -> tuple[Difference, Enrolment | None]:
        """Tell how one person stands, and their enrolment. Raises Stopped or Unavailable."""
        scope = self._scope()
        member = await self._member(await self._person(scope, user), scope.rule)
        kept = await self._store(self._host.store.enrolment, member.user)
        return compare(member, kept, scope.rule, time.time()), kept

    async def renew(self, user: str) -> str:
        """Enrol one person anew with what the directory says now; tell the id. Raises Stopped or Unavailable."""
        scope = self._scope()
        person = await self._person(scope, user)
        name = (await self._member(person, scope.rule)).user
        return _identity(await self._host.enrolments.anew(name, person, scope.rule, scope.service))

    def _scope(self, groups: tuple[str, ...] = (), *, accept_shrink: bool = False) -> _Scope:
        current = self._host.current
        if current is None or current.rules.provisioning is None:
            raise Stopped("[starling_auto_provision] is not configured")
        if current.directory is None or current.rules.directory is None:
            raise Stopped("no directory is configured")
        loop = current.loop or Loop(())
        return _Scope(
            replace(loop, groups=groups) if groups else loop,
            current.rules.provisioning,
            current.directory,
            Service(current.provider, self._host.pools.provider, current.call_timeout),
            current.rules.directory.timeout,
            partial=bool(groups),
            accept_shrink=accept_shrink,
        )

    def _start(self, slot: Slot, *, dry: bool, groups: tuple[str, ...] = (), accept_shrink: bool = False) -> Run:
        if slot.is_running and slot.last is not None:
            return slot.last
        scope = self._scope(groups, accept_shrink=accept_shrink)
        if not scope.loop.groups:
            raise Stopped("[provisioning] groups is not configured")
        run = Run(time.time(), dry)
        slot.start(run, self._guarded(run, scope))
        return run

    async def _guarded(self, run: Run, scope: _Scope) -> None:
        try:
            await self._go(run, scope)
            run.outcome = "complete"
        except asyncio.CancelledError:
            run.outcome = STOPPED
            raise
        except (Stopped, Unavailable) as why:
            run.outcome = str(why)
            log.warning("provisioning: %s", why)
        except Exception:
            run.outcome = "internal error; the daemon's log has it"
            log.exception("a bug ended a provisioning run")
        finally:
            run.ended, run.phase = time.time(), "over"
            self._ended(run, scope)

    def _ended(self, run: Run, scope: _Scope) -> None:
        complete = run.outcome == "complete"
        if self.runs.last is run:
            pause = scope.loop.interval if run.dry and complete else min(scope.loop.interval, LEAST_PAUSE)
            self._rests_until = max(self._rests_until, time.monotonic() + pause)
        if self.runs.last is run and not (run.dry and complete):
            self._host.audit.provisioning(run.outcome, run.tally.counts, complete=complete)

    async def _go(self, run: Run, scope: _Scope) -> None:
        store = self._host.store
        state = await self._store(store.provisioning_state)
        names = await self._survey(run, scope, counting=True)
        leaving = await self._leavers(run, scope)
        before = 0 if scope.partial or scope.accept_shrink else state.members
        if wrong := looks_wrong(run.tally.members, before, len(leaving), scope.loop.max_shrink):
            raise Stopped(wrong)
        run.todo = sum(number for action, number in run.tally.counts.items() if is_work(Action(action), scope.rule))
        if run.dry:
            return
        run.phase = "working"
        if not scope.partial:
            await self._store(store.save_provisioning_state, replace(state, started=run.started, complete=False))
            await self._store(store.block, leaving, blocked=True)
        await self._work(run, scope, names)
        if not scope.partial:
            done = LoopState(run.started, complete=True, members=run.tally.members)
            await self._store(store.save_provisioning_state, done)

    async def _survey(self, run: Run, scope: _Scope, *, counting: bool) -> list[str]:
        """Read all members, and tell a batch of those that have to be done something about."""
        names: list[str] = []
        async with aclosing(self._pages(scope)) as pages:
            async for page in pages:
                for difference in await self._compared(run, scope, page):
                    if counting:
                        run.tally.members += 1
                        run.note(difference)
                    wanted = is_work(difference.action, scope.rule) and difference.user not in run.failed
                    if wanted and len(names) < BATCH:
                        names.append(difference.user)
        return names

    async def _compared(self, run: Run, scope: _Scope, page: Iterable[Person]) -> list[Difference]:
        """Compare a page with what is kept, and note who is there: who has left shows by the absence of that."""
        members = [await self._member(person, scope.rule) for person in page]
        users = [member.user for member in members]
        kept = await self._store(self._host.store.enrolments_of, users)
        if not scope.partial:
            await self._store(self._host.store.mark_seen, users, run.started)
        now = time.time()
        return [compare(member, kept.get(member.user), scope.rule, now) for member in members]

    async def _pages(self, scope: _Scope) -> AsyncGenerator[tuple[Person, ...], None]:
        """Go through the members of the groups; each page is read in the directory's pool."""
        pages = _Pages(scope.directory.people(scope.loop.groups, scope.attributes, PAGE))
        workers = self._host.pools.directory
        try:
            while (page := await workers.run(scope.timeout * 2 + 1.0, pages.next)) is not None:
                yield page
        finally:
            with suppress(Unavailable):  # then the thread that still reads a page closes it late
                await workers.run(scope.timeout + 1.0, pages.close)

    async def _leavers(self, run: Run, scope: _Scope) -> list[str]:
        """Report who was in the groups and is no more; tell those whom the rules say to block."""
        if scope.partial:
            return []
        blocks = scope.loop.on_leaving is OnLeaving.BLOCK
        left: list[str] = await self._store(self._host.store.not_seen_since, run.started)
        for user in left:
            run.note(Difference(user, Action.BLOCK if blocks else Action.LEFT, "is in none of the groups any more"))
        return left if blocks else []

    async def _work(self, run: Run, scope: _Scope, names: list[str]) -> None:
        """Do what is to be done, batch by batch; who cannot be finished in so many readings is left to the next run."""
        for _ in range(run.todo // BATCH + 1):
            for user in names:
                await self._settle(run, scope, user)
                run.done += 1
            if run.done >= run.todo:
                return
            names = await self._survey(run, scope, counting=False)

    async def _settle(self, run: Run, scope: _Scope, user: str) -> None:
        """Enrol one person as a login would, within the rate limit; a batch may be old, so everything is read anew."""
        await asyncio.sleep(60.0 / scope.loop.rate_limit)
        try:
            kept = await self._store(self._host.store.enrolment, user)
            if kept is not None and kept.blocked:
                await self._store(self._host.store.block, [user], blocked=False)
            _identity(await self._patiently(scope, user))
            if not scope.partial:
                await self._store(self._host.store.mark_seen, [user], run.started)
        except (Stopped, Unavailable) as why:
            run.failed.add(user)
            log.warning("provisioning: %s: %s", user, why)
            if run.errors >= scope.loop.max_errors:
                raise Stopped(f"{run.errors} errors, the last one: {user}: {why}") from why

    async def _patiently(self, scope: _Scope, user: str) -> Enrolled:
        """Enrol somebody, however often the service says that it is too early."""
        person = await self._person(scope, user)
        while True:
            try:
                return await self._host.enrolments.of(user, person, scope.rule, scope.service)
            except Unavailable as outage:
                if outage.fault is not Fault.RATE_LIMITED:
                    raise
                await asyncio.sleep(min(outage.retry_after or RETRY, LONGEST_RETRY))

    async def _person(self, scope: _Scope, user: str) -> Person:
        workers, seconds = self._host.pools.directory, scope.timeout
        person = await workers.run(seconds + 1.0, scope.directory.person, user, scope.attributes, seconds)
        if person is None:
            raise Stopped("the directory does not know this user")
        return person

    async def _member(self, person: Person, rule: Rule) -> Member:
        account = await self._host.pools.accounts.run(NSS_WAIT, self._host.accounts.look_up, person.name)
        contact = self._host.enrolments.contact(person, rule)
        user = account.name if account else person.name
        if isinstance(contact, Contact):
            return Member(user, contact)
        return Member(user, None, contact.note or "number or address is missing")

    async def _store(self, call: Any, *arguments: object, **named: object) -> Any:  # noqa: ANN401  as the call says
        return await self._host.pools.store.run(STORE_WAIT, call, *arguments, **named)


class _Pages:
    """An iterator that one thread reads while another may already close it: the closing waits for the page."""

    def __init__(self, pages: Iterator[tuple[Person, ...]]) -> None:
        self._pages = pages
        self._lock = threading.Lock()

    def next(self) -> tuple[Person, ...] | None:
        with self._lock:
            return next(self._pages, None)

    def close(self) -> None:
        with self._lock:
            close = getattr(self._pages, "close", None)
            if close is not None:
                close()


def _is_due(loop: Loop, state: LoopState, now: float) -> bool:
    """Tell whether a run is due; one that did not come to its end is, and so is one that began in the future."""
    return not state.complete or not 0 <= now - state.started < loop.interval


def _identity(enrolled: Enrolled) -> str:
    """Tell the id; raises Stopped where there is none."""
    if enrolled.reason is not None or not enrolled.identity:
        raise Stopped(enrolled.note or "number or address is missing")
    return enrolled.identity
