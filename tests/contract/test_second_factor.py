"""What every SecondFactor keeps to, asked of the fake and of each adapter against its service."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from starlingd.core.model import Check, NotStarted, Push, PushStatus, Started
from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.worlds import World

PATIENCE = 10.0
PUSH = Push("Login to heron", (("Gateway", "heron.example"), ("Client IP", "192.0.2.7"), ("Number", "42")), 60)


def outage_of(call: Callable[[], object]) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        call()
    return caught.value


def push_of(world: World, person: str) -> str:
    started = world.provider.start_push(world.identities[person], PUSH, PATIENCE)
    assert isinstance(started, Started)
    assert started.request
    return started.request


def wrong(code: str) -> str:
    return code[:-1] + ("1" if code[-1] == "0" else "0")


def test_the_right_code_is_right(world: World) -> None:
    assert world.provider.verify(world.identities["never"], world.code_of("never"), PATIENCE) is Check.RIGHT


def test_another_code_is_wrong(world: World) -> None:
    code = wrong(world.code_of("never"))
    assert world.provider.verify(world.identities["never"], code, PATIENCE) is Check.WRONG


def test_a_code_is_good_for_its_owner_only(world: World) -> None:
    assert world.provider.verify(world.identities["unknown"], world.code_of("never"), PATIENCE) is Check.NOT_ENROLLED


@pytest.mark.parametrize("identity", ["", ".", "..", "../Users", "a/b", "a?b=c#d", "%2e%2e", "zoë", "\x00", "x" * 300])
def test_an_identity_that_nobody_has_is_not_enrolled(world: World, identity: str) -> None:
    assert world.provider.verify(identity, "123456", PATIENCE) is Check.NOT_ENROLLED
    assert world.provider.start_push(identity, PUSH, PATIENCE) is NotStarted.NOT_ENROLLED


def test_somebody_unknown_gets_no_push(world: World) -> None:
    assert world.provider.start_push(world.identities["unknown"], PUSH, PATIENCE) is NotStarted.NOT_ENROLLED


@pytest.mark.parametrize(
    ("person", "status"),
    [
        ("approves", PushStatus.APPROVED),
        ("denies", PushStatus.DENIED),
        ("expires", PushStatus.EXPIRED),
        ("never", PushStatus.PENDING),
        ("strange", PushStatus.UNKNOWN),
    ],
)
def test_a_push_tells_how_it_stands(world: World, person: str, status: PushStatus) -> None:
    assert world.provider.check_push(push_of(world, person), PATIENCE) is status


def test_two_pushes_are_two_requests(world: World) -> None:
    assert push_of(world, "never") != push_of(world, "never")


def test_a_request_that_never_was_is_over(world: World) -> None:
    assert world.provider.check_push("never/was", PATIENCE) is PushStatus.EXPIRED


def test_an_outage_passes(world: World) -> None:
    identity, code = world.identities["broken-once"], world.code_of("broken-once")
    assert outage_of(lambda: world.provider.verify(identity, code, PATIENCE)).fault is Fault.BROKEN
    assert world.provider.verify(identity, code, PATIENCE) is Check.RIGHT


@pytest.mark.parametrize(
    ("person", "fault"),
    [
        ("malformed", Fault.BROKEN),
        ("limited-seconds", Fault.RATE_LIMITED),
        ("limited-date", Fault.RATE_LIMITED),
        ("resets", Fault.UNREACHABLE),
    ],
)
def test_each_kind_of_outage_is_told_apart(world: World, person: str, fault: Fault) -> None:
    outage = outage_of(lambda: world.provider.start_push(world.identities[person], PUSH, PATIENCE))
    assert outage.fault is fault
    assert (0 < outage.retry_after < 60) if fault is Fault.RATE_LIMITED else outage.retry_after == 0


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_without_time_there_is_no_answer_and_the_service_is_not_to_blame(world: World, timeout: float) -> None:
    identity, code = world.identities["approves"], world.code_of("approves")
    assert outage_of(lambda: world.provider.verify(identity, code, timeout)).fault is not Fault.UNREACHABLE
    assert outage_of(lambda: world.provider.start_push(identity, PUSH, timeout)).fault is not Fault.UNREACHABLE


def test_many_threads_may_ask_at_once(world: World) -> None:
    requests = [push_of(world, person) for person in ("approves", "denies", "never")]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda request: world.provider.check_push(request, PATIENCE), requests * 32))
    assert answers == [PushStatus.APPROVED, PushStatus.DENIED, PushStatus.PENDING] * 32
