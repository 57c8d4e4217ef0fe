"""Enrolment of an authenticator app while logging in: for newcomers, once, after a first factor that is known."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from starlingd.core import otp
from starlingd.core.rules import (
    Apps,
    EnrolQr,
    Provider,
    Rules,
)
from starlingd.core.secondfactor import Candidate
from starlingd.core.selfenrolment import enrol
from starlingd.core.steps import OfferApp
from starlingd.server.control import hypothetical
from starlingd.server.explain import explain
from tests.daemon_under_test import Bastion
from tests.unit.local_codes import (
    ALONE,
    ENROLLING,
    KEY_SHOWN,
    code,
    connect,
    prompts,
    run,
    told,
    wrong,
)
from tests.unit.script import FACTS, LOGIN


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


def test_an_offer_is_void_once_somebody_else_made_the_user_a_veteran() -> None:
    async def test(bastion: Bastion) -> None:
        module = await connect(bastion, **KEY_SHOWN)
        secret = shown((await module.receive())[1]["text"])
        await bastion.host.local.make_recovery_codes("alice")
        module.send("answer", text=code(secret=secret))
        assert (await module.done())["reason"] == "not_enrolled"
        assert bastion.store.token("alice") is None

    run(test, ENROLLING, app=False)


def test_whoever_hangs_up_while_an_app_is_kept_is_in_the_log() -> None:
    async def test(bastion: Bastion) -> None:
        module = await connect(bastion, **KEY_SHOWN)
        secret = shown((await module.receive())[1]["text"])
        asked, go_on = threading.Event(), threading.Event()
        save = bastion.store.save_token

        def slowly(token: otp.Token, over: otp.Over) -> bool:
            asked.set()
            go_on.wait(5)
            return save(token, over)

        bastion.store.save_token = slowly  # type: ignore[method-assign]
        module.send("answer", text=code(secret=secret))
        await asyncio.to_thread(asked.wait, 5)
        module.hang_up()
        await bastion.settled()
        go_on.set()
        await asyncio.gather(*bastion.host.errands)
        assert bastion.store.token("alice") is not None
        [event] = bastion.events("enrolment")
        assert event["STARLING_LOGIN"] == bastion.events()[0]["STARLING_LOGIN"]
        assert event["STARLING_CLIENT_IP"] == "198.51.100.7"

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
