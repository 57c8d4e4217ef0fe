"""One connection of a module, served: what is answered, remembered, written down, and what never lets anybody in."""

import asyncio

import pytest

from starlingd.core.model import Process, PushStatus
from starlingd.core.rules import Rules, WithoutSecondFactor
from starlingd.core.steps import ShuttingDown
from starlingd.ports import Fault, Unavailable
from tests.daemon_under_test import RIGHT_CODE, Bastion, on_bastion

CHILD, MONITOR = Process(50, 500), Process(40, 400)
FAST = Rules(poll_interval=0)


async def log_in(bastion: Bastion, caller: Process = CHILD, **fields: str) -> str:
    """Authenticate by a code; return the login id."""
    module = await bastion.call("authenticate", caller, **fields)
    await module.answer(RIGHT_CODE)
    done = await module.done()
    assert done["result"] == "success"
    return done["env.PAM_STARLING_LOGIN"]


def test_a_right_code_lets_in_and_is_written_down() -> None:
    async def test(bastion: Bastion) -> None:
        login = await log_in(bastion)
        await bastion.settled()
        [event] = bastion.events()
        assert event["STARLING_OUTCOME"] == "allow"
        assert event["STARLING_REASON"] == "code_verified"
        assert event["STARLING_FACTOR"] == "code"
        assert event["STARLING_LOGIN"] == login
        assert event["STARLING_CLIENT_IP"] == "198.51.100.7"
        assert RIGHT_CODE not in str(bastion.log.events)

    on_bastion(test)


def test_three_wrong_codes_end_the_connection_and_a_fourth_is_not_asked_for() -> None:
    async def test(bastion: Bastion) -> None:
        module = await bastion.call("authenticate")
        for _ in range(3):
            await module.answer("654321")
        done = await module.done()
        assert (done["result"], done["reason"]) == ("maxtries", "wrong_code")
        again = await bastion.call("authenticate", Process(51, 510))
        assert (await again.done())["result"] == "maxtries"
        assert bastion.provider.calls == ["verify alice"] * 3

    on_bastion(test)


def test_another_connection_of_the_same_address_has_its_own_attempts() -> None:
    async def test(bastion: Bastion) -> None:
        module = await bastion.call("authenticate")
        for _ in range(3):
            await module.answer("654321")
        await module.done()
        await log_in(bastion, Process(61, 610), conn="198.51.100.7 50001 192.0.2.1 22", ppid="60", pstart="600")

    on_bastion(test)


def test_an_approved_push_lets_in() -> None:
    async def test(bastion: Bastion) -> None:
        bastion.provider.statuses = [PushStatus.PENDING, PushStatus.UNKNOWN, PushStatus.APPROVED]
        module = await bastion.call("authenticate")
        await module.answer("")
        done = await module.done()
        assert (done["result"], done["reason"]) == ("success", "push_approved")
        assert bastion.provider.calls == ["push alice 60", *["poll request-1"] * 3]

    on_bastion(test, FAST)


def test_a_denied_push_is_final_and_remembered() -> None:
    async def test(bastion: Bastion) -> None:
        bastion.provider.statuses = [PushStatus.DENIED]
        module = await bastion.call("authenticate")
        await module.answer("")
        done = await module.done()
        assert (done["result"], done["reason"]) == ("maxtries", "push_denied")
        assert [(user, denied) for user, _, denied in bastion.store.failed_pushes] == [("alice", True)]

    on_bastion(test, FAST)


@pytest.mark.parametrize("user", ["nobody-here", "root"])
def test_nobody_gets_the_same_prompts_and_causes_no_call(user: str) -> None:
    async def test(bastion: Bastion) -> None:
        module = await bastion.call("authenticate", user=user)
        for _ in range(3):
            prompt = await module.answer(RIGHT_CODE)
            assert prompt.startswith("Press Enter for push notification (number ")
        done = await module.done()
        assert (done["result"], done["said"]) == ("maxtries", "Authentication failed")
        assert bastion.provider.calls == []
        assert bastion.store.kept == {}

    on_bastion(test)


def test_a_hang_up_during_a_push_stops_the_polling_and_leaves_nothing() -> None:
    async def test(bastion: Bastion) -> None:
        bastion.provider.statuses = [PushStatus.PENDING]
        module = await bastion.call("authenticate")
        await module.answer("")
        await asyncio.to_thread(bastion.provider.polled.wait, 5)
        module.hang_up()
        await bastion.settled()
        polls = len(bastion.provider.calls)
        assert polls > 1
        [event] = bastion.events()
        assert event["STARLING_REASON"] == "hung_up"
        assert bastion.store.kept == {}
        assert [denied for _, _, denied in bastion.store.failed_pushes] == [False]
        assert len(bastion.provider.calls) == polls

    on_bastion(test, FAST)


def test_a_hang_up_at_the_prompt_is_a_denial() -> None:
    async def test(bastion: Bastion) -> None:
        module = await bastion.call("authenticate")
        assert (await module.receive())[0] == "ask"
        module.hang_up()
        await bastion.settled()
        assert [event["STARLING_REASON"] for event in bastion.events()] == ["hung_up"]

    on_bastion(test)


def test_a_login_ends_at_its_deadline() -> None:
    async def test(bastion: Bastion) -> None:
        module = await bastion.call("authenticate", deadline="1")
        assert (await module.receive())[0] == "ask"
        done = await module.done()
        assert (done["result"], done["reason"]) == ("auth_err", "deadline")

    on_bastion(test)


def test_a_daemon_that_stops_answers_who_waits() -> None:
    async def test(bastion: Bastion) -> None:
        module = await bastion.call("authenticate")
        assert (await module.receive())[0] == "ask"
        for session in bastion.sessions.values():
            session.interrupt(ShuttingDown())
        done = await module.done()
        assert (done["result"], done["reason"]) == ("auth_err", "busy")

    on_bastion(test)


def test_a_bug_denies() -> None:
    async def test(bastion: Bastion) -> None:
        bastion.people.outage = ZeroDivisionError("a bug")
        done = await (await bastion.call("authenticate")).done()
        assert (done["result"], done["reason"]) == ("auth_err", "internal_error")
        assert (await (await bastion.call("account")).done())["result"] == "acct_denied"
        assert (await (await bastion.call("open_session")).done())["result"] == "session_err"

    on_bastion(test)


@pytest.mark.parametrize(
    ("operation", "result"),
    [("authenticate", "auth_err"), ("account", "acct_denied"), ("open_session", "session_err")],
)
def test_without_a_usable_configuration_everything_is_denied(operation: str, result: str) -> None:
    async def test(bastion: Bastion) -> None:
        bastion.host.current = None
        done = await (await bastion.call(operation)).done()
        assert (done["result"], done["reason"]) == (result, "misconfigured")

    on_bastion(test)


def test_who_cannot_be_remembered_is_not_let_in() -> None:
    async def test(bastion: Bastion) -> None:
        bastion.store.outage = Unavailable("store", Fault.BROKEN, "disk full")
        module = await bastion.call("authenticate")
        await module.answer(RIGHT_CODE)
        done = await module.done()
        assert (done["result"], done["reason"]) == ("auth_err", "store_unavailable")
        assert "env.PAM_STARLING_LOGIN" not in done

    on_bastion(test)


def test_account_and_session_belong_to_the_login() -> None:
    async def test(bastion: Bastion) -> None:
        login = await log_in(bastion)
        account = await (await bastion.call("account", CHILD, login=login)).done()
        assert (account["result"], account["reason"]) == ("success", "code_verified")
        opened = await (await bastion.call("open_session", MONITOR, login=login)).done()
        assert opened["result"] == "success"
        closed = await (await bastion.call("close_session", MONITOR, login=login)).done()
        assert closed["result"] == "success"
        await bastion.settled()
        assert [event["STARLING_LOGIN"] for event in bastion.events("session_open")] == [login]
        assert [event["STARLING_LOGIN"] for event in bastion.events("session_close")] == [login]
        assert bastion.store.kept == {}

    on_bastion(test)


@pytest.mark.parametrize(
    ("caller", "changes"),
    [
        pytest.param(MONITOR, {"login": "11111111-1111-4111-8111-111111111111"}, id="another login's id"),
        pytest.param(MONITOR, {"login": ""}, id="no id"),
        pytest.param(Process(52, 520), {}, id="a sibling with the same parent"),
        pytest.param(Process(40, 401), {}, id="a reused pid of the parent"),
        pytest.param(Process(50, 501), {}, id="a reused pid of the caller"),
        pytest.param(MONITOR, {"user": "root"}, id="another user"),
        pytest.param(MONITOR, {"user": "nobody-here"}, id="an unknown user"),
        pytest.param(MONITOR, {"service": "login"}, id="another service"),
    ],
)
def test_a_wrong_claimant_gets_no_session(caller: Process, changes: dict[str, str]) -> None:
    async def test(bastion: Bastion) -> None:
        login = await log_in(bastion)
        wrong = await (await bastion.call("open_session", caller, **{"login": login, **changes})).done()
        assert (wrong["result"], wrong["reason"]) == ("session_err", "no_record")
        right = await (await bastion.call("open_session", MONITOR, login=login)).done()
        assert right["result"] == "success"

    on_bastion(test)


def test_a_record_opens_one_session() -> None:
    async def test(bastion: Bastion) -> None:
        login = await log_in(bastion)
        first = await bastion.call("open_session", MONITOR, login=login)
        second = await bastion.call("open_session", MONITOR, login=login)
        results = sorted([(await first.done())["result"], (await second.done())["result"]])
        assert results == ["session_err", "success"]

    on_bastion(test)


def test_one_account_has_one_name() -> None:
    async def test(bastion: Bastion) -> None:
        login = await log_in(bastion, user="ALICE")
        opened = await (await bastion.call("open_session", MONITOR, login=login, user="alice")).done()
        assert opened["result"] == "success"

    on_bastion(test)


def test_a_login_without_a_record_is_denied_by_the_account_hook() -> None:
    async def test(bastion: Bastion) -> None:
        done = await (await bastion.call("account", MONITOR)).done()
        assert (done["result"], done["reason"]) == ("acct_denied", "no_second_factor")

    on_bastion(test)


def test_account_push_lets_a_batch_client_in_and_opens_its_session() -> None:
    async def test(bastion: Bastion) -> None:
        done = await (await bastion.call("account", MONITOR, ppid="1", pstart="10")).done()
        assert (done["result"], done["reason"]) == ("success", "push_approved")
        login = done["env.PAM_STARLING_LOGIN"]
        opened = await (await bastion.call("open_session", MONITOR, login=login, ppid="1", pstart="10")).done()
        assert opened["result"] == "success"
        assert bastion.provider.calls[0] == "push alice 45"

    on_bastion(test, Rules(poll_interval=0, without_second_factor=WithoutSecondFactor.PUSH))


@pytest.mark.parametrize("user", ["root", "nobody-here"])
def test_account_push_is_not_for_root_nor_for_nobody(user: str) -> None:
    async def test(bastion: Bastion) -> None:
        done = await (await bastion.call("account", MONITOR, user=user)).done()
        assert done["result"] == "acct_denied"
        assert bastion.provider.calls == []

    on_bastion(test, Rules(poll_interval=0, without_second_factor=WithoutSecondFactor.PUSH))


def test_an_unknown_operation_gets_an_error_and_a_close() -> None:
    async def test(bastion: Bastion) -> None:
        module = await bastion.call("make_coffee")
        assert (await module.receive())[0] == "error"
        assert (await module.receive())[0] == ""

    on_bastion(test)


def test_a_first_packet_that_makes_no_sense_is_refused() -> None:
    async def test(bastion: Bastion) -> None:
        done = await (await bastion.call("authenticate", v="7")).done()
        assert (done["result"], done["reason"]) == ("auth_err", "protocol_error")

    on_bastion(test)


def test_records_survive_a_restart() -> None:
    async def test(bastion: Bastion) -> None:
        login = await log_in(bastion)
        async with Bastion.running() as restarted:
            restarted.store.kept = bastion.store.kept
            await restarted.host.logins.load(lambda _: True)
            opened = await (await restarted.call("open_session", MONITOR, login=login)).done()
            assert opened["result"] == "success"

    on_bastion(test)
