"""The provisioning loop: enrols the members of the directory's groups ahead of time (SEMANTICS §11, [provisioning]).

Page by page, one call of the service at a time, within the rate limit. What is done is stored person by person, so a
run that ends in the middle is resumed by the next. It must never act upon an answer of the directory that looks wrong,
and never let anybody in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from starlingd.core.enrolment import Contact, Enrolment
from starlingd.core.provisioning import Action, Difference, Loop, Member, OnLeaving, Tally, compare, looks_wrong
from starlingd.core.rules import OnChange
from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from starlingd.core.directory import Person
    from starlingd.core.enrolment import LoopState
    from starlingd.core.rules import Provisioning as Rule
    from starlingd.server.host import Current, Host

PAGE = 500
"""People read from the directory at a time."""
MOST_SHOWN = 2000
"""Differences that a run remembers for ``starlingctl provision``; all of them are counted."""
STORE_WAIT = 30.0
NSS_WAIT = 10.0
RETRY = 5.0
"""Seconds to wait after a 429 that does not say for how long."""
LEAST_PAUSE = 300.0
"""Seconds between two runs that start by themselves, however the first one ended."""
CHECK_INTERVAL = 10.0
"""Seconds between looks at whether a run is due."""

log = logging.getLogger("starlingd.provisioning")


class Stopped(Exception):  # noqa: N818  it is what it is called
    """Why a run ended before its end; the text is for the administrator."""


@dataclass(slots=True)
class Run:
    """One run, under way or over. ``outcome`` is empty while it is under way."""

    started: float
    dry: bool
    phase: str = "counting"
    expected: int = 0
    tally: Tally = field(default_factory=Tally)
    differences: list[Difference] = field(default_factory=list)
    errors: int = 0
    ended: float = 0.0
    outcome: str = ""

    def note(self, difference: Difference) -> None:
        """Count a person, and remember what is to be done."""
        self.tally.add(difference.action)
        if difference.action is not Action.NOTHING and len(self.differences) < MOST_SHOWN:
            self.differences.append(difference)

    def told(self) -> dict[str, Any]:
        """Tell the run as JSON."""
        return {
            "started": self.started,
            "ended": self.ended,
            "dry_run": self.dry,
            "phase": self.phase,
            "expected": self.expected,
            "members": self.tally.members,
            "counts": dict(self.tally.counts),
            "errors": self.errors,
            "outcome": self.outcome,
            "differences": [
                {"user": found.user, "action": found.action, "note": found.note} for found in self.differences
            ],
        }


class ProvisioningLoop:
    """Runs when it is due or asked for; one run at a time."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._task: asyncio.Task[None] | None = None
        self.last: Run | None = None
        self._tried = float("-inf")
        """When this daemon last found a run due, in monotonic seconds."""

    async def run(self) -> None:
        """Start a run whenever one is due."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            current = self._host.current
            if current is None or current.loop is None or self.is_running:
                continue
            try:
                state = await self._store(self._host.store.provisioning_state)
            except Unavailable as outage:
                log.warning("%s", outage)
                continue
            if self._is_due(current.loop, state):
                self._tried = time.monotonic()
                self.start(dry=current.loop.dry_run)

    def _is_due(self, loop: Loop, state: LoopState) -> bool:
        """Tell whether a run is due; a dry one, and one that failed at its beginning, leave no trace in the store."""
        pause = loop.interval if loop.dry_run else min(loop.interval, LEAST_PAUSE)
        if time.monotonic() - self._tried < pause:
            return False
        return loop.dry_run or not state.complete or time.time() - state.started >= loop.interval

    @property
    def is_running(self) -> bool:
        """Whether a run is under way."""
        return self._task is not None and not self._task.done()

    def start(self, *, dry: bool, groups: tuple[str, ...] = ()) -> Run:
        """Start a run, unless one is under way, and tell it. Raises Stopped where nothing is configured."""
        if self.is_running and self.last is not None:
            return self.last
        current = self._host.current
        if current is None or current.loop is None or current.rules.provisioning is None:
            raise Stopped("[provisioning] groups and [starling_auto_provision] are not configured")
        loop = replace(current.loop, groups=groups) if groups else current.loop
        self.last = Run(time.time(), dry)
        self._task = asyncio.get_running_loop().create_task(
            self._guarded(self.last, current, loop, partial=bool(groups))
        )
        return self.last

    async def stop(self) -> None:
        """End the run that is under way; the next one goes on where it was."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def renew(self, user: str) -> str:
        """Enrol one person anew with what the directory says now; tell the id. Raises Stopped or Unavailable."""
        current = self._host.current
        if current is None or current.rules.provisioning is None:
            raise Stopped("[starling_auto_provision] is not configured")
        directory, rule = _directory(current), current.rules.provisioning
        seconds = current.rules.directory.timeout if current.rules.directory else 0.0
        person = await self._host.pools.directory.run(seconds + 1.0, directory.person, user, _attributes(rule), seconds)
        if person is None:
            raise Stopped("the directory does not know this user")
        member = await self._member(person, rule)
        if member.contact is None:
            raise Stopped(member.flaw)
        await self._store(self._host.store.forget_enrolment, member.user)
        return await self._create(current, member.user, member.contact)

    async def _guarded(self, run: Run, current: Current, loop: Loop, *, partial: bool) -> None:
        try:
            await self._go(run, current, loop, partial=partial)
            run.outcome = "complete"
        except asyncio.CancelledError:
            run.outcome = "stopped; the next run goes on"
            raise
        except (Stopped, Unavailable) as why:
            run.outcome = str(why)
            log.warning("provisioning: %s", why)
        except Exception:
            run.outcome = "internal error; the daemon's log has it"
            log.exception("a bug ended a provisioning run")
        finally:
            run.ended, run.phase = time.time(), "over"
            if not run.dry or run.outcome != "complete":
                self._host.audit.provisioning(run.outcome, run.tally.counts, complete=run.outcome == "complete")

    async def _go(self, run: Run, current: Current, loop: Loop, *, partial: bool) -> None:
        """Count first and act then: an answer that looks wrong must touch nobody."""
        store = self._host.store
        state = await self._store(store.provisioning_state)
        async with aclosing(self._pages(current, loop)) as pages:
            async for page in pages:
                run.expected += len(page)
        if not partial and (wrong := looks_wrong(run.expected, state.members, loop.max_shrink)):
            raise Stopped(wrong)
        run.phase = "comparing" if run.dry else "working"
        if not run.dry and not partial:
            await self._store(store.save_provisioning_state, replace(state, started=run.started, complete=False))
        async with aclosing(self._pages(current, loop)) as pages:
            async for page in pages:
                await self._work(run, current, loop, page)
        if not partial:
            await self._leavers(run, loop)
        if not run.dry and not partial:
            done = replace(state, started=run.started, complete=True, members=run.tally.members)
            await self._store(store.save_provisioning_state, done)

    async def _pages(self, current: Current, loop: Loop) -> AsyncGenerator[tuple[Person, ...], None]:
        """Go through the members of the groups; each page is read in the directory's pool."""
        rule = current.rules.provisioning
        seconds = current.rules.directory.timeout if current.rules.directory else 0.0
        pages = iter(_directory(current).people(loop.groups, _attributes(rule) if rule else (), PAGE))
        workers = self._host.pools.directory
        try:
            while (page := await workers.run(seconds * 2 + 1.0, next, pages, None)) is not None:
                yield page
        finally:
            close = getattr(pages, "close", None)
            if close is not None:
                await workers.run(seconds + 1.0, close)

    async def _work(self, run: Run, current: Current, loop: Loop, page: Iterable[Person]) -> None:
        rule = current.rules.provisioning
        if rule is None:
            return
        members = [await self._member(person, rule) for person in page]
        users = [member.user for member in members]
        kept = await self._store(self._host.store.enrolments_of, users)
        for member in members:
            run.tally.members += 1
            difference = compare(member, kept.get(member.user))
            run.note(difference)
            if not run.dry:
                await self._act(run, current, loop, member, difference)
        if not run.dry:
            await self._store(self._host.store.mark_seen, users, run.started)

    async def _act(self, run: Run, current: Current, loop: Loop, member: Member, difference: Difference) -> None:
        rule = current.rules.provisioning
        if difference.action is Action.UNBLOCK:
            await self._store(self._host.store.block, [member.user], blocked=False)
        again = difference.action is Action.CHANGED and rule is not None and rule.on_change is OnChange.REPROVISION
        if (difference.action is not Action.CREATE and not again) or member.contact is None:
            return
        await asyncio.sleep(60.0 / loop.rate_limit)
        while True:
            try:
                await self._create(current, member.user, member.contact)
            except Unavailable as outage:
                if outage.fault is not Fault.RATE_LIMITED:
                    self._failed(run, loop, member.user, outage)
                    return
                await asyncio.sleep(outage.retry_after or RETRY)
            except Stopped as refused:
                self._failed(run, loop, member.user, refused)
                return
            else:
                return

    def _failed(self, run: Run, loop: Loop, user: str, why: Exception) -> None:
        run.errors += 1
        log.warning("provisioning: %s: %s", user, why)
        if run.errors >= loop.max_errors:
            raise Stopped(f"{run.errors} errors, the last one: {why}")

    async def _create(self, current: Current, user: str, contact: Contact) -> str:
        """Enrol one person; the service returns the same id for a contact that it knows."""
        seconds = current.call_timeout
        identity = await self._host.pools.provider.run(seconds + 1.0, current.provider.enrol, contact, seconds)
        if identity is None:
            raise Stopped("the service does not take the number or the address")
        made = Enrolment(user, identity, contact.phone, contact.email, time.time())
        if await self._store(self._host.store.save_enrolment, made) != user:
            raise Stopped("the service's id is bound to another user")
        self._host.audit.enrolment(user, identity)
        return identity

    async def _leavers(self, run: Run, loop: Loop) -> None:
        """Report, and block where the rules say so, who was in the groups and is no more."""
        left = await self._store(self._host.store.not_seen_since, run.started)
        for user in left:
            run.note(Difference(user, Action.BLOCK, "is in none of the groups any more"))
        if left and not run.dry and loop.on_leaving is OnLeaving.BLOCK:
            await self._store(self._host.store.block, left, blocked=True)

    async def _member(self, person: Person, rule: Rule) -> Member:
        account = await self._host.pools.accounts.run(NSS_WAIT, self._host.accounts.look_up, person.name)
        contact = self._host.enrolments.contact(person, rule)
        user = account.name if account else person.name
        if isinstance(contact, Contact):
            return Member(user, contact)
        return Member(user, None, contact.note or "number or address is missing")

    async def _store(self, call: Any, *arguments: object, **named: object) -> Any:  # noqa: ANN401  as the call says
        return await self._host.pools.store.run(STORE_WAIT, call, *arguments, **named)


def _directory(current: Current) -> Any:  # noqa: ANN401  a Directory
    if current.directory is None:
        raise Stopped("no directory is configured")
    return current.directory


def _attributes(rule: Rule) -> tuple[str, ...]:
    return (rule.email_attribute, rule.phone_attribute, rule.display_name_attribute)
