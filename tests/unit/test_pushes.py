"""Pushes: what the phone shows, when a poll is due, and how many pushes a user may cause."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from starlingd.core import pushes
from starlingd.core.model import NotStarted
from starlingd.core.pushes import LONGEST_PENDING, PushLedger, describe
from starlingd.core.rules import Rules
from tests.unit.script import LOGIN, START

RULES = Rules()
GATEWAY = "bastion.example.org"
WINDOW = RULES.push_window


def message(template: str, user: str = "alice", number: str = "42") -> str:
    """Tell the message on the phone."""
    login = replace(LOGIN, user=user)
    return describe(login, replace(RULES, push_message=template), GATEWAY, number, 60).message


# The schedule


def test_without_an_interval_the_polls_become_rarer() -> None:
    assert list(islice(pushes.pauses(None), 12)) == [1, 1, 2, 2, 3, 5, 5, 8, 8, 8, 8, 8]


@pytest.mark.parametrize("interval", [1, 7, 30])
def test_with_an_interval_the_polls_keep_to_it(interval: int) -> None:
    assert list(islice(pushes.pauses(interval), 20)) == [interval] * 20


# The phone


def test_the_details_stand_in_their_order() -> None:
    push = describe(LOGIN, RULES, GATEWAY, "42", 60)
    assert push.details == (
        ("Gateway", GATEWAY),
        ("Gateway User", "alice"),
        ("Client IP", "198.51.100.7"),
        ("Protocol", "sshd"),
        ("Number", "42"),
    )
    assert (push.message, push.lifetime) == ("Login to bastion.example.org", 60)


def test_an_unset_detail_is_left_out_but_address_and_protocol_are_said_to_be_unknown() -> None:
    push = describe(replace(LOGIN, client_ip="", service=""), RULES, "", "", 60)
    assert push.details == (("Gateway User", "alice"), ("Client IP", "N/A"), ("Protocol", "N/A"))


def test_the_message_has_every_field_and_no_other() -> None:
    said = message("{user}@{gateway} from {client_ip} by {service} ({number}) {host} {} {user.name} {0} {{user}}")
    assert said == ("alice@bastion.example.org from 198.51.100.7 by sshd (42) {host} {} {user.name} {0} {alice}")


@pytest.mark.parametrize("user", ["{gateway}", "{number}", "{user}", "{", "}", "{{}}", "%s", "\\1", "\\g<1>", "{0}"])
def test_a_user_name_that_looks_like_a_field_stays_a_user_name(user: str) -> None:
    assert message("Login of {user} to {gateway}", user) == f"Login of {user} to {GATEWAY}"


@settings(max_examples=200)
@given(user=st.text(min_size=1, max_size=40))
def test_any_user_name_is_shown_as_it_is(user: str) -> None:
    assert message("<{user}>", user) == f"<{user}>"
    assert ("Gateway User", user) in describe(replace(LOGIN, user=user), RULES, GATEWAY, "", 60).details


# The ledger


def ledger(**failures: list[tuple[float, bool]]) -> PushLedger:
    """Make a ledger that remembers these failures."""
    return PushLedger(failures)


def fail(table: PushLedger, user: str, now: float, *, denied: bool = False) -> None:
    """Send a push that ends without a yes."""
    assert table.reserve(user, RULES, now) is None
    table.fail(user, now, denied=denied)


def test_a_user_has_one_pending_push_and_others_have_theirs() -> None:
    table = ledger()
    assert table.reserve("alice", RULES, START) is None
    assert table.reserve("alice", RULES, START + 1) is NotStarted.PENDING
    assert table.reserve("bob", RULES, START + 1) is None


@pytest.mark.parametrize("end", ["release", "approve", "fail"])
def test_whatever_ends_a_push_gives_its_place_back(end: str) -> None:
    table = ledger()
    table.reserve("alice", RULES, START)
    if end == "fail":
        table.fail("alice", START, denied=False)
    else:
        getattr(table, end)("alice")
    assert table.reserve("alice", RULES, START) is None


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_push_limit_failures_in_the_window_stop_pushes(limit: int) -> None:
    rules, table = replace(RULES, push_limit=limit), ledger()
    for _ in range(limit):
        assert table.reserve("alice", rules, START) is None
        table.fail("alice", START, denied=False)
    assert table.reserve("alice", rules, START) is NotStarted.LIMIT
    assert table.reserve("bob", rules, START) is None


@pytest.mark.parametrize(("later", "stopped"), [(0.0, True), (WINDOW - 0.1, True), (WINDOW, False)])
def test_failures_count_for_the_window(later: float, *, stopped: bool) -> None:
    table = ledger()
    for _ in range(3):
        fail(table, "alice", START)
    assert (table.reserve("alice", RULES, START + later) is NotStarted.LIMIT) == stopped


def test_the_second_denial_in_the_window_stops_pushes() -> None:
    table = ledger()
    fail(table, "alice", START, denied=True)
    fail(table, "alice", START + 1, denied=True)
    assert table.reserve("alice", RULES, START + 2) is NotStarted.LIMIT
    assert table.reserve("alice", RULES, START + WINDOW) is None


def test_a_denial_before_the_window_does_not_count() -> None:
    table = ledger()
    fail(table, "alice", START, denied=True)
    fail(table, "alice", START + WINDOW, denied=True)
    assert table.reserve("alice", RULES, START + WINDOW) is None


def test_an_approval_ends_the_series_of_failures() -> None:
    table = ledger()
    fail(table, "alice", START, denied=True)
    fail(table, "alice", START)
    assert table.reserve("alice", RULES, START) is None
    table.approve("alice")
    fail(table, "alice", START, denied=True)
    fail(table, "alice", START)
    assert table.reserve("alice", RULES, START) is None


def test_a_push_that_never_reached_the_phone_is_not_counted_and_erases_nothing() -> None:
    table = ledger()
    fail(table, "alice", START)
    for _ in range(5):
        assert table.reserve("alice", RULES, START) is None
        table.release("alice")
    fail(table, "alice", START)
    fail(table, "alice", START)
    assert table.reserve("alice", RULES, START) is NotStarted.LIMIT


def test_failures_from_before_a_restart_count_in_any_order() -> None:
    table = ledger(alice=[(START - 1, True), (START - 3, True)], bob=[(START - WINDOW, True), (START - 1, True)])
    assert table.reserve("alice", RULES, START) is NotStarted.LIMIT
    assert table.reserve("bob", RULES, START) is None


def test_a_refusal_takes_no_place() -> None:
    table = ledger(alice=[(START, True)] * 2)
    assert table.reserve("alice", RULES, START) is NotStarted.LIMIT
    assert table.reserve("alice", RULES, START + WINDOW) is None


@pytest.mark.parametrize("method", ["release", "approve"])
def test_giving_back_a_place_nobody_took_does_no_harm(method: str) -> None:
    table = ledger()
    getattr(table, method)("alice")
    assert table.reserve("alice", RULES, START) is None


def test_a_place_that_a_bug_never_gave_back_counts_as_unanswered_when_no_login_can_hold_it_any_more() -> None:
    table, rules = ledger(), replace(RULES, push_limit=1, push_window=2 * int(LONGEST_PENDING))
    table.reserve("alice", rules, START)
    assert table.reserve("alice", rules, START + LONGEST_PENDING) is NotStarted.PENDING
    assert table.reserve("alice", rules, START + LONGEST_PENDING + 1) is NotStarted.LIMIT
    assert table.reserve("alice", RULES, START + LONGEST_PENDING + 1) is None


# The bound


def small(monkeypatch: pytest.MonkeyPatch, users: int) -> PushLedger:
    """Make a ledger with room for few users, all of it taken by unanswered pushes."""
    monkeypatch.setattr(pushes, "MOST_USERS", users)
    table = ledger()
    for number in range(users):
        fail(table, f"user{number}", START)
    return table


def test_at_capacity_a_new_name_is_refused_and_nobodys_limit_is_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    table = small(monkeypatch, 3)
    fail(table, "user0", START)
    fail(table, "user0", START)
    for number in range(100):
        assert table.reserve(f"new{number}", RULES, START) is NotStarted.LIMIT
    assert table.reserve("user0", RULES, START) is NotStarted.LIMIT
    assert table.reserve("user1", RULES, START) is None


def test_names_whose_failures_are_over_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    table = small(monkeypatch, 3)
    assert table.reserve("user0", RULES, START + WINDOW - 1) is None
    assert table.reserve("new", RULES, START + WINDOW - 1) is NotStarted.LIMIT
    assert table.reserve("new", RULES, START + WINDOW) is None
    assert table.reserve("user0", RULES, START + WINDOW) is NotStarted.PENDING, "a pending push keeps its place"


@dataclass
class User:
    """What the model knows of one user."""

    pending: float | None = None
    failures: list[tuple[float, bool]] = field(default_factory=list)


class LedgerMachine(RuleBasedStateMachine):
    """Any order of pushes, ends and waits, against a model that forgets nothing and looks at the window each time."""

    users = st.sampled_from(["alice", "bob", ":eve"])

    def __init__(self) -> None:
        super().__init__()
        self.table = ledger()
        self.model = {user: User() for user in ("alice", "bob", ":eve")}
        self.now = START
        self.limits = replace(RULES, push_limit=3, push_window=100)

    def _verdict(self, user: User) -> NotStarted | None:
        if user.pending is not None:
            return NotStarted.PENDING
        recent = [denied for at, denied in user.failures if at > self.now - self.limits.push_window]
        return NotStarted.LIMIT if len(recent) >= self.limits.push_limit or sum(recent) >= 2 else None

    @rule(seconds=st.sampled_from([0.0, 1.0, 30.0, 99.0, 100.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass; no push stays pending for longer than a login may last."""
        if all(user.pending is None or self.now + seconds - user.pending < 600 for user in self.model.values()):
            self.now += seconds

    @rule(limit=st.integers(1, 4), window=st.sampled_from([50, 100, 200]))
    def reload(self, limit: int, window: int) -> None:
        """Change the rules; a window that grows cannot bring back what was forgotten, so it only shrinks."""
        self.limits = replace(self.limits, push_limit=limit, push_window=min(window, self.limits.push_window))

    @rule(name=users)
    def reserve(self, name: str) -> None:
        """Try to send a push."""
        expected = self._verdict(self.model[name])
        assert self.table.reserve(name, self.limits, self.now) is expected
        if expected is None:
            self.model[name].pending = self.now

    @precondition(lambda self: any(user.pending is not None for user in self.model.values()))
    @rule(data=st.data(), end=st.sampled_from(["release", "approve", "fail", "deny"]))
    def end(self, data: st.DataObject, end: str) -> None:
        """End a pending push."""
        name = data.draw(st.sampled_from([name for name, user in self.model.items() if user.pending is not None]))
        user = self.model[name]
        user.pending = None
        if end == "release":
            self.table.release(name)
        elif end == "approve":
            self.table.approve(name)
            user.failures.clear()
        else:
            self.table.fail(name, self.now, denied=end == "deny")
            user.failures.append((self.now, end == "deny"))

    @invariant()
    def never_bombs(self) -> None:
        """Within any window, no user had more unanswered pushes than the largest limit."""
        for user in self.model.values():
            recent = [at for at, _ in user.failures if at > self.now - self.limits.push_window]
            assert len(recent) <= 4


LedgerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestLedger = LedgerMachine.TestCase


def test_a_flood_of_made_up_names_limits_nobody_who_has_one_and_no_stranger_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pushes, "MOST_USERS", 3)
    table = ledger()
    assert table.reserve(":waiting", RULES, START) is None
    for number in range(100):
        assert table.reserve(f":made-up-{number}", RULES, START) is None
        table.fail(f":made-up-{number}", START, denied=False)
    assert table.reserve(":waiting", RULES, START) is NotStarted.PENDING
    assert table.reserve("alice", RULES, START) is None
    assert len(vars(table)["_entries"]) == 4
