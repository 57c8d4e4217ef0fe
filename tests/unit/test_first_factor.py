"""Nobody is let in by name alone: who needs no second factor must have shown a first one before us."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from starlingd.core.conversation import FIRST_FACTOR_RULE, confirm, converse
from starlingd.core.grace import Entry, Key, Moment
from starlingd.core.model import Check, Factor, NotStarted, Outcome, PushStatus, Reason, Result
from starlingd.core.rules import (
    Allow,
    ExemptResult,
    FailMode,
    Grace,
    GroupList,
    NetworkList,
    NotEnrolled,
    Question,
    Rules,
    Unenrolled,
    UserList,
    WithoutSecondFactor,
)
from starlingd.core.sentences import NEEDS_FIRST_FACTOR
from starlingd.core.steps import Inquire
from tests.daemon_under_test import RIGHT_CODE, Bastion, on_bastion
from tests.unit.script import FACTS, LOGIN, RIGHT, World, unreachable

if TYPE_CHECKING:
    from starlingd.core.model import Login, Verdict

NOW = Moment(1.0, 1.0, "boot-1")
HIT = Entry("1000 alice", NOW, NOW, 1)
NOTHING = replace(LOGIN, auth_info="")
LISTED = UserList("robots", Allow.NO_USER, frozenset({"alice"}))
UNKNOWN = [NotStarted.NOT_ENROLLED]
GRACE = Grace(soft_timeout=60, hard_timeout=600, reuse_limit=2)

# Each way in without a second factor: the rules, and what the world says.
UNASKED: dict[Reason, tuple[Rules, World]] = {
    Reason.BREAK_GLASS: (Rules(break_glass=frozenset({"alice"})), World()),
    Reason.EXEMPT_USER_LIST: (Rules(user_list=LISTED), World()),
    Reason.EXEMPT_NETWORK: (
        Rules(networks=NetworkList(Allow.NO_USER, (ip_network("198.51.100.0/24"),))),
        World(),
    ),
    Reason.EXEMPT_LDAP_GROUP: (Rules(groups=GroupList(Allow.NO_USER, ("robots",))), World(group="robots")),
    Reason.CACHED: (Rules(grace=GRACE), World(entry=HIT)),
    Reason.ALLOW_UNTIL: (
        Rules(not_enrolled=Unenrolled(NotEnrolled.ALLOW_UNTIL, 1.0)),
        World(answers=[""], starts=UNKNOWN, days=3),
    ),
    Reason.FAIL_OPEN: (
        Rules(fail_mode=FailMode.SAFE),
        World(answers=[RIGHT], checks=[unreachable()], unreachable=True),
    ),
    Reason.OBSERVED: (Rules(), World()),
}


def decided(reason: Reason, login: Login, **rules: object) -> tuple[Verdict, World]:
    """Authenticate ``login`` where it would be let in for ``reason``."""
    given, world = UNASKED[reason]
    world = replace(world, steps=[], replies=[])
    facts = replace(FACTS, observing=reason is Reason.OBSERVED)
    return world.run(converse(login, facts, replace(given, **rules))), world  # type: ignore[arg-type]


@pytest.mark.parametrize("result", ExemptResult)
@pytest.mark.parametrize("reason", UNASKED)
def test_whoever_has_shown_nothing_at_all_is_refused_however_the_rules_read(
    reason: Reason, result: ExemptResult
) -> None:
    verdict, _ = decided(reason, NOTHING, exempt_result=result)
    assert (verdict.outcome, verdict.result) == (Outcome.DENY, Result.AUTH_ERR)
    assert (verdict.reason, verdict.rule) == (Reason.NO_FIRST_FACTOR, FIRST_FACTOR_RULE)
    assert (verdict.sentence, verdict.evidence["instead_of"]) == (NEEDS_FIRST_FACTOR, reason)


@pytest.mark.parametrize(
    "auth_info",
    ["publickey ssh-ed25519 AAAA\n", "password\n", "gssapi-with-mic\n", "hostbased ssh-ed25519 AAAA\n"],
)
@pytest.mark.parametrize("reason", UNASKED)
def test_whatever_sshd_has_seen_before_us_is_a_first_factor(reason: Reason, auth_info: str) -> None:
    assert decided(reason, replace(LOGIN, auth_info=auth_info))[0].reason is reason


@pytest.mark.parametrize("reason", UNASKED)
def test_so_is_what_the_line_says_was_asked_before(reason: Reason) -> None:
    assert decided(reason, replace(NOTHING, first_factor="before"))[0].reason is reason


@pytest.mark.parametrize("auth_info", ["\n", " \n"])
def test_a_text_without_a_word_is_nothing(auth_info: str) -> None:
    verdict, _ = decided(Reason.EXEMPT_USER_LIST, replace(LOGIN, auth_info=auth_info))
    assert verdict.reason is Reason.NO_FIRST_FACTOR


@pytest.mark.parametrize(
    "login",
    [
        replace(NOTHING, connection=""),
        replace(NOTHING, connection="", client_ip=""),
        replace(NOTHING, service="bastion"),
    ],
    ids=["sshd without a connection", "sshd without an address", "sshd by another name"],
)
def test_sshd_is_known_by_its_name_and_by_its_connection(login: Login) -> None:
    assert decided(Reason.BREAK_GLASS, login)[0].reason is Reason.NO_FIRST_FACTOR


@pytest.mark.parametrize(
    ("login", "needs"),
    [
        (replace(NOTHING, service="login", connection="", client_ip="", tty="tty1"), None),
        (replace(NOTHING, is_test=True), "first_factor"),
        (replace(NOTHING, is_test=True, first_factor="before"), None),
    ],
    ids=["console", "login-test", "login-test behind a password"],
)
@pytest.mark.parametrize("reason", set(UNASKED) - {Reason.EXEMPT_NETWORK})
def test_a_console_is_not_concerned_and_a_trial_tells_what_a_login_needs(
    reason: Reason, login: Login, needs: str | None
) -> None:
    verdict = decided(reason, login)[0]
    assert (verdict.reason, verdict.evidence.get("needs")) == (reason, needs)


@pytest.mark.parametrize(
    ("world", "factor"),
    [
        (World(answers=[RIGHT], checks=[Check.RIGHT]), Factor.CODE),
        (World(answers=[""], statuses=[PushStatus.APPROVED]), Factor.PUSH),
    ],
    ids=["code", "push"],
)
def test_a_second_factor_is_something_shown(world: World, factor: Factor) -> None:
    verdict = world.run(converse(NOTHING, FACTS, Rules()))
    assert (verdict.outcome, verdict.factor) == (Outcome.ALLOW, factor)


def test_whoever_has_shown_nothing_is_asked_no_question_either() -> None:
    question = Question(1, "ticket", "Ticket:")
    verdict, world = decided(Reason.EXEMPT_USER_LIST, NOTHING, questions=(question,))
    assert verdict.reason is Reason.NO_FIRST_FACTOR
    assert world.of(Inquire) == []


def test_a_refusal_keeps_its_own_reason() -> None:
    world = World(answers=[RIGHT], checks=[unreachable()])
    assert world.run(converse(NOTHING, FACTS, Rules())).reason is Reason.UNREACHABLE
    assert World(sessions=1).run(converse(NOTHING, FACTS, Rules(connection_limit=1))).reason is Reason.CONNECTION_LIMIT


@pytest.mark.parametrize("reason", set(UNASKED) - {Reason.ALLOW_UNTIL, Reason.FAIL_OPEN})
def test_the_account_hook_lets_a_key_alone_in_as_ever_for_sshd_says_nothing_of_it_there(reason: Reason) -> None:
    rules, world = UNASKED[reason]
    facts = replace(FACTS, observing=reason is Reason.OBSERVED)
    assert replace(world, steps=[], replies=[]).run(confirm(NOTHING, facts, rules)).reason is reason
    allowing = Rules(without_second_factor=WithoutSecondFactor.ALLOW)
    assert World().run(confirm(NOTHING, FACTS, allowing)).reason is Reason.KEY_ONLY_ALLOWED


def test_a_reuse_is_given_back_by_the_login_that_showed_nothing_and_no_record_is_left() -> None:
    key = Key("alice", "198.51.100.7", "", "")

    async def test(bastion: Bastion) -> None:
        moment = bastion.host.moment()
        bastion.store.entries[key] = Entry("1000 alice", moment, moment)
        done = await (await bastion.call("authenticate", authinfo="")).done()
        assert (done["result"], done["reason"], done["said"]) == ("auth_err", "no_first_factor", NEEDS_FIRST_FACTOR)
        assert "env.PAM_STARLING_LOGIN" not in done
        await bastion.settled()
        await bastion.host.logins.settle()
        assert (bastion.store.kept, bastion.store.reuses, bastion.store.entries[key].reuses) == ({}, {}, 0)
        [event] = bastion.events()
        assert (event["STARLING_OUTCOME"], event["STARLING_REASON"]) == ("deny", "no_first_factor")
        assert event["STARLING_RULE"] == FIRST_FACTOR_RULE
        assert event["STARLING_EVIDENCE"] == "instead_of=cached"

    on_bastion(test, Rules(grace=GRACE))


def test_nothing_of_break_glass_is_loud_where_nobody_was_let_in() -> None:
    async def test(bastion: Bastion) -> None:
        done = await (await bastion.call("authenticate", authinfo="")).done()
        assert done["reason"] == "no_first_factor"
        await bastion.settled()
        assert bastion.events("break_glass") == []

    on_bastion(test, Rules(break_glass=frozenset({"alice"})))


def test_whoever_has_a_code_gets_in_without_a_key_as_before() -> None:
    async def test(bastion: Bastion) -> None:
        module = await bastion.call("authenticate", authinfo="")
        await module.answer(RIGHT_CODE)
        assert (await module.done())["result"] == "success"

    on_bastion(test)
