"""The Starling provider against the Starling-shaped service: what goes beyond the contract of SecondFactor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from starlingd.core.model import Check, NotStarted, Push, PushStatus, Started
from starlingd.ports import Fault, Unavailable
from tests.contract.worlds import starling_at
from tests.sandbox.running import sandbox as start_sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlingd.adapters.starling import Starling
    from tests.sandbox.running import Sandbox

PATIENCE = 10.0
BRIEF = 0.3
PUSH = Push("Login to héron", (("Gateway", "heron.example"), ("Client IP", "192.0.2.7"), ("Number", "42")), 60)


@pytest.fixture
def starling(sandbox: Sandbox) -> Iterator[Starling]:
    sandbox.forget()
    with starling_at(sandbox) as made:
        yield made


def outage_of(call: Callable[[], object]) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        call()
    return caught.value


def request_of(started: Started | NotStarted) -> str:
    assert isinstance(started, Started)
    return started.request


def test_the_phone_shows_the_push_and_decides(sandbox: Sandbox, starling: Starling) -> None:
    identity = sandbox.users["manual"].id
    first, second = (request_of(starling.start_push(identity, PUSH, PATIENCE)) for _ in range(2))
    shown = {push["id"]: push for push in sandbox.pending()}[first]
    assert shown["message"] == "Login to héron"
    assert list(shown["details"].items()) == list(PUSH.details)
    assert starling.check_push(first, PATIENCE) is PushStatus.PENDING
    sandbox.approve(first)
    sandbox.deny(second)
    assert starling.check_push(first, PATIENCE) is PushStatus.APPROVED
    assert starling.check_push(second, PATIENCE) is PushStatus.DENIED


def test_an_id_that_is_a_number_is_its_decimal_text(sandbox: Sandbox, starling: Starling) -> None:
    request = request_of(starling.start_push(sandbox.users["numeric-ids"].id, PUSH, PATIENCE))
    assert request.isdigit()
    assert starling.check_push(request, PATIENCE) is PushStatus.APPROVED


def test_402_on_a_poll_is_an_expired_push(sandbox: Sandbox, starling: Starling) -> None:
    request = request_of(starling.start_push(sandbox.users["expires-by-402"].id, PUSH, PATIENCE))
    assert starling.check_push(request, PATIENCE) is PushStatus.EXPIRED


@pytest.mark.parametrize("name", ["unknown", "unknown-60016"])
def test_both_ways_of_not_knowing_a_user_are_not_enrolled(sandbox: Sandbox, starling: Starling, name: str) -> None:
    assert starling.verify(sandbox.users[name].id, "123456", PATIENCE) is Check.NOT_ENROLLED
    assert starling.start_push(sandbox.users[name].id, PUSH, PATIENCE) is NotStarted.NOT_ENROLLED


@pytest.mark.parametrize(("name", "fault"), [("503", Fault.UNREACHABLE), ("500", Fault.BROKEN), ("html", Fault.BROKEN)])
def test_a_right_code_does_not_make_up_for_a_bad_answer(
    sandbox: Sandbox, starling: Starling, name: str, fault: Fault
) -> None:
    """Not even if that answer has status 200: a network's sign-in page is none of the service's."""
    identity, code = sandbox.users[name].id, sandbox.code_for(name)
    assert outage_of(lambda: starling.verify(identity, code, PATIENCE)).fault is fault
    assert outage_of(lambda: starling.start_push(identity, PUSH, PATIENCE)).fault is fault


@pytest.mark.parametrize("name", ["429-seconds", "429-date"])
def test_a_429_says_for_how_long(sandbox: Sandbox, starling: Starling, name: str) -> None:
    outage = outage_of(lambda: starling.start_push(sandbox.users[name].id, PUSH, PATIENCE))
    assert outage.fault is Fault.RATE_LIMITED
    assert 0 < outage.retry_after <= 2
    assert isinstance(starling.start_push(sandbox.users[name].id, PUSH, PATIENCE), Started)


def test_a_token_revoked_in_between_is_renewed_without_anybody_noticing(sandbox: Sandbox, starling: Starling) -> None:
    user = sandbox.users["stale-token"]
    request = request_of(starling.start_push(user.id, PUSH, PATIENCE))
    assert starling.check_push(request, PATIENCE) is PushStatus.APPROVED
    assert starling.verify(user.id, sandbox.code_for("stale-token"), PATIENCE) is Check.RIGHT
    statuses = [entry["status"] for entry in sandbox.log() if "Users" in entry["path"] or "Approval" in entry["path"]]
    assert statuses == [200, 401, 200, 401, 200]


@pytest.mark.parametrize("name", ["slow", "black-hole"])
@pytest.mark.parametrize(
    ("http_timeout", "timeout", "fault"), [(BRIEF, 60.0, Fault.UNREACHABLE), (60.0, BRIEF, Fault.BROKEN)]
)
def test_a_slow_service_ends_with_the_call_s_time(
    sandbox: Sandbox, name: str, http_timeout: float, timeout: float, fault: Fault
) -> None:
    with starling_at(sandbox, http_timeout=http_timeout) as starling:
        began = time.monotonic()
        outage = outage_of(lambda: starling.verify(sandbox.users[name].id, sandbox.code_for(name), timeout))
        assert time.monotonic() - began < BRIEF + 1.0
    assert outage.fault is fault


def test_codes_reach_the_service_as_typed(sandbox: Sandbox, starling: Starling) -> None:
    assert starling.verify(sandbox.users["manual"].id, "00 0+0&%0", PATIENCE) is Check.WRONG
    assert {entry["code"] for entry in sandbox.log() if "code" in entry} == {"00 0+0&%0"}


@pytest.mark.parametrize("flaw", ["wrong-host", "expired", "self-signed"])
def test_no_bad_certificate_is_unreachable(flaw: str) -> None:
    with start_sandbox("--certificate", flaw) as sandbox, starling_at(sandbox) as starling:
        assert outage_of(lambda: starling.probe_token(PATIENCE)).fault is Fault.MISCONFIGURED
        assert outage_of(lambda: starling.verify("7", "123456", PATIENCE)).fault is Fault.MISCONFIGURED


def test_tls_1_2_is_enough() -> None:
    with start_sandbox("--tls-max", "1.2") as sandbox, starling_at(sandbox) as starling:
        assert starling.verify(sandbox.users["manual"].id, sandbox.code_for("manual"), PATIENCE) is Check.RIGHT


def test_a_service_that_went_away_is_unreachable() -> None:
    with start_sandbox() as sandbox, starling_at(sandbox) as starling:
        assert starling.verify(sandbox.users["manual"].id, sandbox.code_for("manual"), PATIENCE) is Check.RIGHT
        sandbox.stop()
        assert outage_of(lambda: starling.verify("7", "123456", PATIENCE)).fault is Fault.UNREACHABLE
        assert outage_of(lambda: starling.probe_token(PATIENCE)).fault is Fault.UNREACHABLE
