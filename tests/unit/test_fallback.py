"""Codes of this host stand in for a service that nobody can reach, and for nothing else."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from starlingd.core.directory import Person
from starlingd.core.enrolment import Enrolment
from starlingd.core.rules import (
    FailMode,
    Fallback,
    NotEnrolled,
    Provisioning,
    Rules,
    Unenrolled,
)
from starlingd.ports import Fault, Unavailable
from starlingd.server.control import hypothetical
from starlingd.server.explain import explain
from tests.daemon_under_test import Bastion, Connection
from tests.fakes_directory import POLICY, FakeDirectory
from tests.unit.local_codes import (
    BRIDGED,
    DOWN,
    NUMBERS,
    code,
    connect,
    prompts,
    run,
    told,
    wrong,
)


def down(bastion: Bastion) -> None:
    """Have nobody reach the service."""
    bastion.provider.outage = DOWN


@pytest.mark.parametrize("first", ["", "123456"])
def test_while_nobody_reaches_the_service_a_code_of_the_app_stands_in(first: str) -> None:
    async def test(bastion: Bastion) -> None:
        down(bastion)
        asked = await prompts(bastion, first, code())
        assert asked[1].startswith("The second-factor service cannot be reached. Code of your authenticator app, or")
        assert asked[-1] == "code_verified"
        event = bastion.events()[0]
        assert (event["STARLING_FACTOR"], event["STARLING_RULE"]) == ("totp", "auth.fallback")
        assert "unreachable" in event["STARLING_EVIDENCE"]

    run(test, BRIDGED)


def test_the_answer_that_found_the_service_unreachable_is_never_the_last() -> None:
    async def test(bastion: Bastion) -> None:
        down(bastion)
        assert (await told(bastion, "123456", code()))["reason"] == "code_verified"
        assert (await told(bastion, "123456", wrong()))["result"] == "maxtries"

    run(test, replace(BRIDGED, max_attempts=1))


def test_nothing_stands_in_for_a_service_whose_user_is_blocked_here() -> None:
    async def test(bastion: Bastion) -> None:
        [recovery, *_] = await bastion.host.local.make_recovery_codes("alice")
        bastion.store.enrolled["alice"] = Enrolment("alice", "555", "+1", "a@example.org", 1.0, blocked=True)
        down(bastion)
        done = await told(bastion, "123456", code(), recovery)
        assert (done["result"], done["reason"]) == ("maxtries", "wrong_code")

    run(test, replace(BRIDGED, explicit_mapping={"alice": "555"}))


def test_whoever_is_blocked_stays_so_without_a_number_in_the_directory() -> None:
    async def test(bastion: Bastion) -> None:
        bastion.store.enrolled["alice"] = Enrolment("alice", "555", "+1", "a@example.org", 1.0, blocked=True)
        assert bastion.host.current
        directory = FakeDirectory((Person("alice", "uid=alice"),))
        bastion.host.current = replace(bastion.host.current, directory=directory)
        assert (await told(bastion))["reason"] == "blocked"
        login = hypothetical({"user": "alice"})
        plan = await explain(bastion.host, bastion.host.current, login, bastion.host.moment())
        assert plan.reason == "blocked"

    run(test, replace(BRIDGED, directory=POLICY, provisioning=Provisioning("mail", "mobile")))


@pytest.mark.parametrize(
    ("fallback", "answer", "reason"),
    [
        ({Fallback.RECOVERY}, "app", "wrong_code"),
        ({Fallback.RECOVERY}, "recovery", "code_verified"),
        ({Fallback.TOTP}, "app", "code_verified"),
        ({Fallback.TOTP}, "recovery", "code_verified"),
    ],
)
def test_only_what_is_configured_stands_in(fallback: set[Fallback], answer: str, reason: str) -> None:
    async def test(bastion: Bastion) -> None:
        codes = await bastion.host.local.make_recovery_codes("alice")
        down(bastion)
        given = codes[0] if answer == "recovery" else code()
        assert (await told(bastion, "", given))["reason"] == reason

    run(test, replace(Rules(), fallback=frozenset(fallback), max_attempts=2))


@pytest.mark.parametrize(
    "outage",
    [
        Unavailable("starling", Fault.BROKEN, "500"),
        Unavailable("starling", Fault.MISCONFIGURED, "401"),
        Unavailable("starling", Fault.BUSY, "full"),
        Unavailable("store", Fault.UNREACHABLE, "odd"),
    ],
)
def test_no_other_outage_makes_a_code_of_this_host_count(outage: Unavailable) -> None:
    async def test(bastion: Bastion) -> None:
        bastion.provider.outage = outage
        assert (await told(bastion, "123456"))["result"] == "auth_err"

    run(test, BRIDGED)


def test_what_only_this_login_cannot_reach_is_no_reason_to_fall_back() -> None:
    async def test(bastion: Bastion) -> None:
        down(bastion)
        bastion.provider.probe_token = lambda timeout: None  # type: ignore[method-assign]  # noqa: ARG005
        assert (await told(bastion, "123456"))["reason"] == "unreachable"

    run(test, BRIDGED)


def test_a_code_that_the_service_refused_is_not_taken_here() -> None:
    async def test(bastion: Bastion) -> None:
        now = code()
        module = await connect(bastion)
        await module.answer(now)
        assert [(await module.receive())[0] for _ in range(2)] == ["say", "ask"]
        down(bastion)
        module.send("answer", text="")
        await module.answer(now)
        done = await module.done()
        assert (done["result"], done["reason"]) == ("maxtries", "wrong_code")

    run(test, BRIDGED)


def test_a_code_that_the_service_refused_is_not_taken_by_a_later_call_of_the_connection_either() -> None:
    async def test(bastion: Bastion) -> None:
        now, connection = code(), Connection(bastion, next(NUMBERS))
        module = await connection.begin()
        await module.answer(now)
        assert [(await module.receive())[0] for _ in range(2)] == ["say", "ask"]
        bastion.provider.outage = Unavailable("starling", Fault.BROKEN, "500")
        module.send("answer", text="")
        assert (await module.done())["reason"] == "service_error"
        down(bastion)
        again = await connection.begin()
        await again.answer("")
        await again.answer(now)
        done = await again.done()
        assert (done["result"], done["reason"]) == ("maxtries", "wrong_code")

    run(test, replace(BRIDGED, max_attempts=3))


@pytest.mark.parametrize("user", ["alice", "nobody-here"])
def test_users_and_strangers_are_offered_the_same(user: str) -> None:
    async def test(bastion: Bastion) -> None:
        down(bastion)
        await told(bastion, "123456", wrong(), wrong())  # what strangers replay
        asked = await prompts(bastion, "123456", wrong(), wrong(), user=user)
        assert [each.split(".")[0] for each in asked[1:3]] == ["The second-factor service cannot be reached"] * 2

    run(test, replace(BRIDGED, max_failures=50))


def test_who_has_no_code_here_is_not_let_in_by_a_roll_out_that_nobody_could_check() -> None:
    async def test(bastion: Bastion) -> None:
        down(bastion)
        assert (await told(bastion, "", wrong(), wrong()))["reason"] == "wrong_code"

    until = Unenrolled(NotEnrolled.ALLOW_UNTIL, time.time() + 86400)
    run(test, replace(BRIDGED, not_enrolled=until), app=False)


def test_whoever_has_an_app_must_show_it_however_many_attempts_went_before() -> None:
    async def test(bastion: Bastion) -> None:
        down(bastion)
        assert (await told(bastion, "x", "x", "123456", wrong()))["reason"] == "wrong_code"

    run(test, replace(BRIDGED, fail_mode=FailMode.SAFE))


@pytest.mark.parametrize(("app", "reason"), [(True, "code_verified"), (False, "fail_open")])
def test_fail_open_does_not_hold_up_who_has_no_code(*, app: bool, reason: str) -> None:
    async def test(bastion: Bastion) -> None:
        down(bastion)
        assert (await told(bastion, "", *([code()] if app else [])))["reason"] == reason

    run(test, replace(BRIDGED, fail_mode=FailMode.SAFE), app=app)
