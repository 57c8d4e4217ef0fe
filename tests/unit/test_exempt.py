"""Conversations that follow a plan: who is let in without being asked, who is refused before, and what may open a door.

The last part plays any login under any rules in any world; there a door opens for a reason of a short list only, and
each reason is checked against what the world really said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from starlingd.core.conversation import confirm, converse
from starlingd.core.grace import Entry, Key, Miss, Moment
from starlingd.core.model import (
    Account,
    Check,
    Factor,
    Fault,
    NotStarted,
    Outcome,
    PushStatus,
    Reason,
    Result,
    Unavailable,
    Verdict,
)
from starlingd.core.policy import Groups, Mapped
from starlingd.core.rules import (
    Allow,
    Bind,
    ExemptResult,
    FailMode,
    Grace,
    GroupList,
    NetworkList,
    OnMappingFailure,
    Question,
    Rules,
    UserList,
    WithoutSecondFactor,
)
from starlingd.core.sentences import FAILED, NOT_WORKING, TOO_MANY_ATTEMPTS, UNREACHABLE
from starlingd.core.steps import (
    Ask,
    CancelPush,
    CheckPush,
    Conversation,
    CountSessions,
    FindGroups,
    FindIdentity,
    Inquire,
    Interrupted,
    LookUp,
    Pause,
    Probe,
    Reuse,
    StartPush,
    Verify,
)
from tests.unit.script import (
    ALICE,
    DEADLINE,
    FACTS,
    INTERRUPTIONS,
    LOGIN,
    OUTAGES,
    RIGHT,
    ROOT,
    STARTED,
    WRONG,
    World,
    outage,
    play,
    rate_limited,
    unreachable,
)
from tests.unit.script import (
    groups as membership,
)

Some = st.SearchStrategy[Any]
BATCH = replace(LOGIN, service="backup")
FOUND = (LookUp("alice"), ALICE)
THEN = Moment(100.0, 50.0, "boot")
ENTRY = Entry("1000 alice", THEN, THEN, 1)
GRACE = Grace(soft_timeout=60.0, hard_timeout=600.0, reuse_limit=3)
REUSE = Reuse(Key("alice", LOGIN.client_ip, "", ""), "1000 alice")
LISTED = UserList("people", Allow.NO_USER, frozenset({"alice"}))
PUSH = WithoutSecondFactor.PUSH

EXEMPTING: dict[Reason, tuple[Rules, str]] = {
    Reason.EXEMPT_USER_LIST: (Rules(user_list=LISTED), "user_list people"),
    Reason.EXEMPT_NETWORK: (
        Rules(networks=NetworkList(Allow.NO_USER, (ip_network("198.51.100.0/24"),))),
        "whitelist source=network",
    ),
    Reason.EXEMPT_LDAP_GROUP: (
        Rules(groups=GroupList(Allow.NO_USER, ("admins",))),
        "whitelist source=ldap_server_group",
    ),
    Reason.BREAK_GLASS: (Rules(break_glass=frozenset({"alice"})), "whitelist source=user_list.break_glass"),
}


def hooks(rules: Rules) -> list[Conversation]:
    """Begin Alice's login in every way: at a prompt, without one, and in the account hook."""
    return [converse(LOGIN, FACTS, rules), converse(BATCH, FACTS, rules), confirm(LOGIN, FACTS, rules)]


# --- exempt --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", EXEMPTING)
@pytest.mark.parametrize(
    ("choice", "outcome", "result"),
    [
        (ExemptResult.IGNORE, Outcome.IGNORE, Result.IGNORE),
        (ExemptResult.SUCCESS, Outcome.ALLOW, Result.SUCCESS),
    ],
)
def test_whoever_is_exempt_is_asked_nothing_and_pam_is_told_what_the_rule_says(
    reason: Reason, choice: ExemptResult, outcome: Outcome, result: Result
) -> None:
    rules, rule = EXEMPTING[reason]
    for hook in hooks(replace(rules, exempt_result=choice, grace=GRACE)):
        world = World(group="admins", entry=ENTRY)
        assert world.run(hook) == Verdict(outcome, result, reason, Factor.NONE, rule)
        assert {type(step) for step, _ in world.steps} <= {LookUp, FindGroups}


def test_the_directory_is_asked_about_the_user_as_he_came_and_the_groups_that_count() -> None:
    rules, _ = EXEMPTING[Reason.EXEMPT_LDAP_GROUP]
    verdict = play(converse(LOGIN, FACTS, rules), FOUND, (FindGroups(("alice",), ("admins",)), membership("admins")))
    assert verdict.reason is Reason.EXEMPT_LDAP_GROUP


@pytest.mark.parametrize("allow", Allow)
@pytest.mark.parametrize("group", [None, "", "admins"])
def test_a_directory_that_cannot_tell_lets_nobody_past_the_second_factor(allow: Allow, group: str | None) -> None:
    world = World(group=group, answers=[WRONG] * 3)
    verdict = world.run(converse(LOGIN, FACTS, Rules(groups=GroupList(allow, ("admins",)))))
    assert verdict.lets_in is (group is not None and bool(group) == (allow is Allow.NO_USER))


# --- cached --------------------------------------------------------------------------------------------------------


def test_a_grace_entry_lets_in_without_a_question() -> None:
    for hook in hooks(Rules(grace=GRACE)):
        verdict = play(hook, FOUND, (REUSE, ENTRY))
        assert verdict == Verdict(
            Outcome.ALLOW, Result.SUCCESS, Reason.CACHED, Factor.NONE, "authentication_cache.reuse_limit"
        )


@pytest.mark.parametrize("miss", Miss)
def test_a_miss_asks(miss: Miss) -> None:
    world = World(entry=miss, answers=[RIGHT], checks=[Check.RIGHT])
    assert world.run(converse(LOGIN, FACTS, Rules(grace=GRACE))).reason is Reason.CODE_VERIFIED
    assert [type(step) for step, _ in world.steps] == [LookUp, Reuse, Ask, Verify]


def test_a_hit_asks_no_directory_for_an_identity_but_a_miss_does() -> None:
    rules = Rules(grace=GRACE, mapping_attribute="employeeID")
    reuse = replace(REUSE, basis="1000 ldap:employeeID")
    assert play(converse(LOGIN, FACTS, rules), FOUND, (reuse, ENTRY)).reason is Reason.CACHED
    world = World(mapped="17", answers=[RIGHT], checks=[Check.RIGHT])
    assert world.run(converse(LOGIN, FACTS, rules)).lets_in
    assert [step.identity for step in world.of(Verify)] == ["17"]


def test_an_entry_bound_to_a_key_is_looked_for_under_that_key_and_not_at_all_without_one() -> None:
    rules = Rules(grace=replace(GRACE, bind=frozenset(Bind)))
    keyed = replace(LOGIN, ssh_key="SHA256:x")
    reuse = Reuse(Key("alice", LOGIN.client_ip, "SHA256:x", "sshd"), "1000 alice")
    assert play(confirm(keyed, FACTS, rules), FOUND, (reuse, ENTRY)).reason is Reason.CACHED
    unknown = World(entry=ENTRY)
    assert unknown.run(confirm(LOGIN, FACTS, rules)).reason is Reason.NO_SECOND_FACTOR
    assert not unknown.of(Reuse)


@pytest.mark.parametrize("account", [None, ROOT])
def test_nobody_has_a_grace_entry(account: Account | None) -> None:
    for hook in hooks(Rules(grace=GRACE, without_second_factor=PUSH)):
        world = World(account=account, entry=ENTRY, answers=[WRONG] * 3)
        assert not world.run(hook).lets_in
        assert not world.of(Reuse)


# --- the connection limit ------------------------------------------------------------------------------------------

COUNT = CountSessions("alice", LOGIN.client_ip)
LIMIT_RULE = "connection_limit by=client_ip_gateway_user.limit"


@pytest.mark.parametrize("sessions", [2, 17])
@pytest.mark.parametrize("rules", [Rules(), Rules(grace=GRACE), Rules(user_list=LISTED)], ids=["", "cached", "exempt"])
def test_a_full_house_is_told_how_many_are_open_before_anything_is_asked_or_reused(rules: Rules, sessions: int) -> None:
    for hook, result in zip(
        hooks(replace(rules, connection_limit=2, without_second_factor=PUSH)),
        [Result.AUTH_ERR, Result.AUTH_ERR, Result.ACCT_DENIED],
        strict=True,
    ):
        verdict = play(hook, FOUND, (COUNT, sessions))
        assert (verdict.outcome, verdict.result, verdict.rule) == (Outcome.DENY, result, LIMIT_RULE)
        assert verdict.reason is Reason.CONNECTION_LIMIT
        assert verdict.sentence == f"Too many parallel sessions from your address ({sessions} open)"


def test_with_room_left_a_login_goes_on() -> None:
    rules = Rules(connection_limit=2, grace=GRACE)
    assert play(converse(LOGIN, FACTS, rules), FOUND, (COUNT, 1), (REUSE, ENTRY)).reason is Reason.CACHED


def test_sessions_are_counted_by_canonical_user_and_address_or_tty() -> None:
    console = replace(LOGIN, user="ALICE", client_ip="", tty="tty1", service="login")
    script = ((LookUp("ALICE"), ALICE), (CountSessions("alice", "tty1"), 5))
    assert play(converse(console, FACTS, Rules(connection_limit=5)), *script).reason is Reason.CONNECTION_LIMIT


def test_no_limit_keeps_break_glass_out_and_none_counts_nobody() -> None:
    world = World(sessions=99)
    assert world.run(converse(LOGIN, FACTS, replace(EXEMPTING[Reason.BREAK_GLASS][0], connection_limit=1))).lets_in
    assert not world.of(CountSessions)
    for account in (None, ROOT):
        world = World(account=account, sessions=99, answers=[WRONG] * 3)
        assert world.run(converse(LOGIN, FACTS, Rules(connection_limit=1))).sentence == FAILED
        assert not world.of(CountSessions)


# --- mapping -------------------------------------------------------------------------------------------------------

MAPPING = Rules(mapping_attribute="employeeID")
FIND = FindIdentity("alice", "employeeID")


def test_whom_the_directory_does_not_map_is_refused_before_he_is_asked() -> None:
    for hook in hooks(replace(MAPPING, without_second_factor=PUSH)):
        verdict = play(hook, FOUND, (FIND, Mapped()))
        assert (verdict.outcome, verdict.reason) == (Outcome.DENY, Reason.MAPPING_FAILED)
        assert (verdict.rule, verdict.sentence) == ("usermapping source=ldap_server", FAILED)


def test_a_directory_that_is_down_refuses() -> None:
    for hook in hooks(replace(MAPPING, without_second_factor=PUSH)):
        verdict = play(hook, FOUND, (FIND, outage(Fault.UNREACHABLE, "directory")))
        assert (verdict.outcome, verdict.reason) == (Outcome.DENY, Reason.DIRECTORY_UNAVAILABLE)
        assert verdict.sentence == NOT_WORKING


@pytest.mark.parametrize("mapped", ["", outage(Fault.BUSY, "directory"), outage(Fault.UNREACHABLE, "directory")])
def test_where_names_are_kept_the_service_is_asked_about_the_name(mapped: str | Exception) -> None:
    rules = replace(MAPPING, on_mapping_failure=OnMappingFailure.KEEP, append_domain="example.org")
    world = World(mapped=mapped, answers=[RIGHT], checks=[Check.RIGHT])
    verdict = world.run(converse(LOGIN, FACTS, rules))
    assert (verdict.lets_in, verdict.rule) == (True, "auth.on_mapping_failure")
    assert [step.identity for step in world.of(Verify)] == ["alice@example.org"]


def test_an_identity_is_found_once_however_many_prompts_follow() -> None:
    world = World(mapped="17", answers=[WRONG, "", RIGHT], statuses=[PushStatus.EXPIRED])
    world.run(converse(LOGIN, FACTS, MAPPING))
    assert len(world.of(FindIdentity)) == 1
    assert [step.identity for step in world.of(Verify)] == ["17", "17"]
    assert [step.identity for step in world.of(StartPush)] == ["17"]


# --- locked out ----------------------------------------------------------------------------------------------------

LOCKED = World(checks=[Check.LOCKED], starts=[NotStarted.LOCKED])


@pytest.mark.parametrize("account", [ALICE, None, ROOT], ids=["alice", "unknown", "root"])
@pytest.mark.parametrize("answer", [RIGHT, WRONG, "", "abcdef", "1" * 13])
def test_whoever_is_locked_out_is_told_so_once_known_or_not(account: Account | None, answer: str) -> None:
    world = again(LOCKED, account=account, answers=[answer, RIGHT], gullible=True)
    verdict = world.run(converse(LOGIN, FACTS, Rules()))
    assert (verdict.outcome, verdict.result) == (Outcome.DENY, Result.MAXTRIES)
    assert verdict.sentence == TOO_MANY_ATTEMPTS == "Too many attempts; try again later"
    assert verdict.evidence.get("seen_as", verdict.reason) == Reason.TOO_MANY_ATTEMPTS
    assert len(world.of(Ask)) == 1
    assert not world.of(CheckPush)
    if account is ALICE:
        assert (verdict.reason, verdict.rule) == (Reason.TOO_MANY_ATTEMPTS, "auth.max_failures")


def test_whoever_is_locked_out_gets_no_push_in_any_hook() -> None:
    unasked = again(LOCKED).run(converse(BATCH, FACTS, Rules()))
    assert (unasked.result, unasked.reason) == (Result.MAXTRIES, Reason.TOO_MANY_ATTEMPTS)
    account = again(LOCKED).run(confirm(LOGIN, FACTS, Rules(without_second_factor=PUSH)))
    assert (account.result, account.reason) == (Result.ACCT_DENIED, Reason.TOO_MANY_ATTEMPTS)
    assert account.sentence == unasked.sentence == TOO_MANY_ATTEMPTS


def test_who_gets_locked_in_the_middle_may_not_go_on() -> None:
    world = World(answers=[WRONG, RIGHT, RIGHT], checks=[Check.WRONG, Check.LOCKED, Check.RIGHT])
    verdict = world.run(converse(LOGIN, FACTS, Rules(max_attempts=9)))
    assert (verdict.result, verdict.reason) == (Result.MAXTRIES, Reason.TOO_MANY_ATTEMPTS)
    assert verdict.evidence == {"failures": "wrong_code"}


# --- fail mode -----------------------------------------------------------------------------------------------------

SAFE = Rules(fail_mode=FailMode.SAFE, poll_interval=30)
DOWN = World(
    answers=[RIGHT], checks=[unreachable()], starts=[unreachable()], statuses=[unreachable()], unreachable=True
)
OPENED = Verdict(
    Outcome.ALLOW, Result.SUCCESS, Reason.FAIL_OPEN, rule="auth.fail_mode", evidence={"outage": "timed out"}
)


def again(world: World, **changes: object) -> World:
    """Make a fresh world that answers like ``world``."""
    memory = {"steps", "replies", "now", "pending"}
    answers = {each.name: getattr(world, each.name) for each in fields(World) if each.name not in memory}
    return World(**answers | changes)


@pytest.mark.parametrize(
    "world",
    [
        DOWN,
        again(DOWN, answers=[""]),
        again(DOWN, answers=[""], starts=[STARTED]),
        again(DOWN, answers=[""], starts=[STARTED], statuses=[PushStatus.PENDING, unreachable()]),
        again(DOWN, answers=[WRONG, RIGHT], checks=[Check.WRONG, unreachable()]),
    ],
    ids=["code", "push", "polls", "last poll", "second code"],
)
def test_while_nobody_can_be_asked_safe_lets_in_and_secure_does_not(world: World) -> None:
    verdict = again(world).run(converse(LOGIN, FACTS, SAFE))
    assert replace(verdict, evidence={"outage": verdict.evidence["outage"]}) == OPENED
    secure = again(world)
    refused = secure.run(converse(LOGIN, FACTS, replace(SAFE, fail_mode=FailMode.SECURE)))
    assert (refused.outcome, refused.reason, refused.sentence) == (Outcome.DENY, Reason.UNREACHABLE, UNREACHABLE)
    assert not secure.of(Probe)


def test_a_service_that_may_not_be_prompted_fails_open_too() -> None:
    assert again(DOWN).run(converse(BATCH, FACTS, SAFE)) == OPENED


@pytest.mark.parametrize("probe", [False, *OUTAGES, *(kind() for kind in INTERRUPTIONS)], ids=str)
def test_unless_the_daemons_own_calls_fail_too_nobody_is_let_in(probe: object) -> None:
    verdict = again(DOWN, unreachable=probe).run(converse(LOGIN, FACTS, SAFE))
    assert (verdict.outcome, verdict.result) == (Outcome.DENY, Result.AUTH_ERR)
    assert verdict.sentence


@pytest.mark.parametrize("failure", [*OUTAGES, rate_limited(1000.0)], ids=str)
def test_only_the_service_being_unreachable_counts(failure: Unavailable) -> None:
    counts = failure.fault is Fault.UNREACHABLE and failure.port == "starling"
    for answer in (RIGHT, ""):
        world = again(DOWN, answers=[answer], checks=[failure], starts=[failure])
        assert world.run(converse(LOGIN, FACTS, SAFE)).lets_in is counts
        assert bool(world.of(Probe)) is counts


@pytest.mark.parametrize(
    "world",
    [
        World(answers=[WRONG] * 3),
        World(answers=[RIGHT] * 3, checks=[Check.NOT_ENROLLED]),
        World(answers=["", "", ""]),
        World(answers=["", "", ""], statuses=[PushStatus.EXPIRED]),
        World(answers=[""], statuses=[PushStatus.DENIED]),
        World(answers=["", "", ""], starts=[NotStarted.LIMIT]),
        World(answers=["x"] * 3),
        again(LOCKED, answers=[RIGHT]),
        again(LOCKED, answers=[""]),
        again(LOCKED, answers=["abcdef"]),
        World(answers=[]),
    ],
)
def test_what_an_attacker_can_cause_never_fails_open(world: World) -> None:
    world = again(world, unreachable=True)
    assert not world.run(converse(LOGIN, FACTS, SAFE)).lets_in
    assert not world.of(Probe)


@pytest.mark.parametrize(
    ("world", "rules"),
    [
        (again(DOWN, account=None), SAFE),
        (again(DOWN, account=ROOT), SAFE),
        (again(DOWN, account=ROOT), replace(SAFE, permit_root=True)),
        (again(DOWN, account=Account("toor", 0)), replace(SAFE, permit_root=True)),
        (DOWN, replace(SAFE, fail_open_users=frozenset())),
        (DOWN, replace(SAFE, fail_open_users=frozenset({"bob"}))),
        (again(DOWN, account=Account("bob", 1001)), replace(SAFE, fail_open_users=frozenset({"alice"}))),
        (again(DOWN, sessions=1), replace(SAFE, connection_limit=1)),
    ],
    ids=["unknown", "root", "permitted root", "toor", "nobody listed", "not listed", "typed name listed", "full"],
)
def test_those_whom_safe_does_not_apply_to_are_refused(world: World, rules: Rules) -> None:
    for login in (LOGIN, BATCH):
        tried = again(world)
        assert not tried.run(converse(login, FACTS, rules)).lets_in
        assert not tried.of(Probe)


def test_whoever_is_listed_fails_open() -> None:
    assert again(DOWN).run(converse(LOGIN, FACTS, replace(SAFE, fail_open_users=frozenset({"alice"})))).lets_in


def test_the_account_hook_never_fails_open() -> None:
    world = again(DOWN)
    verdict = world.run(confirm(LOGIN, FACTS, replace(SAFE, without_second_factor=PUSH)))
    assert (verdict.result, verdict.reason) == (Result.ACCT_DENIED, Reason.UNREACHABLE)
    assert not world.of(Probe)


# --- whatever happens, at every step of every kind of login --------------------------------------------------------

EVERYTHING = Rules(
    groups=GroupList(Allow.NO_USER, ("admins",)),
    connection_limit=3,
    grace=GRACE,
    mapping_attribute="employeeID",
    fail_mode=FailMode.SAFE,
    poll_interval=30,
    questions=(Question(1, "why", "Why?", required=False, pattern="x"),),
    without_second_factor=PUSH,
)
KINDS: dict[str, World] = {
    "exempt": World(group="admins", told=["x"]),
    "cached": World(entry=ENTRY, told=["y", "x"], matches=[False, True]),
    "full": World(sessions=3),
    "unmapped": World(mapped=""),
    "code": World(mapped="17", answers=[WRONG, RIGHT], checks=[Check.WRONG, Check.RIGHT], told=[""]),
    "push": World(mapped="17", answers=[""], statuses=[PushStatus.PENDING, PushStatus.APPROVED], told=["x"]),
    "unreachable": again(DOWN, mapped="17", told=["x"]),
    "unreachable push": again(DOWN, mapped="17", answers=[""], starts=[STARTED], told=["x"]),
    "locked": again(LOCKED, mapped="17", answers=[RIGHT]),
    "unknown": World(account=None, answers=["", RIGHT, "abcdef"]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hook", range(3), ids=["asked", "unasked", "account"])
def test_whatever_is_thrown_at_any_step_of_any_login_opens_no_door(kind: str, hook: int) -> None:
    whole = again(KINDS[kind])
    whole.run(hooks(EVERYTHING)[hook])
    assert whole.steps
    for position in range(len(whole.steps)):
        for end in (*(interruption() for interruption in INTERRUPTIONS), *OUTAGES):
            world = again(KINDS[kind], interrupted_at=position, interruption=end)
            verdict = world.run(hooks(EVERYTHING)[hook])
            assert world.steps[: position + 1] == whole.steps[: position + 1]
            if isinstance(end, Interrupted):
                assert not verdict.lets_in
            if verdict.lets_in:
                assert reason_is_good(world, verdict, EVERYTHING, account_hook=hook == 2)
                assert len(world.steps) > position + 1, "what failed was not the end of it"


# --- any login, any rules, any world -------------------------------------------------------------------------------


def reason_is_good(world: World, verdict: Verdict, rules: Rules, *, account_hook: bool) -> bool:
    """Tell whether what the world said is what such a verdict needs; exemptions by names are told elsewhere."""
    said = list(zip([step for step, _ in world.steps], world.replies, strict=True))
    assert isinstance(world.account, Account), "nobody is let in"
    assert not any(reply in {Check.LOCKED, NotStarted.LOCKED} for _, reply in said), "whoever is locked stays out"
    served = [(step, reply) for step, reply in said if isinstance(step, Verify | StartPush | CheckPush)]
    entries = [reply for step, reply in said if isinstance(step, Reuse)]
    found = [reply.found[0] for _, reply in said if isinstance(reply, Groups)]
    unserved = not served and not entries
    key_only = account_hook and rules.without_second_factor is WithoutSecondFactor.ALLOW
    good: dict[Reason, Callable[[], object]] = {
        Reason.CODE_VERIFIED: lambda: served[-1][1] is Check.RIGHT and served[-1][0].identity is not None,
        Reason.PUSH_APPROVED: lambda: served[-1][1] is PushStatus.APPROVED,
        Reason.CACHED: lambda: rules.grace.reuse_limit != 0 and not served and isinstance(entries[-1], Entry),
        Reason.EXEMPT_LDAP_GROUP: lambda: (
            rules.groups and found[-1] and bool(found[-1].group) == (rules.groups.allow is Allow.NO_USER)
        ),
        Reason.KEY_ONLY_ALLOWED: lambda: key_only,
        Reason.FAIL_OPEN: lambda: not account_hook and may_fail_open(world, rules),
        Reason.BREAK_GLASS: lambda: unserved,
        Reason.EXEMPT_USER_LIST: lambda: unserved,
        Reason.EXEMPT_NETWORK: lambda: unserved,
    }
    return bool(good[verdict.reason]())


def may_fail_open(world: World, rules: Rules) -> bool:
    """Tell whether SEMANTICS §10 lets this one in: after what kind of outage, and whom."""
    said = list(zip([step for step, _ in world.steps], world.replies, strict=True))
    assert isinstance(world.account, Account)
    listed = rules.fail_open_users is None or world.account.name in rules.fail_open_users
    probes = [reply for step, reply in said if isinstance(step, Probe)]
    outages = [reply for step, reply in said if isinstance(reply, Unavailable) and not isinstance(step, CancelPush)]
    strict = outages[-1].fault is Fault.UNREACHABLE and outages[-1].port == "starling"
    return rules.fail_mode is FailMode.SAFE and listed and world.account.uid != 0 and strict and probes == [True]


def exempted_by_configuration(user: str, name: str, client_ip: str, rules: Rules) -> set[Reason]:
    """Tell the exemptions that names and addresses give, as SEMANTICS §5 has it."""
    reasons = set()
    if {user, name} <= rules.break_glass:
        reasons.add(Reason.BREAK_GLASS)
    listed = rules.user_list
    if listed is not None:
        excepted = {each.lower() for each in listed.excepted}
        if listed.allow is Allow.NO_USER and {user, name} <= listed.excepted:
            reasons.add(Reason.EXEMPT_USER_LIST)
        if listed.allow is Allow.ALL_USERS and not {user.lower(), name.lower()} & excepted:
            reasons.add(Reason.EXEMPT_USER_LIST)
    if rules.networks is not None and client_ip:
        inside = client_ip.startswith("198.51.100.")
        if inside == (rules.networks.allow is Allow.NO_USER):
            reasons.add(Reason.EXEMPT_NETWORK)
    return reasons


NETWORK = (ip_network("198.51.100.0/24"),)
allows = st.sampled_from(Allow)
name_sets = st.frozensets(st.sampled_from(["alice", "ALICE", "bob", "root"]))
outages = st.sampled_from(OUTAGES) | st.floats(0, 200).map(rate_limited)


def seldom(usual: Some, unusual: Some, of: int = 10) -> Some:
    """Draw the unusual one time out of so many."""
    return st.integers(1, of).flatmap(lambda number: unusual if number == of else usual)


def told(*usual: object) -> Some:
    """Draw what the world says, and now and then an outage."""
    return seldom(st.sampled_from(usual), outages)


def all_told(*usual: object) -> Some:
    return st.lists(seldom(told(*usual), st.just(unreachable()), 3), min_size=1, max_size=4)


any_rules = st.builds(
    Rules,
    break_glass=seldom(st.just(frozenset()), name_sets),
    user_list=seldom(st.none(), st.builds(UserList, st.just("people"), allows, name_sets), 4),
    networks=seldom(st.none(), st.builds(NetworkList, allows, st.just(NETWORK)), 4),
    groups=seldom(st.none(), st.builds(GroupList, allows, st.just(("admins",))), 4),
    exempt_result=st.sampled_from(ExemptResult),
    connection_limit=st.sampled_from([0, 0, 2]),
    grace=st.builds(
        Grace,
        reuse_limit=st.integers(-1, 2),
        bind=st.sampled_from([frozenset({Bind.USER, Bind.CLIENT_IP}), frozenset(Bind)]),
    ),
    explicit_mapping=st.sampled_from([{}, {"alice": "17"}]),
    mapping_attribute=st.sampled_from(["", "employeeID"]),
    on_mapping_failure=st.sampled_from(OnMappingFailure),
    permit_root=st.booleans(),
    without_second_factor=st.sampled_from(WithoutSecondFactor),
    fail_mode=st.sampled_from([FailMode.SECURE, FailMode.SAFE, FailMode.SAFE]),
    fail_open_users=seldom(st.none(), name_sets, 3),
    questions=st.sampled_from([(), (Question(1, "why", "Why?"),), (Question(1, "why", "Why?", required=True),)]),
    max_attempts=st.integers(1, 4),
    poll_interval=st.sampled_from([None, 20]),
)
any_worlds = st.builds(
    World,
    account=told(ALICE, ALICE, ALICE, ALICE, Account("bob", 1001), ROOT, None),
    group=told(None, "", "", "admins"),
    mapped=told("", "17", "17"),
    sessions=told(0, 1, 2, 3),
    entry=told(ENTRY, *Miss),
    unreachable=told(True, True, False),
    answers=st.lists(st.sampled_from([RIGHT, RIGHT, WRONG, "", "", "x", "abcdef"]), min_size=1, max_size=5),
    told=st.lists(st.sampled_from(["", "x", "x"]), max_size=4),
    checks=all_told(*Check, Check.RIGHT),
    starts=all_told(*[STARTED] * 4, *NotStarted),
    statuses=all_told(*PushStatus),
    call_takes=st.sampled_from([0.0, 1.0, 12.0]),
    interrupted_at=seldom(st.none(), st.integers(0, 20), 4),
    interruption=st.sampled_from(INTERRUPTIONS).map(lambda kind: kind()) | outages,
    gullible=st.booleans(),
)
logins = st.builds(
    replace,
    st.just(LOGIN),
    user=st.sampled_from(["alice", "alice", "ALICE", "bob", "root"]),
    service=st.sampled_from(["sshd", "backup"]),
    client_ip=st.sampled_from([LOGIN.client_ip, "2001:db8::1", ""]),
    ssh_key=st.sampled_from(["", "SHA256:x"]),
    deadline=st.sampled_from([DEADLINE, DEADLINE - 60]),
)


@settings(max_examples=2000)
@given(world=any_worlds, rules=any_rules, login=logins, account_hook=st.booleans())
def test_in_any_world_under_any_rules_a_door_opens_for_a_good_reason_only(
    world: World, rules: Rules, login: object, *, account_hook: bool
) -> None:
    login = replace(LOGIN, **{each.name: getattr(login, each.name) for each in fields(LOGIN)})
    world.deadline = login.deadline
    verdict = world.run((confirm if account_hook else converse)(login, FACTS, rules))
    event(verdict.reason)
    if not verdict.lets_in:
        assert verdict.sentence
        assert (verdict.answers, verdict.exports) == ({}, {})
        return
    assert reason_is_good(world, verdict, rules, account_hook=account_hook)
    account = world.account
    assert isinstance(account, Account)
    by_configuration = exempted_by_configuration(login.user, account.name, login.client_ip, rules)
    if verdict.reason in {Reason.BREAK_GLASS, Reason.EXEMPT_USER_LIST, Reason.EXEMPT_NETWORK}:
        assert verdict.reason in by_configuration
    if verdict.reason is not Reason.BREAK_GLASS:
        assert account.uid != 0 or rules.permit_root
        assert not rules.connection_limit or (isinstance(world.sessions, int) and world.sessions < 2)
        assert not by_configuration or verdict.reason.startswith("exempt_"), "an exemption comes first"
    exempt = verdict.reason is Reason.BREAK_GLASS or verdict.reason.startswith("exempt_")
    assert (verdict.result is Result.IGNORE) == (exempt and rules.exempt_result is ExemptResult.IGNORE)
    assert len(world.of(Reuse)) <= 1
    prompted = login.service == "sshd" and not account_hook
    if prompted:
        assert len(world.of(Inquire)) >= len(rules.questions)
    elif any(question.required for question in rules.questions):
        assert verdict.reason is Reason.BREAK_GLASS
    if isinstance(world.interruption, Interrupted) and world.interrupted_at is not None:
        assert len(world.steps) <= world.interrupted_at, "what was interrupted ends"


@settings(max_examples=300)
@given(world=any_worlds, rules=any_rules, login=logins)
def test_no_pause_is_long_and_nothing_is_asked_of_nobody(world: World, rules: Rules, login: object) -> None:
    world = again(world, account=None, interrupted_at=None)
    verdict = world.run(converse(login, FACTS, rules))  # type: ignore[arg-type]
    assert not verdict.lets_in
    assert {type(step) for step, _ in world.steps}.isdisjoint(
        {FindGroups, FindIdentity, CountSessions, Reuse, Inquire, Probe}
    )
    assert all(step.seconds <= DEADLINE for step in world.of(Pause))
