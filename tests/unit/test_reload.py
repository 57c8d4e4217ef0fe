"""A reload: all or nothing, written down, and what it makes invalid is dropped; who is on the way is not disturbed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from starlingd.core.grace import Entry, Key
from starlingd.core.rules import Allow, Bind, FailMode, Grace, NetworkList, Question, Rules, UserList
from starlingd.ports import Fault, Unavailable
from tests.daemon_under_test import RIGHT_CODE, Bastion, Connection, Whole, on_bastion, whole_daemon

GRACE = Grace(soft_timeout=60, hard_timeout=600, reuse_limit=-1)
CACHED = Rules(grace=GRACE)
ALICE, BOB, CAROL = (Key(user, "198.51.100.7", "", "") for user in ("alice", "bob", "carol"))
AWAY = Key("alice", "203.0.113.5", "", "")


def listed(*names: str, allow: Allow = Allow.NO_USER) -> UserList:
    return UserList("robots", allow, frozenset(names))


def fill(bastion: Bastion, *keys: Key) -> None:
    """Have everybody asked just now."""
    moment = bastion.host.moment()
    bastion.store.entries |= {key: Entry("1000 alice", moment, moment) for key in keys}


async def reload(bastion: Bastion, whole: Whole, rules: Rules | None, sentence: str = "ready") -> dict[str, str]:
    """Reload with other rules, or a bad configuration; return the audit event after all it leads to."""
    current = bastion.host.current
    assert current
    await whole.reload((replace(current, rules=rules), sentence) if rules else (None, sentence))
    for _ in range(4):  # what is dropped is looked up first, and each is one call of the store
        await asyncio.sleep(0)
        await bastion.host.pools.store.run(5, bool)
    return bastion.events("reload")[-1]


def reloading(tmp_path: Path, before: Rules, keys: tuple[Key, ...], after: Rules, left: set[Key]) -> None:
    """Check which of ``keys`` are left by a reload from one set of rules to the other."""

    async def test(bastion: Bastion) -> None:
        async with whole_daemon(bastion, tmp_path) as whole:
            fill(bastion, *keys)
            await reload(bastion, whole, after)
            assert set(bastion.store.entries) == left

    on_bastion(test, before)


def test_who_becomes_exempt_or_ceases_to_be_loses_grace_and_nobody_else(tmp_path: Path) -> None:
    before, after = replace(CACHED, user_list=listed("alice")), replace(CACHED, user_list=listed("bob"))
    reloading(tmp_path, before, (ALICE, BOB, CAROL), after, {CAROL})


def test_a_list_turned_around_drops_whom_it_concerns(tmp_path: Path) -> None:
    before, after = CACHED, replace(CACHED, user_list=listed("CAROL", allow=Allow.ALL_USERS))
    reloading(tmp_path, before, (ALICE, BOB, CAROL), after, {CAROL})


def test_a_network_that_begins_to_exempt_drops_the_entries_from_it(tmp_path: Path) -> None:
    after = replace(CACHED, networks=NetworkList(Allow.NO_USER, (ip_network("203.0.113.0/24"),)))
    console = Key("alice", "tty1", "", "")
    reloading(tmp_path, CACHED, (ALICE, AWAY, console), after, {ALICE, console})


def test_breaking_the_glass_anew_drops_grace(tmp_path: Path) -> None:
    reloading(tmp_path, CACHED, (ALICE, BOB), replace(CACHED, break_glass=frozenset({"bob"})), {ALICE})


def test_another_binding_drops_everything(tmp_path: Path) -> None:
    bound = replace(GRACE, bind=frozenset({Bind.USER}))
    reloading(tmp_path, CACHED, (ALICE, BOB, AWAY), replace(CACHED, grace=bound), set())


def test_what_has_nothing_to_do_with_it_drops_nothing(tmp_path: Path) -> None:
    after = replace(CACHED, connection_limit=3, fail_mode=FailMode.SAFE, grace=replace(GRACE, soft_timeout=5))
    reloading(tmp_path, CACHED, (ALICE, BOB), after, {ALICE, BOB})


def test_a_changed_mapping_makes_an_entry_useless(tmp_path: Path) -> None:
    async def test(bastion: Bastion) -> None:
        async with whole_daemon(bastion, tmp_path) as whole:
            await Connection(bastion, 1).log_in(RIGHT_CODE)
            await reload(bastion, whole, replace(CACHED, explicit_mapping={"alice": "5551234"}))
            assert (await Connection(bastion, 2).log_in(RIGHT_CODE))["reason"] == "code_verified"
            assert bastion.provider.calls == ["verify alice", "verify 5551234"]

    on_bastion(test, CACHED)


def test_what_changed_is_one_event_without_any_value(tmp_path: Path) -> None:
    async def test(bastion: Bastion) -> None:
        async with whole_daemon(bastion, tmp_path) as whole:
            secret = replace(CACHED, explicit_mapping={"alice": "5551234"}, connection_limit=3)
            event = await reload(bastion, whole, secret)
            assert event["MESSAGE"] == "reloaded; changed: explicit_mapping, connection_limit"
            assert (event["STARLING_OUTCOME"], event["WARNING"]) == ("allow", "False")
            assert (await reload(bastion, whole, secret))["MESSAGE"] == "reloaded; no rule changed"
            assert len(bastion.events("reload")) == 2

    on_bastion(test, CACHED)


def test_a_bad_configuration_changes_nothing_and_says_why(tmp_path: Path) -> None:
    async def test(bastion: Bastion) -> None:
        async with whole_daemon(bastion, tmp_path) as whole:
            await Connection(bastion, 1).log_in(RIGHT_CODE)
            current = bastion.host.current
            event = await reload(bastion, whole, None, "line 3: [auth] prompt: must not be empty")
            assert event["MESSAGE"] == "line 3: [auth] prompt: must not be empty"
            assert (event["STARLING_OUTCOME"], event["STARLING_REASON"]) == ("deny", "misconfigured")
            assert event["WARNING"] == "True"
            assert bastion.host.current is current
            assert (await Connection(bastion, 2).log_in())["reason"] == "cached"

    on_bastion(test, CACHED)


def test_entries_that_cannot_be_dropped_do_not_stop_the_reload(tmp_path: Path) -> None:
    async def test(bastion: Bastion) -> None:
        async with whole_daemon(bastion, tmp_path) as whole:
            await Connection(bastion, 0).log_in(RIGHT_CODE)
            bastion.store.outage = Unavailable("store", Fault.BROKEN, "disk full")
            event = await reload(bastion, whole, replace(CACHED, break_glass=frozenset({"alice"})))
            assert event["STARLING_OUTCOME"] == "allow"
            bastion.store.outage = None
            assert (await Connection(bastion, 1).authenticate())["reason"] == "break_glass"

    on_bastion(test, CACHED)


def test_a_login_on_its_way_ends_under_the_rules_it_began_with(tmp_path: Path) -> None:
    strict = replace(CACHED, max_attempts=1, questions=(Question(1, "why", "Why?", required=True),))

    async def test(bastion: Bastion) -> None:
        async with whole_daemon(bastion, tmp_path) as whole:
            alice = Connection(bastion, 1)
            module = await alice.begin()
            await module.answer("000000")
            await reload(bastion, whole, strict)
            await module.answer("111111")
            await module.answer(RIGHT_CODE)
            done = await module.done()
            assert done["result"] == "success"
            assert (await alice.hook("account", done["env.PAM_STARLING_LOGIN"]))["result"] == "success"
            assert (await alice.hook("open_session", done["env.PAM_STARLING_LOGIN"]))["result"] == "success"
            assert (await Connection(bastion, 2, address="192.0.2.9").authenticate("000000"))["result"] == "maxtries"

    on_bastion(test, CACHED)


def test_a_limit_switched_on_counts_the_sessions_that_are_open(tmp_path: Path) -> None:
    async def test(bastion: Bastion) -> None:
        async with whole_daemon(bastion, tmp_path) as whole:
            for number in range(3):
                await Connection(bastion, number).log_in(RIGHT_CODE)
            await reload(bastion, whole, Rules(connection_limit=2))
            done = await Connection(bastion, 4).authenticate()
            assert done["said"] == "Too many parallel sessions from your address (3 open)"
            await reload(bastion, whole, Rules())
            await Connection(bastion, 5).log_in(RIGHT_CODE)
            await reload(bastion, whole, Rules(connection_limit=4))
            assert (await Connection(bastion, 6).authenticate())["reason"] == "connection_limit"

    on_bastion(test)


@pytest.mark.parametrize("good", [True, False])
def test_a_daemon_that_began_without_a_configuration_takes_the_first_good_one(tmp_path: Path, good: bool) -> None:  # noqa: FBT001
    async def test(bastion: Bastion) -> None:
        current, bastion.host.current = bastion.host.current, None
        async with whole_daemon(bastion, tmp_path) as whole:
            assert (await Connection(bastion, 1).authenticate())["reason"] == "misconfigured"
            await whole.reload((current, "ready") if good else (None, "still bad"))
            assert len(bastion.events("reload")) == 1
            done = await Connection(bastion, 2).authenticate(*[RIGHT_CODE] * good)
            assert done["reason"] == ("code_verified" if good else "misconfigured")

    on_bastion(test)
