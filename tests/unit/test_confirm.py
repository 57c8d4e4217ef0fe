"""The account hook's ``confirm``: what becomes of a login that passed no second factor."""

from __future__ import annotations

from dataclasses import replace

import pytest

from starlingd.core.conversation import ACCOUNT_RULE, confirm
from starlingd.core.model import Factor, Fault, NotStarted, Outcome, PushStatus, Reason, Result, Unavailable, Verdict
from starlingd.core.rules import Rules, WithoutSecondFactor
from starlingd.core.sentences import NEEDS_SECOND_FACTOR, sentence
from starlingd.core.steps import Ask, CancelPush, LookUp, Say, StartPush
from tests.unit.script import ALICE, FACTS, LOGIN, ROOT, START, World, outage, play

DENY, PUSH, ALLOW = (Rules(without_second_factor=choice) for choice in WithoutSecondFactor)
KEY_ONLY = replace(LOGIN, auth_info="")


def test_by_default_a_key_alone_is_refused_with_a_hint() -> None:
    verdict = play(confirm(KEY_ONLY, FACTS, Rules()), (LookUp("alice"), ALICE))
    assert verdict == Verdict(
        Outcome.DENY,
        Result.ACCT_DENIED,
        Reason.NO_SECOND_FACTOR,
        rule=ACCOUNT_RULE,
        sentence=NEEDS_SECOND_FACTOR,
    )


def test_allow_lets_a_key_alone_in_and_names_the_rule() -> None:
    verdict = play(confirm(KEY_ONLY, FACTS, ALLOW), (LookUp("alice"), ALICE))
    assert verdict == Verdict(Outcome.ALLOW, Result.SUCCESS, Reason.KEY_ONLY_ALLOWED, rule=ACCOUNT_RULE)


@pytest.mark.parametrize("rules", [DENY, PUSH, ALLOW], ids=["deny", "push", "allow"])
@pytest.mark.parametrize(
    ("account", "reason"), [(None, Reason.UNKNOWN_USER), (ROOT, Reason.ROOT_NOT_PERMITTED)], ids=["unknown", "root"]
)
def test_uid_0_and_unknown_names_come_before_every_rule(account: object, reason: Reason, rules: Rules) -> None:
    verdict = play(confirm(KEY_ONLY, FACTS, rules), (LookUp("alice"), account))
    assert (verdict.outcome, verdict.result, verdict.reason) == (Outcome.DENY, Result.ACCT_DENIED, reason)


@pytest.mark.parametrize(
    ("rules", "lets_in"), [(DENY, False), (PUSH, True), (ALLOW, True)], ids=["deny", "push", "allow"]
)
def test_a_permitted_root_is_treated_like_anybody(rules: Rules, *, lets_in: bool) -> None:
    world = World(account=ROOT, statuses=[PushStatus.APPROVED])
    assert world.run(confirm(KEY_ONLY, FACTS, replace(rules, permit_root=True))).lets_in is lets_in


def test_an_approved_push_lets_in_without_a_word_or_a_number() -> None:
    world = World(statuses=[PushStatus.PENDING, PushStatus.APPROVED])
    verdict = world.run(confirm(KEY_ONLY, FACTS, PUSH))
    assert verdict == Verdict(Outcome.ALLOW, Result.SUCCESS, Reason.PUSH_APPROVED, Factor.PUSH, ACCOUNT_RULE)
    assert world.of(Ask) == []
    assert world.of(Say) == []
    [start] = world.of(StartPush)
    assert "Number" not in dict(start.push.details)


@pytest.mark.parametrize(
    ("timeout", "ours", "left", "lifetime"), [(60, 45, 100, 45), (30, 45, 100, 30), (60, 45, 20, 18), (60, 90, 100, 60)]
)
def test_its_push_lives_by_the_shortest_of_the_three_times(timeout: int, ours: int, left: int, lifetime: int) -> None:
    rules = replace(PUSH, push_timeout=timeout, account_push_timeout=ours)
    world = World(statuses=[PushStatus.APPROVED], deadline=START + left)
    world.run(confirm(replace(KEY_ONLY, deadline=START + left), FACTS, rules))
    assert [step.push.lifetime for step in world.of(StartPush)] == [lifetime]


@pytest.mark.parametrize(
    ("world", "reason", "cancelled"),
    [
        (World(statuses=[PushStatus.DENIED]), Reason.PUSH_DENIED, 0),
        (World(statuses=[PushStatus.EXPIRED]), Reason.PUSH_EXPIRED, 0),
        (World(), Reason.PUSH_TIMEOUT, 1),
        (World(statuses=[outage(Fault.UNREACHABLE)]), Reason.UNREACHABLE, 1),
        (World(statuses=[outage(Fault.MISCONFIGURED)]), Reason.MISCONFIGURED, 1),
        (World(starts=[outage(Fault.UNREACHABLE)]), Reason.UNREACHABLE, 0),
        (World(starts=[NotStarted.NOT_ENROLLED]), Reason.NOT_ENROLLED, 0),
        (World(starts=[NotStarted.PENDING]), Reason.PUSH_PENDING, 0),
        (World(starts=[NotStarted.LIMIT]), Reason.PUSH_LIMIT, 0),
    ],
    ids=str,
)
def test_a_push_without_a_yes_refuses_the_account_and_keeps_its_reason(
    world: World, reason: Reason, cancelled: int
) -> None:
    verdict = world.run(confirm(KEY_ONLY, FACTS, PUSH))
    assert (verdict.result, verdict.reason, verdict.rule) == (Result.ACCT_DENIED, reason, ACCOUNT_RULE)
    assert verdict.sentence == sentence(reason)
    assert len(world.of(CancelPush)) == cancelled


@pytest.mark.parametrize("rules", [DENY, PUSH, ALLOW], ids=["deny", "push", "allow"])
def test_an_nss_that_fails_refuses_whatever_the_rule(rules: Rules) -> None:
    verdict = play(confirm(KEY_ONLY, FACTS, rules), (LookUp("alice"), Unavailable("nss", Fault.BROKEN, "EIO")))
    assert (verdict.result, verdict.reason) == (Result.ACCT_DENIED, Reason.NSS_UNAVAILABLE)
