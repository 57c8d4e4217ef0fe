"""What ends a login from outside, thrown at every step of every path: nobody is let in, and no push is left behind.

``World`` itself checks for every conversation that a push which was started is ended or cancelled exactly once, that no
other is cancelled, and that no push outlives the deadline.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starlingd.core.conversation import confirm, converse
from starlingd.core.model import Account, Check, NotStarted, PushStatus, Reason, Result
from starlingd.core.rules import Rules, WithoutSecondFactor
from starlingd.core.steps import CancelPush, Pause, StartPush
from tests.unit.script import (
    ALICE,
    DEADLINE,
    FACTS,
    INTERRUPTIONS,
    LOGIN,
    OUTAGES,
    RIGHT,
    ROOT,
    START,
    STARTED,
    WRONG,
    World,
    rate_limited,
    unreachable,
)

if TYPE_CHECKING:
    from starlingd.core.steps import Conversation

RULES = Rules(poll_interval=25)
PUSH_RULES = replace(RULES, without_second_factor=WithoutSecondFactor.PUSH)

# Each is a path through a conversation: what the world answers.
PATHS: dict[str, World] = {
    "right code": World(answers=[RIGHT], checks=[Check.RIGHT]),
    "wrong, then right": World(answers=[WRONG, RIGHT], checks=[Check.WRONG, Check.RIGHT]),
    "three wrong": World(answers=[WRONG] * 3),
    "no codes": World(answers=["abcdef", "x", "1" * 30]),
    "code after 429": World(answers=[RIGHT], checks=[rate_limited(7), Check.RIGHT]),
    "not enrolled": World(answers=[RIGHT, ""], checks=[Check.NOT_ENROLLED], starts=[NotStarted.NOT_ENROLLED]),
    "approved": World(answers=[""], statuses=[PushStatus.PENDING, PushStatus.APPROVED]),
    "denied": World(answers=[""], statuses=[PushStatus.PENDING, PushStatus.DENIED]),
    "expired, then approved": World(answers=["", ""], statuses=[PushStatus.EXPIRED, PushStatus.APPROVED]),
    "never answered, then a code": World(answers=["", RIGHT], checks=[Check.RIGHT]),
    "push after 429": World(answers=[""], starts=[rate_limited(7), STARTED], statuses=[PushStatus.APPROVED]),
    "pending, limit, approved": World(
        answers=["", "", ""], starts=[NotStarted.PENDING, NotStarted.LIMIT, STARTED], statuses=[PushStatus.APPROVED]
    ),
    "polls that fail": World(answers=[""], statuses=[unreachable(), rate_limited(9), PushStatus.APPROVED]),
    "last poll fails": World(answers=[""], statuses=[PushStatus.PENDING, unreachable()]),
    "nobody": World(account=None, answers=[RIGHT, "", "abc"]),
    "refused root": World(account=ROOT, answers=["", RIGHT, "abcdef"]),
}


@dataclass(frozen=True)
class Hook:
    """A conversation to interrupt."""

    service: str
    account: bool = False

    def start(self) -> Conversation:
        """Begin it."""
        login = replace(LOGIN, service=self.service)
        return confirm(login, FACTS, PUSH_RULES) if self.account else converse(login, FACTS, RULES)


HOOKS = {"asked": Hook("sshd"), "unasked": Hook("backup"), "account": Hook("sshd", account=True)}


def again(world: World, **changes: object) -> World:
    """Make a fresh world that answers like ``world``."""
    answers = {each.name: getattr(world, each.name) for each in fields(World) if each.name not in WORLDS_MEMORY}
    return World(**answers | changes)


WORLDS_MEMORY = {"steps", "replies", "now", "pending"}


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("path", PATHS)
def test_whatever_ends_a_login_from_outside_at_any_step_ends_it_with_a_denial(path: str, hook: str) -> None:
    whole = again(PATHS[path])
    whole.run(HOOKS[hook].start())
    assert whole.steps
    for position in range(len(whole.steps)):
        for interruption in INTERRUPTIONS:
            world = again(PATHS[path], interrupted_at=position, interruption=interruption())
            verdict = world.run(HOOKS[hook].start())
            assert not verdict.lets_in
            assert verdict.sentence
            seen_as = verdict.evidence.get("seen_as", verdict.reason)
            assert seen_as == interruption.reason, f"interrupted at {world.steps[position]}"
            assert world.steps[: position + 1] == whole.steps[: position + 1]
            users = [step.user for step in world.of(StartPush)]
            assert [step for step, _ in world.steps[position + 1 :]] in ([], [CancelPush(user) for user in users[-1:]])


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("path", PATHS)
def test_an_outage_of_any_port_and_kind_at_any_step_lets_nobody_in_but_by_a_later_yes(path: str, hook: str) -> None:
    whole = again(PATHS[path])
    whole.run(HOOKS[hook].start())
    for position, outage in ((position, outage) for position in range(len(whole.steps)) for outage in OUTAGES):
        world = again(PATHS[path], interrupted_at=position, interruption=outage)
        verdict = world.run(HOOKS[hook].start())
        if verdict.lets_in:
            assert world.replies[-1] in {Check.RIGHT, PushStatus.APPROVED}
            assert len(world.steps) - 1 > position
        assert verdict.result in ({Result.ACCT_DENIED, Result.SUCCESS} if HOOKS[hook].account else AUTH_RESULTS)


AUTH_RESULTS = {Result.AUTH_ERR, Result.MAXTRIES, Result.SUCCESS}


@pytest.mark.parametrize("outage", OUTAGES, ids=str)
def test_a_store_that_cannot_note_an_unanswered_push_does_not_change_what_the_user_sees(outage: Exception) -> None:
    plain = World(answers=["", WRONG, WRONG])
    verdict = plain.run(converse(LOGIN, FACTS, RULES))
    cancelled_at = [isinstance(step, CancelPush) for step, _ in plain.steps].index(True)
    world = again(plain, interrupted_at=cancelled_at, interruption=outage)
    assert world.run(converse(LOGIN, FACTS, RULES)) == verdict
    assert world.seen() == plain.seen()


# Any world at all

codes = st.sampled_from([RIGHT, WRONG, "", " ", "x", "abcdef", "123 456"]) | st.text(max_size=30)
outages = st.sampled_from(OUTAGES) | st.floats(0, 200).map(rate_limited)
worlds = st.builds(
    World,
    account=st.sampled_from([ALICE, None, ROOT, Account("alice", 0)]),
    answers=st.lists(codes, max_size=6),
    checks=st.lists(st.sampled_from(Check) | outages, min_size=1, max_size=4),
    starts=st.lists(st.just(STARTED) | st.sampled_from(NotStarted) | outages, min_size=1, max_size=4),
    statuses=st.lists(st.sampled_from(PushStatus) | outages, min_size=1, max_size=6),
    call_takes=st.floats(0, 12),
    interrupted_at=st.none() | st.integers(0, 40),
    interruption=st.sampled_from(INTERRUPTIONS).map(lambda kind: kind()) | outages,
    gullible=st.booleans(),
)
rules = st.builds(
    Rules,
    max_attempts=st.integers(1, 5),
    permit_root=st.booleans(),
    push_timeout=st.integers(6, 120),
    account_push_timeout=st.integers(6, 120),
    poll_interval=st.none() | st.integers(1, 40),
    without_second_factor=st.sampled_from(WithoutSecondFactor),
)


@settings(max_examples=500)
@given(world=worlds, rules=rules, hook=st.sampled_from(sorted(HOOKS)), left=st.floats(0, 150), spent=st.integers(0, 4))
def test_in_any_world_only_a_yes_about_somebody_or_an_explicit_rule_lets_in(
    world: World, rules: Rules, hook: str, left: float, spent: int
) -> None:
    world.deadline = START + left
    login = replace(LOGIN, service=HOOKS[hook].service, deadline=world.deadline)
    facts = replace(FACTS, answers_spent=spent)
    verdict = world.run((confirm if HOOKS[hook].account else converse)(login, facts, rules))
    nobody = not isinstance(world.account, Account) or (world.account.uid == 0 and not rules.permit_root)
    if verdict.lets_in:
        assert not nobody
        yes = world.replies[-1] in {Check.RIGHT, PushStatus.APPROVED}
        assert yes != (verdict.reason is Reason.KEY_ONLY_ALLOWED)
        assert not isinstance(world.replies[-1], Exception)
    else:
        assert verdict.sentence
    if nobody:
        assert all(getattr(step, "identity", None) is None for step, _ in world.steps)


@settings(max_examples=200)
@given(world=worlds, left=st.floats(0, 150))
def test_no_pause_is_chosen_to_end_after_the_deadline(world: World, left: float) -> None:
    world.deadline = START + left
    world.run(converse(replace(LOGIN, deadline=world.deadline), FACTS, RULES))
    for step, at in world.steps:
        if isinstance(step, Pause) and step.seconds > 0:
            assert at + step.seconds <= world.deadline + 1e-6


@settings(max_examples=300)
@given(
    code=st.text("0123456789", min_size=6, max_size=12),
    check=st.sampled_from(Check),
    account=st.sampled_from([ALICE, None, ROOT]),
    outage=st.none() | outages,
)
def test_no_field_of_a_verdict_holds_what_was_typed(
    code: str, check: Check, account: Account | None, outage: Exception | None
) -> None:
    login = replace(LOGIN, client_ip="", connection="", deadline=DEADLINE)
    world = World(account=account, answers=[code, code], checks=[outage or check], gullible=True)
    verdict = world.run(converse(login, replace(FACTS, number=""), RULES))
    assert code not in repr(verdict)
