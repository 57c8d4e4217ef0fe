"""Codes of this host's own, in whole logins: apps, recovery and helpdesk codes, fallback, enrolment on the way in."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from starlingd.adapters.vault import Vault, new_key
from starlingd.core import otp
from starlingd.core.directory import Person
from starlingd.core.enrolment import Enrolment
from starlingd.core.model import Check
from starlingd.core.rules import (
    Apps,
    EnrolQr,
    FailMode,
    Fallback,
    Grace,
    NotEnrolled,
    Provider,
    Provisioning,
    Rules,
    Unenrolled,
)
from starlingd.core.secondfactor import Candidate
from starlingd.core.selfenrolment import enrol
from starlingd.core.steps import OfferApp
from starlingd.ports import Fault, Unavailable
from starlingd.server.control import hypothetical
from starlingd.server.explain import explain
from tests.daemon_under_test import RIGHT_CODE, Bastion, Connection, Module, on_bastion
from tests.fakes_directory import POLICY, FakeDirectory
from tests.unit.script import FACTS, LOGIN

NUMBERS = itertools.count()
SECRET = b"12345678901234567890"
ALONE = Rules(provider=Provider.TOTP, prompt="Code:")
BOTH = frozenset(Fallback)
BRIDGED = Rules(fallback=BOTH)
KEY_SHOWN = {"authinfo": "publickey ssh-ed25519 AAAA\n"}
ENROLLING = replace(ALONE, not_enrolled=Unenrolled(NotEnrolled.ENROL))
DOWN = Unavailable("starling", Fault.UNREACHABLE, "no route")


def run(test: Callable[[Bastion], Awaitable[None]], rules: Rules = ALONE, *, app: bool = True) -> None:
    """Run a test on a bastion with a vault, where alice has an app unless told otherwise."""

    async def prepared(bastion: Bastion) -> None:
        assert bastion.host.current
        vault = Vault(new_key())
        bastion.host.current = replace(bastion.host.current, vault=vault)
        if app:
            assert await bastion.host.local.add(otp.Token("alice", b""), SECRET, vault, otp.Over.NO_APP)
        await test(bastion)

    on_bastion(prepared, rules)


def code(steps: int = 0, secret: bytes = SECRET) -> str:
    """Make the code of the app, some steps from now."""
    return otp.hotp(secret, int(time.time() // 30) + steps)


def wrong() -> str:
    """Make a code that no window holds."""
    near = {code(steps) for steps in range(-3, 4)}
    return next(each for each in map("{:06}".format, range(10)) if each not in near)


async def connect(bastion: Bastion, **fields: str) -> Module:
    """Make a connection of its own, and begin to authenticate."""
    number = next(NUMBERS)
    return await Connection(bastion, number, **fields).begin()


async def told(bastion: Bastion, *answers: str, user: str = "alice", **fields: str) -> dict[str, str]:
    """Log in with these answers."""
    module = await connect(bastion, user=user, **fields)
    for answer in answers:
        await module.answer(answer)
    return await module.done()


async def prompts(bastion: Bastion, *answers: str, user: str = "alice", **fields: str) -> list[str]:
    """Tell what is asked, and how it ended."""
    module = await connect(bastion, user=user, **fields)
    asked = [await module.answer(answer) for answer in answers]
    return [*asked, (await module.done())["reason"]]


# Apps


def test_a_code_of_the_app_lets_in_once_and_the_service_is_never_asked() -> None:
    async def test(bastion: Bastion) -> None:
        now = code()
        first = await told(bastion, now)
        assert (first["result"], first["reason"]) == ("success", "code_verified")
        again = await told(bastion, now, now, now)
        assert (again["result"], again["reason"]) == ("maxtries", "code_reused")
        assert not bastion.provider.calls
        event = bastion.events()[0]
        assert (event["STARLING_FACTOR"], event["STARLING_RULE"]) == ("totp", "auth.provider")

    run(test)


def test_ten_parallel_logins_with_one_code_are_one_login() -> None:
    async def test(bastion: Bastion) -> None:
        now = code()
        modules = [await connect(bastion) for _ in range(10)]
        for module in modules:
            await module.answer(now)
        done = [await module.done() for module in modules]
        assert sorted(each["reason"] for each in done) == ["code_reused"] * 9 + ["code_verified"]

    run(test, replace(ALONE, max_attempts=1))


def test_no_more_guesses_than_allowed_are_checked_however_many_come_at_once() -> None:
    async def test(bastion: Bastion) -> None:
        results = await asyncio.gather(*(told(bastion, wrong()) for _ in range(10)))
        assert {each["result"] for each in results} == {"maxtries"}
        assert len(bastion.store.failures(0.0)) == 5
        locked = await told(bastion, code())
        assert (locked["result"], locked["reason"]) == ("maxtries", "too_many_attempts")

    run(test, replace(ALONE, max_attempts=1))


def test_ten_parallel_guesses_count_ten() -> None:
    async def test(bastion: Bastion) -> None:
        await asyncio.gather(*(told(bastion, wrong()) for _ in range(10)))
        assert len(bastion.store.failures(0.0)) == 10

    run(test, replace(ALONE, max_attempts=1, max_failures=50))


@pytest.mark.parametrize("user", ["alice", "nobody-here"])
def test_an_empty_answer_is_no_push(user: str) -> None:
    async def test(bastion: Bastion) -> None:
        assert (await told(bastion, "", "", "", user=user))["result"] == "maxtries"
        assert not bastion.provider.calls

    run(test)


def test_whoever_has_no_app_is_not_enrolled_and_strangers_are_asked_alike() -> None:
    async def test(bastion: Bastion) -> None:
        users = await prompts(bastion, wrong(), wrong(), wrong())
        assert users == ["Code: "] * 3 + ["not_enrolled"]
        strangers = await prompts(bastion, wrong(), wrong(), wrong(), user="nobody-here")
        assert strangers == ["Code: "] * 3 + ["unknown_user"]

    run(test, app=False)


def test_a_roll_out_lets_in_until_a_day_who_has_no_app_yet() -> None:
    async def test(bastion: Bastion) -> None:
        assert (await told(bastion, wrong()))["reason"] == "allow_until"

    until = Unenrolled(NotEnrolled.ALLOW_UNTIL, time.time() + 86400)
    run(test, replace(ALONE, not_enrolled=until), app=False)


def test_without_a_prompt_there_is_no_second_factor() -> None:
    async def test(bastion: Bastion) -> None:
        for hook, result in (("authenticate", "auth_err"), ("account", "acct_denied")):
            module = await bastion.call(hook, service="sudo")
            done = await module.done()
            assert (done["result"], done["reason"]) == (result, "no_second_factor")

    run(test)


def test_a_key_that_does_not_open_the_app_denies() -> None:
    async def test(bastion: Bastion) -> None:
        assert bastion.host.current
        bastion.host.current = replace(bastion.host.current, vault=Vault(new_key()))
        assert (await told(bastion, code()))["reason"] == "misconfigured"
        bastion.host.current = replace(bastion.host.current, vault=None)
        assert (await told(bastion, code()))["reason"] == "misconfigured"

    run(test)


def test_an_app_earns_a_grace_entry_and_a_recovery_code_does_not() -> None:
    async def test(bastion: Bastion) -> None:
        [recovery, *_] = await bastion.host.local.make_recovery_codes("alice")
        await told(bastion, recovery)
        records = bastion.store.records()
        assert [record.earned is None for record in records] == [True]
        await told(bastion, code())
        assert sorted(record.earned is None for record in bastion.store.records()) == [False, True]

    run(test, replace(ALONE, grace=Grace(soft_timeout=60, hard_timeout=600, reuse_limit=3)))


# Recovery and helpdesk codes


@pytest.mark.parametrize("rules", [ALONE, Rules()])
def test_a_recovery_code_is_good_for_one_login_and_says_how_many_are_left(rules: Rules) -> None:
    async def test(bastion: Bastion) -> None:
        codes = await bastion.host.local.make_recovery_codes("alice")
        assert len(set(codes)) == 10
        assert all(len(each) == 10 and each.isdigit() for each in codes)
        first = await told(bastion, f"{codes[0][:5]} {codes[0][5:]}")
        assert (first["result"], first["reason"]) == ("success", "code_verified")
        assert "You have 9 recovery codes left" in first["said"]
        assert not bastion.provider.calls
        assert bastion.events()[0]["STARLING_FACTOR"] == "recovery"
        assert (await told(bastion, codes[0], codes[0], codes[0]))["result"] == "maxtries"
        renewed = await bastion.host.local.make_recovery_codes("alice")
        assert (await told(bastion, codes[1], codes[1], codes[1]))["result"] == "maxtries"
        assert (await told(bastion, renewed[0]))["result"] == "success"

    run(test, replace(rules, max_failures=50))


def test_a_recovery_code_is_nobody_elses() -> None:
    async def test(bastion: Bastion) -> None:
        codes = await bastion.host.local.make_recovery_codes("root")
        assert (await told(bastion, *codes[:3]))["result"] == "maxtries"

    run(test)


def test_a_helpdesk_code_lets_in_once_and_the_log_says_who_issued_it() -> None:
    async def test(bastion: Bastion) -> None:
        local, moment = bastion.host.local, bastion.host.moment
        old = await local.issue("alice", "hanna (uid 1007)", 900.0, moment())
        issued = await local.issue("alice", "hanna (uid 1007)", 900.0, moment())
        assert (await told(bastion, old, old, old))["result"] == "maxtries"
        done = await told(bastion, issued)
        assert (done["result"], done["reason"]) == ("success", "code_verified")
        event = bastion.events()[-1]
        assert event["STARLING_FACTOR"] == "helpdesk"
        assert "issued_by=hanna (uid 1007)" in event["STARLING_EVIDENCE"]
        assert (await told(bastion, issued, issued, issued))["result"] == "maxtries"
        late = await local.issue("alice", "hanna (uid 1007)", 0.0, moment())
        assert (await told(bastion, late, late, late))["result"] == "maxtries"

    run(test, replace(ALONE, max_failures=50))


@pytest.mark.parametrize("rules", [ALONE, BRIDGED])
def test_ten_parallel_guesses_at_a_helpdesk_code_count_ten_also_without_an_app(rules: Rules) -> None:
    async def test(bastion: Bastion) -> None:
        await bastion.host.local.issue("alice", "hanna (uid 1007)", 900.0, bastion.host.moment())
        bastion.provider.wrong = Check.NOT_ENROLLED
        await asyncio.gather(*(told(bastion, "000000000000") for _ in range(10)))
        assert len(bastion.store.failures(0.0)) == 10
        assert (await told(bastion, "000000000000"))["reason"] == "too_many_attempts"

    run(test, replace(rules, max_attempts=1, max_failures=10), app=False)


def test_a_code_of_that_length_that_does_not_match_goes_on_to_the_service() -> None:
    async def test(bastion: Bastion) -> None:
        await bastion.host.local.make_recovery_codes("alice")
        await told(bastion, "1234567890", RIGHT_CODE)
        assert bastion.provider.calls == ["verify alice"] * 2

    run(test, Rules())


# Fallback


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


@pytest.mark.parametrize(("app", "reason"), [(True, "code_verified"), (False, "fail_open")])
def test_fail_open_does_not_hold_up_who_has_no_code(*, app: bool, reason: str) -> None:
    async def test(bastion: Bastion) -> None:
        down(bastion)
        assert (await told(bastion, "", *([code()] if app else [])))["reason"] == reason

    run(test, replace(BRIDGED, fail_mode=FailMode.SAFE), app=app)


# Enrolment while logging in


def shown(prompt: str) -> bytes:
    """Read the secret in a prompt."""
    return otp.secret_of(prompt.partition("or type in: ")[2].partition("\n")[0])


def test_somebody_new_enrols_an_app_and_is_in() -> None:
    async def test(bastion: Bastion) -> None:
        module = await connect(bastion, **KEY_SHOWN)
        op, fields = await module.receive()
        assert op == "ask"
        assert "QR of otpauth://totp/alice" in fields["text"]
        secret = shown(fields["text"])
        module.send("answer", text=code(secret=secret))
        done = await module.done()
        assert (done["result"], done["reason"]) == ("success", "code_verified")
        assert [event["STARLING_USER"] for event in bastion.events("enrolment")] == ["alice"]
        assert bastion.events("enrolment")[0]["WARNING"] == "True"
        used = code(secret=secret)
        assert (await told(bastion, used, used, used, **KEY_SHOWN))["reason"] == "code_reused"
        assert (await told(bastion, code(1, secret), **KEY_SHOWN))["reason"] == "code_verified"

    run(test, ENROLLING, app=False)


def test_somebody_new_is_let_in_by_a_helpdesk_code_and_enrols_the_next_time() -> None:
    async def test(bastion: Bastion) -> None:
        issued = await bastion.host.local.issue("alice", "hanna (uid 1007)", 900.0, bastion.host.moment())
        done = await told(bastion, "000000000000", issued, **KEY_SHOWN)
        assert (done["result"], bastion.events()[0]["STARLING_FACTOR"]) == ("success", "helpdesk")
        module = await connect(bastion, **KEY_SHOWN)
        assert "You have no second factor yet" in (await module.receive())[1]["text"]
        module.hang_up()
        guessed = [await told(bastion, "000000000000", "000000000000", **KEY_SHOWN) for _ in range(2)]
        assert {done["reason"] for done in guessed} == {"wrong_code"}
        assert (await told(bastion, "000000000000", "000000000000", **KEY_SHOWN))["reason"] == "too_many_attempts"

    run(test, replace(ENROLLING, max_attempts=2), app=False)


@pytest.mark.parametrize(("apps", "drawn"), [(Apps(), True), (Apps(algorithm=otp.Algorithm.SHA256), False)])
def test_a_picture_that_does_not_fit_a_terminal_is_not_drawn(apps: Apps, *, drawn: bool) -> None:
    async def test(bastion: Bastion) -> None:
        module = await connect(bastion, **KEY_SHOWN)
        _, fields = await module.receive()
        assert ("QR of otpauth://totp/alice" in fields["text"]) == drawn
        assert "You have no second factor yet" in fields["text"]
        module.hang_up()

    run(test, replace(ENROLLING, apps=apps), app=False)


@pytest.mark.parametrize(
    ("choice", "client_ip", "drawn"),
    [
        (EnrolQr.AUTO, "192.0.2.1", True),
        (EnrolQr.AUTO, "", False),
        (EnrolQr.UTF8, "", True),
        (EnrolQr.NONE, "192.0.2.1", False),
    ],
)
def test_the_picture_is_drawn_as_configured(choice: EnrolQr, client_ip: str, *, drawn: bool) -> None:
    login = replace(LOGIN, client_ip=client_ip)
    candidate = Candidate(login, "alice", "alice", FACTS, Rules(provider=Provider.TOTP, enrol_qr=choice))
    offer = next(enrol(candidate, 0))
    assert offer == OfferApp("alice", drawn=drawn)


def test_an_app_counts_only_once_its_code_is_typed() -> None:
    async def test(bastion: Bastion) -> None:
        assert (await told(bastion, "1", wrong(), wrong(), **KEY_SHOWN))["result"] == "maxtries"
        assert bastion.store.token("alice") is None
        assert not bastion.store.had_second_factor("alice")

    run(test, ENROLLING, app=False)


def test_of_two_logins_at_once_one_enrols() -> None:
    async def test(bastion: Bastion) -> None:
        modules = [await connect(bastion, **KEY_SHOWN) for _ in range(2)]
        secrets = [shown((await module.receive())[1]["text"]) for module in modules]
        for module, secret in zip(modules, secrets, strict=True):
            module.send("answer", text=code(secret=secret))
        done = sorted([(await module.done())["result"] for module in modules])
        assert done == ["auth_err", "success"]
        assert len(bastion.events("enrolment")) == 1

    run(test, ENROLLING, app=False)


@pytest.mark.parametrize(
    "fields",
    [
        {"authinfo": ""},
        {"authinfo": "password\n"},
        {"authinfo": "xpublickey y\n"},
        {"authinfo": "", "first_factor": "after"},
    ],
)
def test_after_a_first_factor_that_nobody_knows_nobody_enrols(fields: dict[str, str]) -> None:
    async def test(bastion: Bastion) -> None:
        asked = await prompts(bastion, wrong(), wrong(), wrong(), **fields)
        assert asked == ["Code: "] * 3 + ["not_enrolled"]

    run(test, ENROLLING, app=False)


def test_after_a_password_that_the_line_vouches_for_somebody_new_enrols() -> None:
    async def test(bastion: Bastion) -> None:
        module = await connect(bastion, first_factor="before")
        _, fields = await module.receive()
        assert "You have no second factor yet" in fields["text"]
        module.hang_up()

    run(test, ENROLLING, app=False)


def test_who_ever_had_a_second_factor_enrols_no_other_one() -> None:
    async def test(bastion: Bastion) -> None:
        assert bastion.store.forget_token("alice")
        asked = await prompts(bastion, wrong(), wrong(), wrong(), **KEY_SHOWN)
        assert asked == ["Code: "] * 3 + ["not_enrolled"]

    run(test, ENROLLING)


@pytest.mark.parametrize(
    ("rules", "app", "step"),
    [
        (ALONE, True, ("app", "enrolled")),
        (ALONE, False, ("warning", "has no authenticator app")),
        (ENROLLING, False, ("app", "none yet: one is enrolled while logging in")),
    ],
)
def test_explain_tells_whether_there_is_an_app(rules: Rules, *, app: bool, step: tuple[str, str]) -> None:
    async def test(bastion: Bastion) -> None:
        assert bastion.host.current
        login = hypothetical({"user": "alice"})
        plan = await explain(bastion.host, bastion.host.current, login, bastion.host.moment())
        assert (plan.ending, plan.identity) == ("second_factor", "alice")
        assert (plan.steps[-1].step, plan.steps[-1].result) == step

    run(test, rules, app=app)
