"""Who may do without a second factor until a day: only who never had one, and only until then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from starlingd.core.conversation import confirm, converse
from starlingd.core.model import Check, Fault, NotStarted, Outcome, Reason, Result
from starlingd.core.rules import NotEnrolled, OnMappingFailure, Rules, Unenrolled, WithoutSecondFactor
from starlingd.core.steps import Ask, Defer, Say, StartPush
from tests.unit.script import FACTS, LOGIN, RIGHT, ROOT, World, outage

UNTIL = Rules(not_enrolled=Unenrolled(NotEnrolled.ALLOW_UNTIL, 1.0))
UNKNOWN = {"starts": [NotStarted.NOT_ENROLLED], "checks": [Check.NOT_ENROLLED]}


@pytest.mark.parametrize("answer", ["", RIGHT], ids=["by push", "by code"])
def test_whoever_never_had_one_is_let_in_at_once_and_told_the_days_left(answer: str) -> None:
    world = World(answers=[answer], days=12, **UNKNOWN)
    verdict = world.run(converse(LOGIN, FACTS, UNTIL))
    assert (verdict.outcome, verdict.result, verdict.reason) == (Outcome.ALLOW, Result.SUCCESS, Reason.ALLOW_UNTIL)
    assert (verdict.rule, verdict.evidence["days_left"]) == ("auth.not_enrolled", "12")
    assert len(world.of(Ask)) == 1
    assert [step.text for step in world.of(Say)] == [
        "You have no second factor yet; without one you can log in for 12 more days"
    ]


def test_a_batch_client_too() -> None:
    rules = replace(UNTIL, without_second_factor=WithoutSecondFactor.PUSH)
    assert World(days=1, **UNKNOWN).run(confirm(LOGIN, FACTS, rules)).reason is Reason.ALLOW_UNTIL


def test_whoever_ever_had_one_or_comes_too_late_is_refused() -> None:
    world = World(answers=[""], days=0, **UNKNOWN)
    verdict = world.run(converse(LOGIN, FACTS, UNTIL))
    assert (verdict.outcome, verdict.reason) == (Outcome.DENY, Reason.NOT_ENROLLED)


def test_uid_0_strangers_and_whoever_the_directory_could_not_tell_are_not_even_considered() -> None:
    kept = replace(UNTIL, mapping_attribute="x", on_mapping_failure=OnMappingFailure.KEEP)
    worlds = (
        (World(account=ROOT, answers=[""], days=9, **UNKNOWN), replace(UNTIL, permit_root=True)),
        (World(account=None, answers=["", "", ""], days=9, **UNKNOWN), UNTIL),
        (World(mapped=outage(Fault.UNREACHABLE, "directory"), answers=[""], days=9, **UNKNOWN), kept),
    )
    for world, rules in worlds:
        assert world.run(converse(LOGIN, FACTS, rules)).outcome is Outcome.DENY
        assert not world.of(Defer)


def test_without_the_rule_the_user_is_asked_again() -> None:
    world = World(answers=["", "", ""], days=9, **UNKNOWN)
    assert world.run(converse(LOGIN, FACTS, Rules())).reason is Reason.NOT_ENROLLED
    assert len(world.of(StartPush)) == 3
    assert not world.of(Defer)
