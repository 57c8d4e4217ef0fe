"""The provisioning loop beside fakes: who is enrolled, who is left alone, and what a wrong directory cannot do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from starlingd.core.directory import Person
from starlingd.core.enrolment import Contact, Enrolment, LoopState
from starlingd.core.provisioning import Action, Loop, Member, OnLeaving, compare, is_work, looks_wrong
from starlingd.core.rules import OnChange, Provisioning, Rules
from starlingd.ports import Fault, Unavailable
from starlingd.server import provisioning
from starlingd.server.enrolments import Service
from starlingd.server.provisioning import ProvisioningLoop, Run, Stopped
from tests.daemon_under_test import Bastion, on_bastion
from tests.fakes_directory import POLICY, FakeDirectory, FakeGroup

RULE = Provisioning("mail", "mobile")
RULES = Rules(provisioning=RULE, directory=POLICY)
LOOP = Loop(("staff",), rate_limit=10**7)
CONTACT = Contact("+442079460001", "ann@example.org")
KEPT = Enrolment("ann", "7", CONTACT.phone, CONTACT.email, made=1.0)
PATIENCE = 10.0
NOW = 1_700_000_000.0
TEAM = tuple(f"person-{number}" for number in range(10))


def someone(name: str, number: int = 0, **attributes: tuple[str, ...]) -> Person:
    """Make a person with an address and a number that are theirs alone."""
    number = number or 1 + int(name.rpartition("-")[2] or 0) if "-" in name else number
    told = {"mail": (f"{name}@example.org",), "mobile": (f"+44 20 7946 {number:04}",), **attributes}
    return Person(name, f"uid={name}", attributes=told)


@dataclass
class Watched(FakeDirectory):
    """A directory that knows how many searches are open; ``held`` keeps a page from coming while it is cleared."""

    open: int = 0
    reading: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.held.set()

    def people(self, groups: Sequence[str], attributes: Sequence[str], page: int) -> Iterator[tuple[Person, ...]]:
        """Go through people, and notice the end."""
        self.open += 1
        try:
            for people in super().people(groups, attributes, page):
                self.reading.set()
                assert self.held.wait(PATIENCE)
                yield people
        finally:
            self.open -= 1

    def staff(self, *names: str) -> None:
        """Have exactly these people, all of them in the group."""
        self.everybody = tuple(someone(name) for name in names)
        self.groups = (FakeGroup("staff", "cn=staff", frozenset(names)),)


class World:
    """A bastion with a directory and a loop."""

    def __init__(self, bastion: Bastion, loop: Loop) -> None:
        self.bastion = bastion
        self.store = bastion.store
        self.directory = Watched()
        assert bastion.host.current
        bastion.host.current = replace(bastion.host.current, directory=self.directory, loop=loop)
        self.loop = ProvisioningLoop(bastion.host)

    async def ran(self, *groups: str, accept_shrink: bool = False) -> Run:
        """Run to the end."""
        return await ended(self.loop.start(dry=False, groups=groups, accept_shrink=accept_shrink))

    async def planned(self, *groups: str) -> Run:
        """Plan to the end."""
        return await ended(self.loop.plan(groups))

    @property
    def enrolled(self) -> list[str]:
        """Tell what the service was asked to enrol."""
        return [call for call in self.bastion.provider.calls if call.startswith("enrol")]

    @property
    def blocked(self) -> list[str]:
        """Tell who is blocked."""
        return [kept.user for kept in self.store.enrolments() if kept.blocked]


def in_world(test: Callable[[World], Awaitable[None]], rules: Rules = RULES, loop: Loop = LOOP) -> None:
    """Run a test in a world, and end what it left under way."""

    async def run(bastion: Bastion) -> None:
        world = World(bastion, loop)
        try:
            await test(world)
        finally:
            world.directory.held.set()
            await world.loop.close()

    on_bastion(run, rules)


async def ended(run: Run) -> Run:
    """Wait for the end of a run."""
    await until(lambda: bool(run.outcome))
    return run


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  a condition is no event
            await asyncio.sleep(0.005)


# What is to be done


@pytest.mark.parametrize(
    ("kept", "action"),
    [
        (None, Action.CREATE),
        (KEPT, Action.NOTHING),
        (replace(KEPT, phone="+442079460002"), Action.CHANGED),
        (replace(KEPT, email="ann@example.net"), Action.CHANGED),
        (replace(KEPT, blocked=True), Action.UNBLOCK),
        (replace(KEPT, blocked=True, phone="+442079460002"), Action.CHANGED),
        (replace(KEPT, disowned=1000.0), Action.NOTHING),
        (replace(KEPT, disowned=1000.0 - RULE.forget_after - 1), Action.CREATE),
    ],
)
def test_each_member_is_compared_with_what_is_kept(kept: Enrolment | None, action: Action) -> None:
    assert compare(Member("ann", CONTACT), kept, RULE, 1000.0).action is action


def test_who_has_no_usable_contact_is_reported_with_the_reason_whatever_is_kept() -> None:
    for kept in (None, KEPT, replace(KEPT, blocked=True)):
        found = compare(Member("ann", None, "mobile is no telephone number"), kept, RULE, 1000.0)
        assert (found.action, found.note) == (Action.UNUSABLE, "mobile is no telephone number")


def test_a_changed_number_is_work_only_where_the_rules_say_reprovision() -> None:
    assert not is_work(Action.CHANGED, RULE)
    assert is_work(Action.CHANGED, replace(RULE, on_change=OnChange.REPROVISION))
    working = {action for action in Action if is_work(action, RULE)}
    assert working == {Action.CREATE, Action.UNBLOCK}


@pytest.mark.parametrize(
    ("members", "before", "leaving", "wrong"),
    [
        (0, 0, 0, True),
        (0, 10, 0, True),
        (1, 0, 0, False),
        (8, 10, 2, False),
        (7, 10, 0, True),
        (10, 10, 2, False),
        (10, 10, 3, True),
        (30, 10, 0, False),
        (3, 0, 3, False),
    ],
)
def test_an_answer_is_wrong_when_it_is_empty_or_shrunk_or_about_others(
    members: int, before: int, leaving: int, *, wrong: bool
) -> None:
    assert bool(looks_wrong(members, before, leaving, 0.2)) is wrong


# Runs


def test_a_run_enrols_who_is_missing_and_the_next_one_nobody() -> None:
    async def test(world: World) -> None:
        world.directory.staff(*TEAM)
        run = await world.ran()
        assert run.outcome == "complete"
        assert (run.todo, run.done, run.tally.members) == (10, 10, 10)
        assert len(world.enrolled) == len(set(world.enrolled)) == 10
        assert {kept.user for kept in world.store.enrolments()} == set(TEAM)
        assert world.store.loop == LoopState(run.started, complete=True, members=10)
        again = await world.ran()
        assert again.tally.counts == {Action.NOTHING: 10}
        assert len(world.enrolled) == 10
        assert len(world.bastion.events("enrolment")) == 10

    in_world(test)


def test_more_people_than_a_batch_are_enrolled_with_no_search_open_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provisioning, "BATCH", 3)
    monkeypatch.setattr(provisioning, "PAGE", 4)

    async def test(world: World) -> None:
        world.directory.staff(*TEAM)
        open_searches: list[int] = []
        enrol = world.bastion.provider.enrol

        def enrolling(contact: Contact, timeout: float) -> str | None:
            open_searches.append(world.directory.open)
            return enrol(contact, timeout)

        world.bastion.provider.enrol = enrolling  # type: ignore[method-assign]
        run = await world.ran()
        assert run.outcome == "complete"
        assert open_searches == [0] * 10
        assert len(set(world.enrolled)) == 10
        assert (len(run.differences), run.told()["not_shown"]) == (3, 7)
        assert [call for call in world.directory.calls if call[0] == "people"] == [("people", "staff")] * 4

    in_world(test)


def test_a_plan_changes_nothing_and_says_who_would_be_enrolled_and_who_has_left() -> None:
    async def test(world: World) -> None:
        world.directory.staff(*TEAM)
        assert (await world.planned()).tally.counts == {Action.CREATE: 10}
        assert not world.store.enrolments()
        assert not world.enrolled
        await world.ran()
        assert (await world.planned()).tally.counts == {Action.NOTHING: 10}
        world.directory.staff(*TEAM[1:], "person-20")
        plan = await world.planned()
        assert {found.user: found.action for found in plan.differences} == {
            "person-20": Action.CREATE,
            "person-0": Action.LEFT,
        }
        assert not world.blocked
        assert not world.bastion.events("provisioning")[1:]

    in_world(test)


@pytest.mark.parametrize(("on_leaving", "blocked"), [(OnLeaving.KEEP, []), (OnLeaving.BLOCK, ["person-0"])])
def test_who_left_is_blocked_where_the_rules_say_so_and_let_in_again_on_return(
    on_leaving: OnLeaving, blocked: list[str]
) -> None:
    async def test(world: World) -> None:
        world.directory.staff(*TEAM)
        await world.ran()
        world.directory.staff(*TEAM[1:])
        run = await world.ran()
        [found] = run.differences
        assert (found.user, found.action) == ("person-0", Action.BLOCK if blocked else Action.LEFT)
        assert world.blocked == blocked
        world.directory.staff(*TEAM)
        await world.ran()
        assert not world.blocked
        assert len(world.enrolled) == 10

    in_world(test, loop=replace(LOOP, on_leaving=on_leaving))


def test_a_run_of_some_groups_makes_nobody_of_the_others_a_leaver() -> None:
    async def test(world: World) -> None:
        world.directory.staff(*TEAM)
        await world.ran()
        state = world.store.loop
        night = FakeGroup("night", "cn=night", frozenset({"person-20"}))
        world.directory.everybody = (*world.directory.everybody, someone("person-20"))
        world.directory.groups = (*world.directory.groups, night)
        run = await world.ran("night")
        assert run.tally.counts == {Action.CREATE: 1}
        assert world.store.loop == state
        after = await world.ran()
        assert after.tally.counts == {Action.NOTHING: 10}
        assert not world.blocked

    in_world(test, loop=replace(LOOP, on_leaving=OnLeaving.BLOCK))


@pytest.mark.parametrize("left", [(), TEAM[:7], tuple(f"person-{number}" for number in range(20, 30))])
def test_an_answer_that_looks_wrong_touches_nobody_and_is_an_audit_event(left: tuple[str, ...]) -> None:
    async def test(world: World) -> None:
        world.directory.staff(*TEAM)
        await world.ran()
        state, kept = world.store.loop, {each.user: each.identity for each in world.store.enrolments()}
        world.directory.staff(*left)
        run = await world.ran()
        assert run.outcome.startswith("the directory says")
        assert len(world.enrolled) == 10
        assert not world.blocked
        assert {each.user: each.identity for each in world.store.enrolments()} == kept
        assert world.store.loop == state
        event = world.bastion.events("provisioning")[-1]
        assert (event["STARLING_OUTCOME"], event["WARNING"]) == ("deny", "True")
        accepted = await world.ran(accept_shrink=True)
        assert (accepted.outcome == "complete") is bool(left)

    in_world(test, loop=replace(LOOP, on_leaving=OnLeaving.BLOCK))


def test_a_directory_that_fails_in_the_middle_touches_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provisioning, "PAGE", 4)

    async def test(world: World) -> None:
        world.directory.staff(*TEAM)
        world.directory.held.clear()
        run = world.loop.start(dry=False)
        await until(world.directory.reading.is_set)
        world.directory.outage = Unavailable("directory", Fault.UNREACHABLE, "gone")
        world.directory.held.set()
        assert "gone" in (await ended(run)).outcome
        assert not world.enrolled
        assert world.store.loop == LoopState()

    in_world(test)


def test_too_many_requests_are_waited_for_and_other_errors_end_the_run_after_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(provisioning, "RETRY", 0.01)

    async def test(world: World) -> None:
        world.directory.staff(*TEAM)
        world.bastion.provider.outage = Unavailable("starling", Fault.RATE_LIMITED, "429")
        run = world.loop.start(dry=False)
        await until(lambda: len(world.enrolled) >= 3)
        assert len(set(world.enrolled)) == 1
        assert run.errors == 0
        world.bastion.provider.outage = Unavailable("starling", Fault.UNREACHABLE, "gone")
        assert "3 errors" in (await ended(run)).outcome
        assert not world.store.loop.complete
        world.bastion.provider.outage = None
        assert (await world.ran()).outcome == "complete"
        assert len(world.store.enrolments()) == 10

    in_world(test, loop=replace(LOOP, max_errors=3))


def test_one_whom_the_service_does_not_take_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provisioning, "BATCH", 4)

    async def test(world: World) -> None:
        world.directory.staff(*TEAM)
        enrol = world.bastion.provider.enrol
        refused = "+442079460003"

        def enrolling(contact: Contact, timeout: float) -> str | None:
            identity = enrol(contact, timeout)
            return None if contact.phone == refused else identity

        world.bastion.provider.enrol = enrolling  # type: ignore[method-assign]
        run = await world.ran()
        assert (run.outcome, run.failed) == ("complete", {"person-2"})
        assert len(world.store.enrolments()) == 9
        assert world.enrolled.count(f"enrol {refused}") == 1

    in_world(test)


def test_an_id_that_is_somebody_elses_stays_theirs() -> None:
    async def test(world: World) -> None:
        world.directory.staff(*TEAM)
        theirs = replace(KEPT, user="zoe", identity="442079460001")
        world.store.save_enrolment(theirs)
        run = await world.ran()
        assert run.failed == {"person-0"}
        assert world.store.enrolment("zoe") == theirs
        assert world.store.enrolment("person-0") is None

    in_world(test)


def test_two_people_of_one_name_are_enrolled_neither_one_nor_the_other() -> None:
    async def test(world: World) -> None:
        world.directory.staff(*TEAM)
        world.directory.everybody = (*world.directory.everybody, someone("person-0", mobile=("+44 20 7946 0999",)))
        run = await world.ran()
        assert run.failed == {"person-0"}
        assert world.store.enrolment("person-0") is None
        assert len(world.store.enrolments()) == 9

    in_world(test)


@pytest.mark.parametrize(
    ("on_change", "phone"), [(OnChange.REFUSE, "+442079460001"), (OnChange.REPROVISION, "+442079460999")]
)
def test_a_changed_number_is_reported_and_followed_only_where_the_rules_say_so(on_change: OnChange, phone: str) -> None:
    async def test(world: World) -> None:
        world.directory.staff(*TEAM)
        await world.ran()
        changed = someone("person-0", mobile=("+44 20 7946 0999",))
        world.directory.everybody = (changed, *world.directory.everybody[1:])
        run = await world.ran()
        assert {found.user: found.action for found in run.differences} == {"person-0": Action.CHANGED}
        kept = world.store.enrolment("person-0")
        assert kept is not None
        assert kept.phone == phone

    in_world(test, replace(RULES, provisioning=replace(RULE, on_change=on_change)))


# Stopping and starting


def test_a_stopped_run_is_gone_on_with_and_the_loop_rests_first() -> None:
    async def test(world: World) -> None:
        world.directory.staff(*TEAM)
        world.bastion.provider.outage = Unavailable("starling", Fault.RATE_LIMITED, "429")
        run = world.loop.start(dry=False)
        await until(lambda: bool(world.enrolled))
        await world.loop.stop()
        assert run.outcome.startswith("stopped")
        assert not world.store.loop.complete
        rests = world.loop._rests_until - time.monotonic()  # noqa: SLF001
        assert LOOP.interval - 5 < rests <= LOOP.interval
        world.bastion.provider.outage = None
        world.bastion.provider.calls.clear()
        assert (await world.ran()).outcome == "complete"
        assert len(set(world.enrolled)) == len(world.enrolled) == 10

    in_world(test)


def test_a_run_that_is_stopped_while_a_page_is_read_ends_at_once_and_closes_its_search() -> None:
    async def test(world: World) -> None:
        world.directory.staff(*TEAM)
        world.directory.held.clear()
        run = world.loop.start(dry=False)
        await until(world.directory.reading.is_set)
        stopping = asyncio.create_task(world.loop.stop())
        await asyncio.sleep(0.05)
        world.directory.held.set()
        await stopping
        assert run.outcome.startswith("stopped")
        await until(lambda: world.directory.open == 0)

    in_world(test)


@pytest.mark.parametrize("dry_run", [False, True])
def test_the_loop_starts_what_is_due_and_what_failed_only_after_a_pause(
    monkeypatch: pytest.MonkeyPatch, *, dry_run: bool
) -> None:
    monkeypatch.setattr(provisioning, "CHECK_INTERVAL", 0.01)

    async def test(world: World) -> None:
        world.directory.outage = Unavailable("directory", Fault.UNREACHABLE, "gone")
        looping = asyncio.create_task(world.loop.run())
        try:
            await until(lambda: world.loop.runs.last is not None)
            first = world.loop.runs.last
            assert first is not None
            await ended(first)
            await asyncio.sleep(0.1)
            assert world.loop.runs.last is first
            world.loop._rests_until = 0.0  # noqa: SLF001
            await until(lambda: world.loop.runs.last is not first)
            assert first.dry is dry_run
        finally:
            looping.cancel()

    in_world(test, loop=replace(LOOP, dry_run=dry_run))


@pytest.mark.parametrize(
    ("state", "due"),
    [
        (LoopState(), True),
        (LoopState(NOW - 1, complete=False), True),
        (LoopState(NOW - 1), False),
        (LoopState(NOW - LOOP.interval), True),
        (LoopState(NOW + 1), True),
    ],
)
def test_a_run_is_due_when_one_is_old_or_broken_off_or_of_the_future(state: LoopState, *, due: bool) -> None:
    assert provisioning._is_due(LOOP, state, NOW) is due  # noqa: SLF001


def test_a_plan_neither_stops_a_run_nor_waits_for_it() -> None:
    async def test(world: World) -> None:
        world.directory.staff(*TEAM)
        world.bastion.provider.outage = Unavailable("starling", Fault.RATE_LIMITED, "429")
        run = world.loop.start(dry=False)
        await until(lambda: bool(world.enrolled))
        plan = await world.planned()
        assert plan.outcome == "complete"
        assert not run.outcome
        assert world.loop.start(dry=False) is run

    in_world(test)


def test_nothing_starts_where_nothing_is_configured() -> None:
    async def test(world: World) -> None:
        current = world.bastion.host.current
        assert current is not None
        for broken in (
            None,
            replace(current, loop=None),
            replace(current, directory=None),
            replace(current, rules=replace(RULES, provisioning=None)),
        ):
            world.bastion.host.current = broken
            with pytest.raises(Stopped, match="configured"):
                world.loop.start(dry=False)

    in_world(test)


# One person


def test_a_login_and_the_loop_ask_the_service_once() -> None:
    async def test(world: World) -> None:
        world.directory.staff("person-0")
        enrolments, current = world.bastion.host.enrolments, world.bastion.host.current
        assert current is not None
        service = Service(current.provider, world.bastion.host.pools.provider, 5.0)
        person = someone("person-0")
        logins = [enrolments.of("person-0", person, RULE, service) for _ in range(5)]
        run, *told = await asyncio.gather(world.ran(), *logins)
        assert isinstance(run, Run)
        assert run.outcome == "complete"
        assert {each.identity for each in told if not isinstance(each, Run)} == {"442079460001"}
        assert len(world.enrolled) == 1

    in_world(test)


def test_to_renew_replaces_the_enrolment_only_when_there_is_a_new_one() -> None:
    async def test(world: World) -> None:
        world.directory.staff("alice")
        world.directory.everybody = (someone("alice", 7),)
        old = replace(KEPT, user="alice", blocked=True, disowned=5.0, seen=5.0)
        world.store.save_enrolment(old)
        world.bastion.provider.outage = Unavailable("starling", Fault.UNREACHABLE, "gone")
        with pytest.raises(Unavailable, match="gone"):
            await world.loop.renew("alice")
        assert world.store.enrolment("alice") == old
        world.bastion.provider.outage = None
        assert await world.loop.renew("ALICE") == "442079460007"
        kept = world.store.enrolment("alice")
        assert kept is not None
        assert (kept.phone, kept.blocked, kept.disowned, kept.seen) == ("+442079460007", False, 0.0, 0.0)
        with pytest.raises(Stopped, match="does not know"):
            await world.loop.renew("nobody")

    in_world(test)


def test_to_look_tells_how_one_person_stands() -> None:
    async def test(world: World) -> None:
        world.directory.staff("person-0")
        found, kept = await world.loop.look("person-0")
        assert (found.action, kept) == (Action.CREATE, None)
        await world.ran()
        found, kept = await world.loop.look("person-0")
        assert found.action is Action.NOTHING
        assert kept is not None

    in_world(test)
