"""Grace and the limit on the wire: n are n, and what a login took and did not use is given back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from starlingd.core.grace import Key
from starlingd.core.model import PushStatus
from starlingd.core.rules import (
    Allow,
    Grace,
    Question,
    Rules,
    UserList,
    WithoutSecondFactor,
)
from starlingd.ports import Fault, Unavailable
from tests.daemon_under_test import RIGHT_CODE, Bastion, Connection, on_bastion

GRACE = Grace(soft_timeout=60, hard_timeout=600, reuse_limit=2)
EXEMPT = Rules(user_list=UserList("robots", Allow.NO_USER, frozenset({"alice"})), grace=GRACE)
CACHED = Rules(grace=GRACE, poll_interval=0)
KEY = Key("alice", "198.51.100.7", "", "")


# Grace


def test_who_was_asked_lately_is_not_asked_again_until_the_reuses_are_spent() -> None:
    async def test(bastion: Bastion) -> None:
        assert (await Connection(bastion, 0).log_in(RIGHT_CODE))["reason"] == "code_verified"
        for number in (1, 2):
            opened = await Connection(bastion, number).log_in()
            assert (opened["result"], opened["reason"]) == ("success", "cached")
        assert (await Connection(bastion, 3).log_in(RIGHT_CODE))["reason"] == "code_verified"
        assert bastion.provider.calls == ["verify alice"] * 2
        assert (await Connection(bastion, 4).log_in())["reason"] == "cached"

    on_bastion(test, CACHED)


def test_without_a_session_there_is_no_grace() -> None:
    async def test(bastion: Bastion) -> None:
        assert (await Connection(bastion, 0).authenticate(RIGHT_CODE))["result"] == "success"
        assert bastion.store.entries == {}
        assert (await Connection(bastion, 1).authenticate(RIGHT_CODE))["reason"] == "code_verified"

    on_bastion(test, CACHED)


def test_another_address_has_its_own_grace() -> None:
    async def test(bastion: Bastion) -> None:
        await Connection(bastion, 0).log_in(RIGHT_CODE)
        done = await Connection(bastion, 1, address="198.51.100.8").authenticate(RIGHT_CODE)
        assert done["reason"] == "code_verified"

    on_bastion(test, CACHED)


async def reuses(bastion: Bastion) -> int:
    """Tell how often the entry was reused, after everything that waits was done."""
    await bastion.settled()
    await asyncio.sleep(0)  # deaths are told of on the next turn
    await bastion.host.logins.sweep(lambda _: True)
    await bastion.host.pools.store.run(5, bool)  # the store does one thing after the other
    return bastion.store.entries[KEY].reuses


def test_a_hit_whose_processes_die_is_given_back() -> None:
    async def test(bastion: Bastion) -> None:
        await Connection(bastion, 0).log_in(RIGHT_CODE)
        alice = Connection(bastion, 1)
        assert (await alice.authenticate())["reason"] == "cached"
        assert await reuses(bastion) == 1
        bastion.deaths.die(alice.child)
        await asyncio.sleep(0)
        bastion.deaths.die(alice.monitor)
        await asyncio.sleep(0)
        assert await reuses(bastion) == 0

    on_bastion(test, CACHED)


def test_a_hit_whose_client_hangs_up_at_a_question_is_given_back() -> None:
    async def test(bastion: Bastion) -> None:
        await Connection(bastion, 0).log_in(RIGHT_CODE, "why")
        module = await Connection(bastion, 1).begin()
        assert (await module.receive())[0] == "ask"
        assert bastion.store.entries[KEY].reuses == 1
        module.hang_up()
        assert await reuses(bastion) == 0
        assert bastion.events()[-1]["STARLING_REASON"] == "hung_up"
        assert bastion.store.reuses == {}

    on_bastion(test, replace(CACHED, questions=(Question(1, "why", "Why?"),)))


def test_a_hit_that_finds_no_slot_is_given_back() -> None:
    async def test(bastion: Bastion) -> None:
        await Connection(bastion, 0).log_in(RIGHT_CODE, "why")
        first = await Connection(bastion, 1).begin()
        assert (await first.receive())[0] == "ask"
        await Connection(bastion, 2).log_in("why")
        first.send("answer", text="why")
        done = await first.done()
        assert (done["result"], done["reason"]) == ("auth_err", "connection_limit")
        assert await reuses(bastion) == 1

    on_bastion(test, replace(CACHED, connection_limit=2, questions=(Question(1, "why", "Why?"),)))


def test_a_hit_whose_record_cannot_be_kept_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bastion: Bastion) -> None:
        await Connection(bastion, 0).log_in(RIGHT_CODE)

        def broken(_: object) -> None:
            raise Unavailable("store", Fault.BROKEN, "disk full")

        monkeypatch.setattr(bastion.store, "save_record", broken)
        done = await Connection(bastion, 1).authenticate()
        assert (done["result"], done["reason"]) == ("auth_err", "store_unavailable")
        assert await reuses(bastion) == 0

    on_bastion(test, CACHED)


def test_a_key_only_login_uses_grace_and_cannot_make_it() -> None:
    async def test(bastion: Bastion) -> None:
        refused = await Connection(bastion, 1).hook("account", "")
        assert refused["reason"] == "no_second_factor"
        await Connection(bastion, 2).log_in(RIGHT_CODE)
        robot = Connection(bastion, 3)
        done = await robot.hook("account", "")
        assert (done["result"], done["reason"]) == ("success", "cached")
        assert (await robot.hook("open_session", done["env.PAM_STARLING_LOGIN"]))["result"] == "success"
        assert await reuses(bastion) == 1

    on_bastion(test, CACHED)


def test_a_key_only_push_earns_grace_and_a_hung_up_one_does_not() -> None:
    async def test(bastion: Bastion) -> None:
        bastion.provider.statuses = [PushStatus.PENDING]
        gone = Connection(bastion, 1)
        module = await bastion.call("account", gone.monitor, **gone.fields)
        await asyncio.to_thread(bastion.provider.polled.wait, 5)
        module.hang_up()
        await bastion.settled()
        assert (bastion.store.kept, bastion.store.entries, bastion.host.logins.count("alice", "198.51.100.7")) == (
            {},
            {},
            0,
        )
        bastion.provider.statuses = [PushStatus.APPROVED]
        robot = Connection(bastion, 2)
        done = await robot.hook("account", "")
        assert done["reason"] == "push_approved"
        await robot.hook("open_session", done["env.PAM_STARLING_LOGIN"])
        assert (await Connection(bastion, 3).hook("account", ""))["reason"] == "cached"

    on_bastion(test, replace(CACHED, without_second_factor=WithoutSecondFactor.PUSH))


# The limit


def test_a_full_house_is_told_before_anybody_is_asked() -> None:
    async def test(bastion: Bastion) -> None:
        for number in range(2):
            await Connection(bastion, number).log_in(RIGHT_CODE)
        calls = list(bastion.provider.calls)
        done = await Connection(bastion, 3).authenticate()
        assert (done["result"], done["reason"]) == ("auth_err", "connection_limit")
        assert done["said"] == "Too many parallel sessions from your address (2 open)"
        assert bastion.provider.calls == calls
        event = bastion.events()[-1]
        assert event["STARLING_RULE"] == "connection_limit by=client_ip_gateway_user.limit"

    on_bastion(test, Rules(connection_limit=2))


def test_the_last_slot_goes_to_whoever_passes_first() -> None:
    async def test(bastion: Bastion) -> None:
        modules = [await Connection(bastion, number).begin() for number in range(5)]
        assert [(await module.receive())[0] for module in modules] == ["ask"] * 5
        for module in modules:
            module.send("answer", text=RIGHT_CODE)
        results = [await module.done() for module in modules]
        assert sorted(done["result"] for done in results) == ["auth_err"] * 3 + ["success"] * 2
        assert {done["said"] for done in results if done["result"] == "auth_err"} == {
            "Too many parallel sessions from your address (2 open)"
        }
        assert len(bastion.store.kept) == 2

    on_bastion(test, Rules(connection_limit=2))


def test_a_closed_or_killed_session_makes_room() -> None:
    async def test(bastion: Bastion) -> None:
        first, second = Connection(bastion, 1), Connection(bastion, 2)
        await first.log_in(RIGHT_CODE)
        await first.hook("close_session", "")
        await second.log_in(RIGHT_CODE)
        bastion.deaths.die(second.monitor)
        await asyncio.sleep(0)
        assert (await Connection(bastion, 3).log_in(RIGHT_CODE))["result"] == "success"

    on_bastion(test, Rules(connection_limit=1))


def test_an_exempt_login_needs_a_slot_too() -> None:
    async def test(bastion: Bastion) -> None:
        await Connection(bastion, 1).log_in()
        done = await Connection(bastion, 2).authenticate()
        assert done["reason"] == "connection_limit"
        robot = await Connection(bastion, 3).hook("account", "")
        assert (robot["result"], robot["reason"]) == ("acct_denied", "connection_limit")

    on_bastion(test, replace(EXEMPT, connection_limit=1))


def test_a_slot_lost_on_the_way_is_not_opened_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starlingd.server.logins.HOLD", 0.0)

    async def test(bastion: Bastion) -> None:
        slow = Connection(bastion, 1)
        login = (await slow.authenticate(RIGHT_CODE))["env.PAM_STARLING_LOGIN"]
        bastion.deaths.die(slow.child)
        while bastion.host.logins.count("alice", "198.51.100.7"):
            await bastion.settled()
        await Connection(bastion, 2).log_in(RIGHT_CODE)
        account = await slow.hook("account", login)
        assert (account["result"], account["reason"]) == ("acct_denied", "connection_limit")
        assert account["said"] == "Too many parallel sessions from your address (1 open)"
        opened = await slow.hook("open_session", login)
        assert (opened["result"], opened["reason"]) == ("session_err", "connection_limit")
        assert len(bastion.host.logins.leases) == 1

    on_bastion(test, Rules(connection_limit=1))
