"""Names without an account, and root where it is not permitted: nobody can tell them from users who fail.

sshd replaces what such users type by junk of the same length, but leaves an empty answer empty (FIELD-FACTS 14).
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from starlingd.core.conversation import confirm, converse
from starlingd.core.model import Account, Check, Factor, NotStarted, Outcome, PushStatus, Reason, Result
from starlingd.core.rules import Rules, WithoutSecondFactor
from starlingd.core.steps import CheckPush, Pause, StartPush, Step, Verify
from tests.unit.script import ALICE, FACTS, INTERRUPTIONS, LOGIN, OUTAGES, RIGHT, ROOT, WRONG, World, rate_limited

RULES = Rules()
NOBODY = [None, ROOT, Account("toor", 0)]
NEVER_LUCKY = st.sampled_from([[PushStatus.PENDING], [PushStatus.UNKNOWN], [PushStatus.PENDING, PushStatus.UNKNOWN]])
answers = st.lists(
    st.sampled_from(["", " ", "   ", "\t", " " * 8, RIGHT, WRONG, "1 2 3 4 5 6", "x", "1" * 12, "1" * 13])
    | st.text(max_size=30),
    max_size=6,
)


def junk(answer: str) -> str:
    """Make what sshd hands to PAM in place of an unknown user's answer: other bytes, as many."""
    length = len(answer.encode())
    return ("\b\n\r\x7fINCORRECT" * length)[:length]


def masked(world: World) -> list[tuple[Step | str, float]]:
    """Tell all steps and their times without what only the daemon knows: whom they are about, and which code."""
    return [(_mask(step), at) for step, at in world.steps]


def _mask(step: Step) -> Step | str:
    if isinstance(step, Verify):
        return "Verify"
    if isinstance(step, StartPush | CheckPush):
        return replace(step, identity=None, user="")
    return str(type(step)) if type(step).__name__ == "CancelPush" else step


@settings(max_examples=500)
@given(
    typed=answers,
    account=st.sampled_from(NOBODY),
    statuses=NEVER_LUCKY,
    start=st.lists(st.sampled_from([NotStarted.PENDING, NotStarted.LIMIT, None]), min_size=1, max_size=3),
    disabled=st.booleans(),
    service=st.sampled_from(["sshd", "login", "backup"]),
)
@example(typed=["   "], account=None, statuses=[PushStatus.PENDING], start=[None], disabled=False, service="sshd")
def test_nobody_is_asked_told_and_kept_waiting_exactly_as_a_user_who_fails(
    typed: list[str],
    account: Account | None,
    statuses: list[PushStatus],
    start: list[NotStarted | None],
    *,
    disabled: bool,
    service: str,
) -> None:
    login, rules = replace(LOGIN, service=service), replace(RULES, disable_echo=disabled)
    starts = [reply or World().starts[0] for reply in start]
    user = World(answers=typed, statuses=statuses, starts=starts)
    nobody = World(account=account, answers=[junk(answer) for answer in typed], starts=starts)
    of_user = user.run(converse(login, FACTS, rules))
    of_nobody = nobody.run(converse(login, FACTS, rules))
    assert masked(nobody) == masked(user)
    assert nobody.now == user.now
    assert (of_nobody.result, of_nobody.sentence) == (of_user.result, of_user.sentence)
    assert of_nobody.evidence["seen_as"] in {of_user.reason, Reason.NOT_A_CODE}, "junk is no code"
    assert all(getattr(step, "identity", None) is None for step, _ in nobody.steps)


@settings(max_examples=200)
@given(typed=answers, account=st.sampled_from(NOBODY))
def test_where_nobody_replaces_answers_even_the_reasons_are_those_of_a_user_who_fails(
    typed: list[str], account: Account | None
) -> None:
    login = replace(LOGIN, service="login", client_ip="", connection="")
    user, nobody = World(answers=typed), World(account=account, answers=typed)
    of_user = user.run(converse(login, FACTS, RULES))
    of_nobody = nobody.run(converse(login, FACTS, RULES))
    assert masked(nobody) == masked(user)
    assert [step.code for step in nobody.of(Verify)] == [step.code for step in user.of(Verify)]
    assert of_nobody.evidence == {**of_user.evidence, "seen_as": of_user.reason}


@settings(max_examples=200)
@given(typed=answers, account=st.sampled_from(NOBODY), position=st.integers(0, 30), why=st.integers(0, 11))
def test_nobody_meets_an_outage_or_an_interruption_exactly_as_a_user_does(
    typed: list[str], account: Account | None, position: int, why: int
) -> None:
    reason = [*(kind() for kind in INTERRUPTIONS), *OUTAGES][why]
    user = World(answers=typed, interrupted_at=position, interruption=reason)
    nobody = replace(user, account=account, answers=[junk(each) for each in typed], steps=[], replies=[])
    of_user, of_nobody = (world.run(converse(LOGIN, FACTS, RULES)) for world in (user, nobody))
    assert masked(nobody) == masked(user)
    assert (of_nobody.result, of_nobody.sentence) == (of_user.result, of_user.sentence)


@pytest.mark.parametrize("account", NOBODY, ids=str)
@pytest.mark.parametrize("service", ["sshd", "backup"])
def test_nobody_is_let_in_even_when_the_driver_wrongly_says_yes(account: Account | None, service: str) -> None:
    for typed in ([RIGHT], ["", RIGHT], ["abcdef", RIGHT, ""]):
        for status in PushStatus:
            world = World(account=account, answers=typed, checks=[Check.RIGHT], statuses=[status], gullible=True)
            verdict = world.run(converse(replace(LOGIN, service=service), FACTS, RULES))
            assert (verdict.outcome, verdict.factor) == (Outcome.DENY, Factor.NONE)
            assert verdict.result in {Result.AUTH_ERR, Result.MAXTRIES}
            assert verdict.evidence["seen_as"] not in {Reason.CODE_VERIFIED, Reason.PUSH_APPROVED}


@pytest.mark.parametrize("choice", WithoutSecondFactor)
@pytest.mark.parametrize("account", NOBODY, ids=str)
def test_the_account_hook_refuses_nobody_whatever_the_rule_and_pushes_to_nobody(
    account: Account | None, choice: WithoutSecondFactor
) -> None:
    world = World(account=account, statuses=[PushStatus.APPROVED], gullible=True)
    verdict = world.run(confirm(LOGIN, FACTS, replace(RULES, without_second_factor=choice)))
    assert (verdict.outcome, verdict.result) == (Outcome.DENY, Result.ACCT_DENIED)
    assert len(world.steps) == 1


@pytest.mark.parametrize(
    ("account", "reason", "rule"),
    [(None, Reason.UNKNOWN_USER, ""), (ROOT, Reason.ROOT_NOT_PERMITTED, "auth.permit_root")],
)
def test_the_audit_log_is_told_the_truth_however_the_login_ended(
    account: Account | None, reason: Reason, rule: str
) -> None:
    for typed in ([], [WRONG], [WRONG] * 3, [""], ["x"] * 3):
        verdict = World(account=account, answers=typed).run(converse(LOGIN, FACTS, RULES))
        assert (verdict.reason, verdict.rule) == (reason, rule)
        assert verdict.evidence["seen_as"] in set(Reason)


@pytest.mark.parametrize("answer", [" ", "   ", "\t", "\u3000", " " * 6, " " * 30])
def test_only_an_answer_that_is_quite_empty_asks_for_a_push(answer: str) -> None:
    world = World(account=ALICE, answers=[answer])
    world.run(converse(LOGIN, FACTS, RULES))
    assert world.of(StartPush) == []


def test_a_long_name_without_an_account_never_takes_the_place_of_a_name_that_has_one() -> None:
    name = "a" * 64
    somebody = World(account=Account(name, 1000), answers=[""])
    stranger = World(account=None, answers=[""])
    somebody.run(converse(replace(LOGIN, user=name), FACTS, RULES))
    stranger.run(converse(replace(LOGIN, user=name + "b" * 9000), FACTS, RULES))
    [theirs], [ours] = somebody.of(StartPush), stranger.of(StartPush)
    assert theirs.user == name
    assert ours.user != name
    assert len(ours.user) < 80


def test_a_service_that_limits_our_rate_is_obeyed_for_nobody_too() -> None:
    limited: list[Check | Exception] = [rate_limited(9), Check.WRONG]
    user = World(answers=[WRONG], checks=limited)
    nobody = World(account=None, answers=[junk(WRONG)], checks=limited)
    for world in (user, nobody):
        world.run(converse(LOGIN, FACTS, RULES))
    assert masked(nobody) == masked(user)
    assert Pause(9) in nobody.of(Pause)
