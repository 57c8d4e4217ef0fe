"""Codes of this host's own, in whole logins: authenticator apps, recovery and helpdesk codes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from starlingd.adapters.vault import Vault, new_key
from starlingd.core import otp
from starlingd.core.model import Check
from starlingd.core.rules import (
    Grace,
    NotEnrolled,
    Rules,
    Unenrolled,
)
from starlingd.ports import Fault, Unavailable
from starlingd.server import localcodes
from tests.daemon_under_test import RIGHT_CODE, Bastion
from tests.unit.local_codes import (
    ALONE,
    BRIDGED,
    DOWN,
    SECRET,
    code,
    connect,
    prompts,
    run,
    told,
    wrong,
)

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


def test_an_app_that_takes_its_own_place_leaves_used_codes_used() -> None:
    async def test(bastion: Bastion) -> None:
        now = code()
        await told(bastion, now)
        assert bastion.host.current
        again = otp.Token("alice", b"")
        assert await bastion.host.local.add(again, SECRET, bastion.host.current.vault, otp.Over.ANY)
        assert (await told(bastion, now, now, now))["reason"] == "code_reused"
        assert await bastion.host.local.add(again, b"another secret here", bastion.host.current.vault, otp.Over.ANY)
        assert (await told(bastion, code(secret=b"another secret here")))["reason"] == "code_verified"

    run(test)


@pytest.mark.parametrize("secret", [SECRET, b"another secret here"])
def test_an_app_that_is_damaged_can_be_replaced_and_no_code_of_before_is_good(secret: bytes) -> None:
    async def test(bastion: Bastion) -> None:
        def damaged(_: str) -> otp.Token:
            raise Unavailable("store", Fault.BROKEN, "the app of alice makes no sense")

        assert bastion.host.current
        before = code(secret=secret)
        if secret == SECRET:
            assert (await told(bastion, before))["reason"] == "code_verified"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bastion.store, "token", damaged)
            vault = bastion.host.current.vault
            assert await bastion.host.local.add(otp.Token("alice", b""), secret, vault, otp.Over.ANY)
        assert (await told(bastion, before, before, before))["reason"] == "code_reused"
        assert (await told(bastion, code(1, secret)))["reason"] == "code_verified"

    run(test)


def test_secrets_are_sealed_anew_in_parts_and_who_cannot_be_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(localcodes, "AT_ONCE", 2)

    async def test(bastion: Bastion) -> None:
        assert bastion.host.current
        old = bastion.host.current.vault
        local, secrets = bastion.host.local, [f"secret of user {number}".encode() for number in range(5)]
        for number, secret in enumerate(secrets):
            assert await local.add(otp.Token(f"user{number}", b""), secret, old, otp.Over.NO_APP)
        lost = Vault(new_key())
        with pytest.raises(Unavailable, match="the app of alice"):
            await local.reseal(lost)
        first, second = new_key(), new_key()
        for number, secret in enumerate(secrets):
            await local.add(otp.Token(f"user{number}", b""), secret, Vault(first), otp.Over.ANY)
        await local.add(otp.Token("alice", b""), SECRET, Vault(first), otp.Over.ANY)
        assert await local.reseal(Vault(f"{second} {first}")) == 6
        opened = [Vault(second).open(token.user, token.box) for token in bastion.store.tokens()]
        assert opened == [SECRET, *secrets]

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


@pytest.mark.parametrize(
    "outage",
    [
        Unavailable("starling", Fault.UNREACHABLE, "no route"),
        Unavailable("starling", Fault.RATE_LIMITED, "429"),
        Unavailable("starling", Fault.BROKEN, "500"),
    ],
)
@pytest.mark.parametrize("length", [10, 12])
def test_a_wrong_code_of_this_host_counts_although_the_service_cannot_say_what_it_thinks(
    outage: Unavailable, length: int
) -> None:
    async def test(bastion: Bastion) -> None:
        await bastion.host.local.make_recovery_codes("alice")
        await bastion.host.local.issue("alice", "hanna (uid 1007)", 900.0, bastion.host.moment())
        bastion.provider.outage = outage
        for _ in range(5):
            assert (await told(bastion, "0" * length))["result"] == "auth_err"
        assert (await told(bastion, "0" * length))["reason"] == "too_many_attempts"

    run(test, Rules())


def test_what_the_service_cannot_say_of_its_own_codes_is_no_guess() -> None:
    async def test(bastion: Bastion) -> None:
        bastion.provider.outage = DOWN
        for _ in range(6):
            assert (await told(bastion, "1234567890"))["reason"] == "unreachable"

    run(test, Rules())


@pytest.mark.parametrize("user", ["alice", "nobody-here"])
@pytest.mark.parametrize("length", [10, 12])
def test_an_answer_of_that_length_is_hashed_for_everybody_alike(
    monkeypatch: pytest.MonkeyPatch, user: str, length: int
) -> None:
    hashed: list[str] = []
    monkeypatch.setattr(localcodes, "slow_hash", lambda code, _: hashed.append(code) or b"")

    async def test(bastion: Bastion) -> None:
        await told(bastion, "0" * length, user=user)

    run(test, replace(Rules(), max_attempts=1))
    assert hashed == ["0" * length]


def test_a_code_of_that_length_that_does_not_match_goes_on_to_the_service() -> None:
    async def test(bastion: Bastion) -> None:
        await bastion.host.local.make_recovery_codes("alice")
        await told(bastion, "1234567890", RIGHT_CODE)
        assert bastion.provider.calls == ["verify alice"] * 2

    run(test, Rules())
