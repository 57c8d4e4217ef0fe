"""Who is asked about whom, and what is a code."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starlingd.core.grace import Entry, Key, Miss, Moment
from starlingd.core.model import Account, Login, Reason
from starlingd.core.policy import (
    LONGEST_TYPED_CODE,
    Ending,
    Fact,
    Known,
    Mapped,
    Plan,
    basis_of,
    code_in,
    decide,
    grace_key,
    might_be_code,
    survives,
)
from starlingd.core.rules import Allow, Bind, Grace, GroupList, NetworkList, OnMappingFailure, Rules, UserList
from tests.unit.script import ALICE, LOGIN, ROOT, groups

RULES = Rules(explicit_mapping={"alice": "17", "bob": "", "example\\carol": "33", "dave": "44", "root": "1"})


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("123456", "123456"),
        ("123456789012", "123456789012"),
        (" 123 456 ", "123456"),
        ("\t123\u00a0456\n", "123456"),
        ("1 2 3 4 5 6 7 8 9 0 1 2 ", "123456789012"),
        ("12345", None),
        ("1234567890123", None),
        ("", None),
        ("      ", None),
        ("12345a", None),
        ("-123456", None),
        ("+123456", None),
        ("123456.0", None),
        ("1_234_567", None),
        ("1e123456", None),
        ("\u0661\u0662\u0663\u0664\u0665\u0666", None),
        ("\uff11\uff12\uff13\uff14\uff15\uff16", None),
        ("²³⁴⁵⁶⁷", None),
        ("123456\x00", None),
        ("123456\x1b[2J", None),
        ("123\u200b456", None),
        ("123456" + " " * 19, None),
        ("\u3000" * 7 + "123456", None),
    ],
)
def test_a_code_is_6_to_12_ascii_digits_in_at_most_24_bytes(typed: str, code: str | None) -> None:
    assert code_in(typed) == code


@settings(max_examples=500)
@given(typed=st.text(max_size=40) | st.text(" 0123456789", max_size=40))
def test_only_digits_leave_the_host_and_whatever_is_a_code_looks_like_one(typed: str) -> None:
    code = code_in(typed)
    if code is not None:
        assert set(code) <= set("0123456789")
        assert 6 <= len(code) <= 12
        assert might_be_code(typed)


@settings(max_examples=300)
@given(typed=st.text(max_size=40), filling=st.characters(codec="ascii"))
def test_how_long_an_answer_takes_depends_on_its_length_alone(typed: str, filling: str) -> None:
    assert might_be_code(typed) == might_be_code(filling * len(typed.encode()))


@pytest.mark.parametrize(
    ("length", "might"), [(0, False), (5, False), (6, True), (LONGEST_TYPED_CODE, True), (25, False)]
)
def test_the_lengths_that_might_be_a_code(length: int, *, might: bool) -> None:
    assert might_be_code("x" * length) is might


ENTRY = Entry("1000 alice", Moment(100.0, 50.0, "boot"), Moment(100.0, 50.0, "boot"), 1)
GRACE = Grace(soft_timeout=60.0, hard_timeout=600.0, reuse_limit=3)


def plan(account: Account | None, rules: Rules, login: Login = LOGIN, **facts: object) -> Plan:
    """Decide with all facts at hand."""
    known = replace(Known(frozenset(Fact), account), **facts)  # type: ignore[arg-type]
    decided = decide(login, known, rules)
    assert isinstance(decided, Plan)
    return decided


def user_list(allow: Allow, *names: str) -> Rules:
    return Rules(user_list=UserList("people", allow, frozenset(names)))


def networks(allow: Allow, *excepted: str) -> Rules:
    return Rules(networks=NetworkList(allow, tuple(map(ip_network, excepted))))


# --- in order, and no fact that the rules do not ask for -----------------------------------------------------------


def test_without_rules_the_account_is_all_that_is_looked_up() -> None:
    assert decide(LOGIN, Known(), Rules()) is Fact.ACCOUNT
    assert isinstance(decide(LOGIN, Known(frozenset({Fact.ACCOUNT}), ALICE), Rules()), Plan)


def test_facts_are_asked_for_in_the_order_of_the_decisions() -> None:
    rules = Rules(
        groups=GroupList(Allow.NO_USER, ("admins",)), connection_limit=2, grace=GRACE, mapping_attribute="employeeID"
    )
    known, order = Known(), []
    while isinstance(fact := decide(LOGIN, known, rules), Fact):
        order.append(fact)
        known = replace(
            known, told=known.told | {fact}, account=ALICE, groups=groups(""), entry=Miss.NO_ENTRY, mapped=Mapped("17")
        )
    assert order == [Fact.ACCOUNT, Fact.GROUP, Fact.SESSIONS, Fact.GRACE, Fact.MAPPED]
    assert fact.identity == "17"


def test_whoever_is_exempt_costs_no_look_up() -> None:
    rules = replace(user_list(Allow.NO_USER, "alice"), groups=GroupList(Allow.NO_USER, ("x",)), grace=GRACE)
    decided = decide(LOGIN, Known(frozenset({Fact.ACCOUNT}), ALICE), rules)
    assert isinstance(decided, Plan)
    assert (decided.ending, decided.reason) == (Ending.EXEMPT, Reason.EXEMPT_USER_LIST)


def test_every_step_names_its_rule() -> None:
    rules = replace(user_list(Allow.NO_USER, "bob"), networks=NetworkList(Allow.NO_USER, ()), grace=GRACE)
    decided = plan(ALICE, replace(rules, connection_limit=5), entry=Miss.SOFT_TIMEOUT)
    assert [(step.step, step.rule) for step in decided.steps] == [
        ("account", ""),
        ("user_list", "user_list people"),
        ("network", "whitelist source=network"),
        ("connection_limit", "connection_limit by=client_ip_gateway_user.limit"),
        ("grace", "authentication_cache"),
        ("mapping", ""),
        ("warning", ""),
    ]


# --- who is nobody -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "permit_root", "reason"),
    [
        (None, False, Reason.UNKNOWN_USER),
        (None, True, Reason.UNKNOWN_USER),
        (ALICE, False, None),
        (ROOT, False, Reason.ROOT_NOT_PERMITTED),
        (ROOT, True, None),
        (Account("toor", 0), False, Reason.ROOT_NOT_PERMITTED),
        (Account("root", 1000), False, None),
    ],
    ids=str,
)
def test_an_account_that_exists_may_and_uid_0_only_where_permitted(
    account: Account | None, *, permit_root: bool, reason: Reason | None
) -> None:
    decided = plan(account, replace(RULES, permit_root=permit_root))
    assert decided.reason is reason
    assert (decided.identity is None) == (reason is not None)


def test_uid_0_is_refused_before_any_exemption_but_break_glass() -> None:
    exempting = replace(user_list(Allow.ALL_USERS, "bob"), networks=NetworkList(Allow.ALL_USERS, ()))
    root = replace(LOGIN, user="root")
    assert plan(ROOT, exempting, root).reason is Reason.ROOT_NOT_PERMITTED
    assert plan(ROOT, replace(exempting, break_glass=frozenset({"root"})), root).reason is Reason.BREAK_GLASS


# --- exemptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allow", "listed", "exempt"),
    [
        (Allow.NO_USER, ["alice"], True),
        (Allow.NO_USER, ["bob"], False),
        (Allow.NO_USER, [], False),
        (Allow.ALL_USERS, ["alice"], False),
        (Allow.ALL_USERS, ["bob"], True),
    ],
)
def test_the_table_of_exemptions(allow: Allow, listed: list[str], *, exempt: bool) -> None:
    assert (plan(ALICE, user_list(allow, *listed)).ending is Ending.EXEMPT) is exempt
    group = "admins" if "alice" in listed else ""
    by_group = plan(ALICE, Rules(groups=GroupList(allow, ("admins",))), groups=groups(group))
    assert (by_group.ending is Ending.EXEMPT) is exempt


def test_no_spelling_of_a_name_escapes_a_list_of_those_who_must_be_asked() -> None:
    rules = user_list(Allow.ALL_USERS, "Alice")
    for typed, name in (("alice", "alice"), ("ALICE", "alice"), ("x", "ALICE"), ("aLiCe", "x")):
        assert plan(Account(name, 1000), rules, replace(LOGIN, user=typed)).ending is Ending.SECOND_FACTOR


@pytest.mark.parametrize(("typed", "name"), [("Alice", "alice"), ("alice", "Alice"), ("x", "alice"), ("alice", "x")])
def test_an_exemption_counts_only_for_the_typed_and_the_canonical_name_alike(typed: str, name: str) -> None:
    login, account = replace(LOGIN, user=typed), Account(name, 1000)
    assert plan(account, user_list(Allow.NO_USER, "alice"), login).ending is Ending.SECOND_FACTOR
    assert plan(account, Rules(break_glass=frozenset({"alice"})), login).ending is Ending.SECOND_FACTOR


def test_a_directory_that_cannot_tell_exempts_nobody_in_either_direction() -> None:
    for allow in Allow:
        decided = plan(ALICE, Rules(groups=GroupList(allow, ("admins",))), groups=groups(None))
        assert decided.ending is Ending.SECOND_FACTOR


@pytest.mark.parametrize(
    ("address", "network", "inside"),
    [
        ("198.51.100.7", "198.51.100.0/24", True),
        ("198.51.101.7", "198.51.100.0/24", False),
        ("2001:db8::1", "2001:db8::/32", True),
        ("2001:db9::1", "2001:db8::/32", False),
        ("198.51.100.7", "::/0", False),
        ("2001:db8::1", "0.0.0.0/0", False),
    ],
)
def test_networks_of_both_families(address: str, network: str, *, inside: bool) -> None:
    login = replace(LOGIN, client_ip=address)
    exempt = plan(ALICE, networks(Allow.NO_USER, network), login)
    assert (exempt.reason is Reason.EXEMPT_NETWORK) is inside
    assert (plan(ALICE, networks(Allow.ALL_USERS, network), login).ending is Ending.EXEMPT) is not inside


@pytest.mark.parametrize("allow", list(Allow))
def test_a_console_is_in_no_network(allow: Allow) -> None:
    login = replace(LOGIN, client_ip="", tty="tty1")
    assert plan(ALICE, networks(allow, "0.0.0.0/0"), login).ending is Ending.SECOND_FACTOR


# --- the limit and the grace period --------------------------------------------------------------------------------


def test_a_full_house_is_refused_before_anybody_is_asked_exempt_or_not() -> None:
    for rules in (Rules(), user_list(Allow.NO_USER, "alice"), Rules(grace=GRACE)):
        limited = replace(rules, connection_limit=2)
        assert plan(ALICE, limited, sessions=2, entry=ENTRY).reason is Reason.CONNECTION_LIMIT
        assert plan(ALICE, limited, sessions=1, entry=ENTRY).ending is not Ending.DENY


def test_a_full_house_does_not_keep_break_glass_out() -> None:
    rules = Rules(break_glass=frozenset({"alice"}), connection_limit=1)
    assert plan(ALICE, rules, sessions=5).reason is Reason.BREAK_GLASS


def test_a_hit_asks_nobody_and_a_miss_says_why() -> None:
    assert plan(ALICE, Rules(grace=GRACE), entry=ENTRY).ending is Ending.CACHED
    missed = plan(ALICE, Rules(grace=GRACE), entry=Miss.HARD_TIMEOUT)
    assert missed.ending is Ending.SECOND_FACTOR
    assert "ask: hard_timeout" in [step.result for step in missed.steps]


def test_with_the_cache_off_or_the_key_unknown_no_entry_is_looked_for() -> None:
    bound = replace(GRACE, bind=frozenset({Bind.USER, Bind.SSH_KEY}))
    for rules in (Rules(), Rules(grace=bound)):
        assert plan(ALICE, rules, replace(LOGIN, ssh_key=""), entry=ENTRY).ending is Ending.SECOND_FACTOR


def test_a_key_holds_what_bind_says_and_nothing_else() -> None:
    login = replace(LOGIN, ssh_key="SHA256:x")
    for bind in (frozenset({Bind.USER}), frozenset({Bind.USER, Bind.SSH_KEY}), frozenset(Bind)):
        key = grace_key(login, ALICE, Rules(grace=replace(GRACE, bind=bind)))
        assert key == Key(
            "alice",
            LOGIN.client_ip if Bind.CLIENT_IP in bind else "",
            "SHA256:x" if Bind.SSH_KEY in bind else "",
            "sshd" if Bind.SERVICE in bind else "",
        )


# --- mapping -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "name", "identity"),
    [
        ("alice", "alice", "17"),
        ("ALICE", "alice", "17"),
        ("EXAMPLE\\alice", "alice", "17"),
        ("alice@example.org", "alice", "17"),
        ("alice", "EXAMPLE\\Alice", "17"),
        ("Example\\Carol", "carol", "33"),
        ("bob", "bob", "bob"),
        ("erin", "Erin", "Erin"),
        ("EXAMPLE\\dave", "Dave", "44"),
    ],
)
def test_each_spelling_of_an_account_is_one_identity(user: str, name: str, identity: str) -> None:
    assert plan(Account(name, 1000), RULES, replace(LOGIN, user=user)).identity == identity


@pytest.mark.parametrize("user", ["root", "alice", "dave"])
def test_a_mapping_makes_nobody_somebody(user: str) -> None:
    login = replace(LOGIN, user=user)
    assert plan(None, RULES, login).identity is None
    assert plan(ROOT, RULES, login).identity is None


def test_an_explicit_hit_asks_no_directory() -> None:
    rules = replace(RULES, mapping_attribute="employeeID")
    decided = decide(LOGIN, Known(frozenset({Fact.ACCOUNT}), ALICE), rules)
    assert isinstance(decided, Plan)
    assert (decided.identity, decided.rule) == ("17", "usermapping source=explicit")


def test_whom_the_directory_does_not_map_is_refused_unless_kept() -> None:
    rules = Rules(mapping_attribute="employeeID")
    assert plan(ALICE, rules, mapped=Mapped()).reason is Reason.MAPPING_FAILED
    assert plan(ALICE, replace(rules, on_mapping_failure=OnMappingFailure.KEEP), mapped=Mapped()).identity == "alice"
    assert plan(ALICE, rules, mapped=Mapped("42")).identity == "42"


@pytest.mark.parametrize(("identity", "asked"), [("17", "17@example.org"), ("17@other", "17@other")])
def test_a_domain_is_appended_once(identity: str, asked: str) -> None:
    rules = Rules(explicit_mapping={"alice": identity}, append_domain="example.org")
    assert plan(ALICE, rules).identity == asked


# --- what a change does to entries ---------------------------------------------------------------------------------

KEY = Key("alice", "198.51.100.7", "", "")


@pytest.mark.parametrize(
    ("old", "new", "good"),
    [
        (Rules(), Rules(max_attempts=7), True),
        (user_list(Allow.NO_USER, "alice"), Rules(), False),
        (Rules(), user_list(Allow.NO_USER, "alice"), False),
        (user_list(Allow.NO_USER, "bob"), user_list(Allow.NO_USER, "carol"), True),
        (networks(Allow.NO_USER, "198.51.100.0/24"), Rules(), False),
        (networks(Allow.NO_USER, "192.0.2.0/24"), Rules(), True),
        (Rules(break_glass=frozenset({"alice"})), Rules(), False),
        (Rules(groups=GroupList(Allow.NO_USER, ("a",))), Rules(), False),
        (Rules(), Rules(grace=replace(GRACE, bind=frozenset({Bind.USER}))), False),
    ],
)
def test_entries_of_those_whose_exemption_changed_are_dropped(old: Rules, new: Rules, *, good: bool) -> None:
    assert survives(KEY, old, new) is good


def test_an_entry_rests_on_the_account_and_on_what_the_configuration_makes_of_its_name() -> None:
    bases = {
        basis_of(LOGIN, ALICE, Rules()),
        basis_of(LOGIN, Account("alice", 1001), Rules()),
        basis_of(LOGIN, ALICE, RULES),
        basis_of(LOGIN, ALICE, replace(RULES, append_domain="example.org")),
        basis_of(LOGIN, ALICE, Rules(mapping_attribute="employeeID")),
        basis_of(LOGIN, ALICE, Rules(groups=GroupList(Allow.NO_USER, ("a",)))),
        basis_of(LOGIN, ALICE, Rules(groups=GroupList(Allow.NO_USER, ("b",)))),
    }
    assert len(bases) == 7
    assert basis_of(replace(LOGIN, user="ALICE"), ALICE, RULES) == basis_of(LOGIN, ALICE, RULES)
