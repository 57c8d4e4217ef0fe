"""Waiting: a service that asks to wait is obeyed within the deadline, and no push outlives the login that sent it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starlingd.core.conversation import converse
from starlingd.core.model import Check, Fault, PushStatus, Reason, Result, Unavailable
from starlingd.core.rules import Rules
from starlingd.core.secondfactor import SHORTEST_PUSH, VERDICT_TIME
from starlingd.core.sentences import TIME_UP
from starlingd.core.steps import Ask, CheckPush, LookUp, Pause, StartPush, Verify
from tests.unit.script import (
    ALICE,
    DEADLINE,
    FACTS,
    LOGIN,
    RIGHT,
    START,
    STARTED,
    Line,
    Took,
    World,
    play,
    rate_limited,
)

RULES = Rules()
ASKED: list[Line] = [
    (LookUp("alice"), ALICE),
    (Ask("Press Enter for push notification (number 42) or type one-time password: ", echo=True), RIGHT),
]
VERIFY = Verify("alice", "alice", RIGHT)
LONGEST_WAIT = DEADLINE - VERDICT_TIME - START


def pauses(world: World) -> list[float]:
    """Tell how long the conversation waited each time it did."""
    return [step.seconds for step in world.of(Pause) if step.seconds]


# A code


@pytest.mark.parametrize("wait", [0.5, 1.0, 30.0, LONGEST_WAIT])
def test_a_code_is_checked_again_after_the_time_the_service_asked_for(wait: float) -> None:
    verdict = play(
        converse(LOGIN, FACTS, RULES),
        *ASKED,
        (VERIFY, rate_limited(wait)),
        (Pause(0.0), None),
        (Pause(wait), None),
        (VERIFY, Check.RIGHT),
    )
    assert verdict.lets_in


@pytest.mark.parametrize("wait", [LONGEST_WAIT + 0.5, 3600.0, float("inf"), float("nan"), 0.0, -1.0])
def test_a_wait_beyond_the_deadline_or_of_no_length_is_not_begun(wait: float) -> None:
    verdict = play(converse(LOGIN, FACTS, RULES), *ASKED, (VERIFY, rate_limited(wait)), (Pause(0.0), None))
    assert (verdict.reason, verdict.result) == (Reason.RATE_LIMITED, Result.AUTH_ERR)


def test_what_a_slow_429_took_is_not_there_to_be_waited() -> None:
    slow = Took(50.0, rate_limited(LONGEST_WAIT - 49))
    verdict = play(converse(LOGIN, FACTS, RULES), *ASKED, (VERIFY, slow), (Pause(0.0), None))
    assert verdict.reason is Reason.RATE_LIMITED


def test_a_service_that_asks_twice_to_wait_is_obeyed_once() -> None:
    world = World(answers=[RIGHT], checks=[rate_limited(2)])
    assert world.run(converse(LOGIN, FACTS, RULES)).reason is Reason.RATE_LIMITED
    assert len(world.of(Verify)) == 2


@pytest.mark.parametrize("fault", set(Fault) - {Fault.RATE_LIMITED})
def test_only_429_is_a_request_to_wait(fault: Fault) -> None:
    failed = Unavailable("starling", fault, "with a Retry-After", 3.0)
    for world in (World(answers=[RIGHT], checks=[failed]), World(answers=[""], starts=[failed])):
        assert not world.run(converse(LOGIN, FACTS, RULES)).lets_in
        assert pauses(world) == []


# A push's start


def test_a_push_is_sent_again_after_the_wait_and_lives_only_as_long_as_is_left() -> None:
    world = World(answers=[""], starts=[rate_limited(20), STARTED], statuses=[PushStatus.APPROVED], call_takes=0.5)
    assert world.run(converse(LOGIN, FACTS, RULES)).lets_in
    assert [step.push.lifetime for step in world.of(StartPush)] == [60, 39]


@pytest.mark.parametrize(("wait", "pushes"), [(55, 2), (56, 1), (61, 1)])
def test_nobody_waits_for_a_push_that_could_not_be_sent_any_more(wait: float, pushes: int) -> None:
    world = World(answers=[""], starts=[rate_limited(wait), STARTED])
    verdict = world.run(converse(LOGIN, FACTS, replace(RULES, max_attempts=1)))
    assert verdict.reason is (Reason.PUSH_TIMEOUT if pushes > 1 else Reason.RATE_LIMITED)
    assert len(world.of(StartPush)) == pushes


def test_no_phone_rings_twice_for_a_service_that_asks_to_wait_again() -> None:
    world = World(answers=[""], starts=[rate_limited(2)])
    assert world.run(converse(LOGIN, FACTS, RULES)).reason is Reason.RATE_LIMITED
    assert len(world.of(StartPush)) == 2


# A poll


def test_a_poll_waits_as_long_as_the_service_asks_where_that_is_longer_than_the_schedule() -> None:
    statuses: list[PushStatus | Exception] = [
        rate_limited(10),
        rate_limited(0.5),
        PushStatus.PENDING,
        PushStatus.APPROVED,
    ]
    world = World(answers=[""], statuses=statuses)
    assert world.run(converse(LOGIN, FACTS, RULES)).lets_in
    assert pauses(world) == [1, 10, 2, 2]


def test_a_poll_that_is_to_wait_longer_than_the_push_lives_comes_once_more_at_its_end() -> None:
    world = World(answers=[""], statuses=[rate_limited(3600), PushStatus.APPROVED])
    assert world.run(converse(LOGIN, FACTS, RULES)).lets_in
    assert pauses(world) == [1, 59]


def test_a_push_that_met_429_to_its_end_says_so() -> None:
    world = World(answers=[""], statuses=[rate_limited(25)])
    assert world.run(converse(LOGIN, FACTS, RULES)).reason is Reason.RATE_LIMITED
    assert len(world.of(CheckPush)) == 4


# The deadline


@pytest.mark.parametrize("left", [-10.0, 0.0, 1.0, 6.9])
def test_no_push_is_started_that_would_be_shorter_than_the_shortest(left: float) -> None:
    world = World(answers=[""], deadline=START + left)
    verdict = world.run(converse(replace(LOGIN, deadline=START + left), FACTS, RULES))
    assert (verdict.reason, verdict.result, verdict.sentence) == (Reason.DEADLINE, Result.AUTH_ERR, TIME_UP)
    assert world.of(StartPush) == []


@pytest.mark.parametrize(("left", "lifetime"), [(7.0, 5), (30.0, 28), (30.9, 28), (61.9, 59), (62.0, 60), (600.0, 60)])
def test_a_push_lives_whole_seconds_within_the_deadline_and_the_rules(left: float, lifetime: int) -> None:
    world = World(answers=[""], statuses=[PushStatus.APPROVED], deadline=START + left)
    world.run(converse(replace(LOGIN, deadline=START + left), FACTS, RULES))
    assert [step.push.lifetime for step in world.of(StartPush)] == [lifetime]


@settings(max_examples=300)
@given(
    left=st.floats(0, 700),
    timeout=st.integers(SHORTEST_PUSH + 1, 600),
    takes=st.floats(0, 20),
    interval=st.none() | st.integers(1, 60),
    replies=st.lists(st.just(STARTED) | st.floats(0, 120).map(rate_limited), min_size=1, max_size=3),
)
def test_a_push_is_never_shorter_than_the_shortest_nor_waited_for_past_its_time(
    left: float, timeout: int, takes: float, interval: int | None, replies: list[object]
) -> None:
    world = World(answers=[""], starts=replies, call_takes=takes, deadline=START + left)  # type: ignore[arg-type]
    rules = replace(RULES, push_timeout=timeout, poll_interval=interval)
    world.run(converse(replace(LOGIN, deadline=START + left), FACTS, rules))
    latest = min(START + timeout, START + left - VERDICT_TIME)
    for step, at in world.steps:
        if isinstance(step, StartPush):
            assert SHORTEST_PUSH <= step.push.lifetime <= latest - at
    late = [at for step, at in world.steps if isinstance(step, CheckPush) and at > latest + 1e-6]
    assert not late or len(world.of(CheckPush)) == 1, "only a start that took too long leaves its one poll late"
