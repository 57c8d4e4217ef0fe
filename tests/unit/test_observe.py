"""While the rules are only tried out: nobody is asked, nothing is left, and the log says what would have been."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from starlingd.core.conversation import confirm, converse
from starlingd.core.grace import Entry, Key, Miss, Moment
from starlingd.core.model import Fault, Outcome, Reason, Result, Unavailable
from starlingd.core.rules import (
    Allow,
    ExemptResult,
    Grace,
    OnMappingFailure,
    Provider,
    Question,
    Rules,
    UserList,
    WithoutSecondFactor,
)
from starlingd.core.steps import LookUp, Peek, Reuse
from tests.daemon_under_test import Bastion, Connection, on_bastion
from tests.unit.script import FACTS, INTERRUPTIONS, LOGIN, ROOT, World, outage

if TYPE_CHECKING:
    from starlingd.core.steps import Conversation

OBSERVING = replace(FACTS, observing=True)
BATCH = replace(LOGIN, service="backup")
NOW = Moment(1.0, 1.0, "boot-1")
HIT = Entry("1000 alice", NOW, NOW, 1)
GRACE = Grace(soft_timeout=60, hard_timeout=600, reuse_limit=2)
KEY = Key("alice", "198.51.100.7", "", "")
TICKET = Question(1, "ticket", "Ticket:", required=True)
EXEMPT = UserList("robots", Allow.NO_USER, frozenset({"alice"}))
PUSH, ALLOW = (WithoutSecondFactor.PUSH, WithoutSecondFactor.ALLOW)


def until(**rules: object) -> Rules:
    """Make rules that are only tried out for the time of a test."""
    return Rules(observe_until=time.time() + 60, **rules)  # type: ignore[arg-type]


# What would have been decided

ASKED: list[tuple[Rules, World, str]] = [
    (Rules(), World(), "second_factor alice"),
    (Rules(provider=Provider.TOTP), World(), "second_factor alice"),
    (Rules(user_list=EXEMPT), World(), "exempt exempt_user_list"),
    (Rules(user_list=EXEMPT, questions=(TICKET,)), World(), "exempt exempt_user_list"),
    (Rules(grace=GRACE), World(entry=HIT), "cached cached"),
    (Rules(grace=GRACE), World(entry=Miss.REUSE_LIMIT), "second_factor alice"),
    (Rules(), World(account=ROOT), "deny root_not_permitted"),
    (Rules(permit_root=True), World(account=ROOT), "second_factor root"),
    (Rules(connection_limit=1), World(sessions=1), "deny connection_limit"),
    (Rules(mapping_attribute="uid"), World(), "deny mapping_failed"),
    (Rules(mapping_attribute="uid", on_mapping_failure=OnMappingFailure.KEEP), World(), "second_factor alice"),
    (Rules(mapping_attribute="uid"), World(mapped=outage(Fault.BUSY, "directory")), "deny directory_unavailable"),
    (Rules(grace=GRACE), World(entry=outage(Fault.BROKEN, "store")), "deny store_unavailable"),
]
UNASKED: list[tuple[Rules, World, str]] = [
    (Rules(), World(), "second_factor alice"),
    (Rules(provider=Provider.TOTP), World(), "deny no_second_factor"),
    (Rules(questions=(TICKET,)), World(), "deny question_refused"),
    (Rules(user_list=EXEMPT, questions=(TICKET,)), World(), "deny question_refused"),
    (Rules(user_list=EXEMPT), World(), "exempt exempt_user_list"),
    (Rules(), World(account=ROOT), "deny root_not_permitted"),
]
BY_KEY: list[tuple[Rules, World, str]] = [
    (Rules(), World(), "deny no_second_factor"),
    (Rules(without_second_factor=PUSH), World(), "second_factor alice"),
    (Rules(without_second_factor=PUSH, provider=Provider.TOTP), World(), "deny no_second_factor"),
    (Rules(without_second_factor=ALLOW), World(), "exempt key_only_allowed"),
    (Rules(without_second_factor=ALLOW, questions=(TICKET,)), World(), "deny question_refused"),
    (Rules(without_second_factor=ALLOW), World(account=ROOT), "deny root_not_permitted"),
    (Rules(user_list=EXEMPT), World(), "exempt exempt_user_list"),
    (Rules(grace=GRACE), World(entry=HIT), "cached cached"),
]


def observed(conversation: Conversation, world: World, would: str) -> None:
    """Play a conversation that lets in, whatever would have been, and look at what it says of that."""
    world = replace(world, steps=[], replies=[])
    verdict = world.run(conversation)
    assert (verdict.outcome, verdict.result, verdict.reason) == (Outcome.IGNORE, Result.IGNORE, Reason.OBSERVED)
    assert verdict.evidence == {"would": would}
    assert world.seen() == []
    assert world.of(Reuse) == []


@pytest.mark.parametrize(("rules", "world", "would"), ASKED)
def test_it_says_what_would_have_become_of_who_can_be_asked(rules: Rules, world: World, would: str) -> None:
    observed(converse(LOGIN, OBSERVING, rules), world, would)


@pytest.mark.parametrize(("rules", "world", "would"), UNASKED)
def test_and_of_who_cannot_be_asked_anything(rules: Rules, world: World, would: str) -> None:
    observed(converse(BATCH, OBSERVING, rules), world, would)


@pytest.mark.parametrize(("rules", "world", "would"), BY_KEY)
def test_and_of_a_login_by_key_alone(rules: Rules, world: World, would: str) -> None:
    observed(confirm(replace(LOGIN, auth_info=""), OBSERVING, rules), world, would)


@pytest.mark.parametrize(
    ("login", "by_key", "cases"),
    [(LOGIN, False, ASKED), (BATCH, False, UNASKED), (LOGIN, True, BY_KEY)],
    ids=["asked", "unasked", "by key"],
)
def test_what_it_says_is_what_happens_once_it_is_enforced(
    login: object,
    by_key: bool,  # noqa: FBT001
    cases: list[tuple[Rules, World, str]],
) -> None:
    for rules, world, would in cases:
        ending, reason = would.split()
        if ending == "second_factor":
            continue
        enforced = replace(world, steps=[], replies=[])
        verdict = enforced.run((confirm if by_key else converse)(login, FACTS, rules))  # type: ignore[arg-type]
        if reason == "question_refused" or not rules.questions:
            assert (verdict.reason, verdict.lets_in) == (reason, ending != "deny")


def test_the_rule_that_would_decide_is_named() -> None:
    verdict = World().run(confirm(LOGIN, OBSERVING, Rules()))
    assert verdict.rule == "account.without_second_factor"
    assert World(account=ROOT).run(converse(LOGIN, OBSERVING, Rules())).rule == "auth.permit_root"


# Who is refused all the same


@pytest.mark.parametrize("begin", [converse, confirm])
def test_an_unknown_account_and_an_account_database_that_fails_are_refused(begin: object) -> None:
    for account, reason in ((None, Reason.UNKNOWN_USER), (outage(Fault.BROKEN, "nss"), Reason.NSS_UNAVAILABLE)):
        verdict = World(account=account).run(begin(LOGIN, OBSERVING, Rules()))  # type: ignore[operator]
        assert (verdict.outcome, verdict.reason) == (Outcome.DENY, reason)


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_whoever_is_interrupted_is_refused(interruption: type[Exception]) -> None:
    world = World(interrupted_at=0, interruption=interruption())
    assert not world.run(converse(LOGIN, OBSERVING, Rules())).lets_in
    assert world.of(LookUp)


def test_whoever_has_shown_no_first_factor_is_refused_and_what_would_have_been_is_told() -> None:
    for rules, would in ((Rules(), "second_factor alice"), (Rules(user_list=EXEMPT), "deny no_first_factor")):
        verdict = World().run(converse(replace(LOGIN, auth_info=""), OBSERVING, rules))
        assert (verdict.outcome, verdict.reason) == (Outcome.DENY, Reason.NO_FIRST_FACTOR)
        assert verdict.evidence == {"would": would, "instead_of": "observed"}


# Break-glass


@pytest.mark.parametrize("begin", [converse, confirm])
@pytest.mark.parametrize("result", ExemptResult)
def test_break_glass_is_break_glass_and_asked_no_question(begin: object, result: ExemptResult) -> None:
    rules = Rules(break_glass=frozenset({"alice"}), exempt_result=result, questions=(TICKET,))
    world = World(sessions=9)
    verdict = world.run(begin(LOGIN, OBSERVING, rules))  # type: ignore[operator]
    assert (verdict.reason, str(verdict.result)) == (Reason.BREAK_GLASS, result)
    assert world.seen() == []


@pytest.mark.parametrize("recovered", [True, False])
def test_break_glass_needs_no_state_file_while_observing_either_and_is_loud(recovered: bool) -> None:  # noqa: FBT001
    async def test(bastion: Bastion) -> None:
        bastion.store.outage = Unavailable("store", Fault.BROKEN, "disk full")
        bastion.host.recovered = recovered
        assert (await Connection(bastion, 1).log_in())["result"] == "success"
        [loud] = bastion.events("break_glass")
        assert (loud["STARLING_USER"], loud["STARLING_MODE"], loud["WARNING"]) == ("alice", "observe", "True")
        refused = await (await bastion.call("authenticate", user="ALICE")).done()
        assert refused["reason"] == "store_unavailable"

    on_bastion(test, until(break_glass=frozenset({"alice"})))


# What is left of it


def test_an_observed_login_has_its_session_without_grace_and_uses_none() -> None:
    async def test(bastion: Bastion) -> None:
        moment = bastion.host.moment()
        bastion.store.entries[KEY] = Entry("1000 alice", moment, moment)
        before = dict(bastion.store.entries)
        assert (await Connection(bastion, 1).log_in())["result"] == "success"
        [event] = bastion.events()
        assert (event["STARLING_REASON"], event["STARLING_EVIDENCE"]) == ("observed", "would=cached cached")
        assert (bastion.store.entries, bastion.store.reuses) == (before, {})
        bastion.store.entries.clear()
        assert (await Connection(bastion, 2).log_in())["result"] == "success"
        assert bastion.events()[-1]["STARLING_EVIDENCE"] == "would=second_factor alice"
        assert bastion.store.entries == {}
        assert len(bastion.store.open) == 2
        assert bastion.provider.calls == []

    on_bastion(test, until(grace=GRACE))


def test_every_login_decided_while_observing_says_so_refused_or_not() -> None:
    async def test(bastion: Bastion) -> None:
        for user, reason in (("alice", "observed"), ("root", "observed"), ("nobody-here", "unknown_user")):
            assert (await (await bastion.call("authenticate", user=user)).done())["reason"] == reason
        assert (await (await bastion.call("authenticate", authinfo="")).done())["reason"] == "no_first_factor"
        bastion.people.outage = Unavailable("nss", Fault.BROKEN, "EIO")
        assert (await (await bastion.call("account")).done())["reason"] == "nss_unavailable"
        bastion.people.outage = ZeroDivisionError("a bug")
        assert (await (await bastion.call("authenticate")).done())["reason"] == "internal_error"
        bastion.people.outage = None
        bastion.store.outage = Unavailable("store", Fault.BROKEN, "disk full")
        assert (await (await bastion.call("authenticate")).done())["reason"] == "store_unavailable"
        bastion.host.recovered = False
        assert (await (await bastion.call("account")).done())["reason"] == "store_unavailable"
        await bastion.settled()
        assert [event["STARLING_MODE"] for event in bastion.events()] == ["observe"] * 8

    on_bastion(test, until())


def test_once_it_is_over_nothing_says_so_and_everybody_is_asked() -> None:
    async def test(bastion: Bastion) -> None:
        module = await bastion.call("authenticate")
        assert (await module.receive())[0] == "ask"
        module.hang_up()
        await bastion.settled()
        assert "STARLING_MODE" not in bastion.events()[0]

    on_bastion(test, Rules(observe_until=time.time() - 1))


def test_the_look_at_a_grace_entry_is_a_step_of_its_own() -> None:
    world = World(entry=HIT)
    world.run(converse(LOGIN, OBSERVING, Rules(grace=GRACE)))
    assert [step.key for step in world.of(Peek)] == [KEY]
