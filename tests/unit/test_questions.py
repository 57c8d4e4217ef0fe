"""The administrator's questions: what is asked of whoever is let in, where the answers go, and whom they keep out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from starlingd.core.conversation import confirm, converse
from starlingd.core.grace import Entry, Moment
from starlingd.core.model import Check, Factor, Fault, Outcome, PushStatus, Reason, Result, Verdict
from starlingd.core.questions import EXPORTED, TRIES, ask_all
from starlingd.core.rules import Allow, ExemptResult, Grace, Question, Rules, UserList, WithoutSecondFactor
from starlingd.core.sentences import FAILED, NOT_AN_ANSWER
from starlingd.core.steps import Ask, Inquire, Match, Reuse, Say, StartPush
from tests.unit.script import ALICE, FACTS, INTERRUPTIONS, LOGIN, OUTAGES, RIGHT, WRONG, World, outage, play

YES = Verdict(Outcome.ALLOW, Result.SUCCESS, Reason.CODE_VERIFIED, Factor.CODE, evidence={"failures": "wrong_code"})
TICKET = Question(1, "ticket", "Which ticket?", disable_echo=False, audit=True)
WHY = Question(2, "why", "Why?", disable_echo=True)
BATCH = replace(LOGIN, service="backup")
BREAK_GLASS = frozenset({"alice"})
EXEMPT = UserList("people", Allow.NO_USER, frozenset({"alice"}))
GRACE = Grace(reuse_limit=3)
ENTRY = Entry("1000 alice", Moment(100.0, 50.0, "boot"), Moment(100.0, 50.0, "boot"), 1)


def rules(*questions: Question, **more: object) -> Rules:
    return Rules(questions=questions, **more)  # type: ignore[arg-type]


def refused(number: int) -> Verdict:
    """Make the refusal that question ``number`` causes."""
    rule = f"question_{number}"
    return Verdict(Outcome.DENY, Result.AUTH_ERR, Reason.QUESTION_REFUSED, rule=rule, sentence=FAILED)


# --- what is asked -------------------------------------------------------------------------------------------------


def test_questions_are_asked_in_their_order_each_with_its_echo() -> None:
    verdict = play(
        ask_all(rules(TICKET, WHY), YES),
        (Inquire("Which ticket? ", echo=True), "T-1"),
        (Inquire("Why? ", echo=False), "because"),
    )
    assert verdict.lets_in


def test_without_questions_the_verdict_is_what_it_was() -> None:
    assert play(ask_all(rules(), YES)) == YES


def test_answers_change_nothing_else_about_a_verdict() -> None:
    verdict = World(told=["T-1"]).run(ask_all(rules(TICKET), YES))
    assert replace(verdict, answers={}, exports={}) == YES


def test_echo_is_off_and_nothing_is_kept_unless_the_question_says_so() -> None:
    plain = Question(1, "pin", "PIN?")
    world = World(told=["1234"])
    verdict = world.run(ask_all(rules(plain), YES))
    assert world.of(Inquire) == [Inquire("PIN? ", echo=False)]
    assert (verdict.answers, verdict.exports) == ({}, {})


@pytest.mark.parametrize("audit", [True, False])
@pytest.mark.parametrize("export", [True, False])
def test_an_answer_goes_where_its_question_says(*, audit: bool, export: bool) -> None:
    verdict = World(told=["T-1"]).run(ask_all(rules(replace(TICKET, audit=audit, export=export)), YES))
    assert verdict.answers == ({"ticket": "T-1"} if audit else {})
    assert verdict.exports == ({"PAM_STARLING_ANSWER_TICKET": "T-1"} if export else {})


def test_answers_are_not_printed_with_a_verdict() -> None:
    verdict = World(told=["secret-1"]).run(ask_all(rules(replace(TICKET, export=True)), YES))
    assert "secret-1" not in repr(verdict)
    assert "secret-1" not in repr(Match("x", "secret-1"))


# --- which answers fit ---------------------------------------------------------------------------------------------


def test_an_empty_answer_is_an_answer_and_is_not_matched() -> None:
    world = World(told=[""])
    verdict = world.run(ask_all(rules(replace(TICKET, pattern="T-[0-9]+")), YES))
    assert verdict.answers == {"ticket": ""}
    assert not world.of(Match)


def test_a_required_question_is_asked_again_until_it_is_answered() -> None:
    question = replace(TICKET, required=True)
    inquire = Inquire("Which ticket? ", echo=True)
    verdict = play(
        ask_all(rules(question), YES),
        (inquire, ""),
        (Say(NOT_AN_ANSWER), None),
        (inquire, ""),
        (Say(NOT_AN_ANSWER), None),
        (inquire, "T-1"),
    )
    assert verdict.answers == {"ticket": "T-1"}


def test_an_answer_is_matched_as_it_was_typed() -> None:
    question = replace(TICKET, pattern="T-[0-9]+")
    inquire = Inquire("Which ticket? ", echo=True)
    verdict = play(
        ask_all(rules(question), YES),
        (inquire, "x"),
        (Match("T-[0-9]+", "x"), False),
        (Say(NOT_AN_ANSWER), None),
        (inquire, " T-1 "),
        (Match("T-[0-9]+", " T-1 "), True),
    )
    assert verdict.answers == {"ticket": " T-1 "}


@pytest.mark.parametrize(
    ("question", "told", "matches"),
    [
        (replace(TICKET, required=True), [""] * TRIES, [True]),
        (replace(TICKET, pattern="x"), ["y"] * TRIES, [False]),
        (replace(TICKET, pattern="x", required=True), ["y", "", "y"], [False]),
    ],
)
def test_three_answers_that_do_not_fit_refuse_and_ask_nothing_further(
    question: Question, told: Sequence[str], matches: Sequence[bool]
) -> None:
    world = World(told=[*told, "T-1"], matches=matches)
    assert world.run(ask_all(rules(question, WHY), YES)) == refused(1)
    assert len(world.of(Inquire)) == TRIES


def test_the_tries_of_one_question_are_not_those_of_the_next() -> None:
    first, second = replace(TICKET, required=True), replace(WHY, required=True, audit=True)
    verdict = World(told=["", "", "T-1", "", "", "so"]).run(ask_all(rules(first, second), YES))
    assert verdict.answers == {"ticket": "T-1", "why": "so"}


def test_no_answer_is_kept_of_somebody_who_is_refused_later() -> None:
    verdict = World(told=["T-1", "", "", ""]).run(ask_all(rules(TICKET, replace(WHY, required=True)), YES))
    assert verdict == refused(2)


# --- who is asked --------------------------------------------------------------------------------------------------

LET_IN: dict[str, tuple[World, Rules]] = {
    "code": (World(answers=[RIGHT], checks=[Check.RIGHT]), Rules()),
    "push": (World(answers=[""], statuses=[PushStatus.APPROVED]), Rules()),
    "exempt": (World(), Rules(user_list=EXEMPT)),
    "exempt and enough": (World(), Rules(user_list=EXEMPT, exempt_result=ExemptResult.SUCCESS)),
    "break-glass": (World(), Rules(break_glass=BREAK_GLASS)),
    "cached": (World(entry=ENTRY), Rules(grace=GRACE)),
}


def again(world: World, **changes: object) -> World:
    return replace(world, steps=[], replies=[], **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", LET_IN)
def test_everyone_who_is_let_in_is_asked_in_the_end(way: str) -> None:
    world, plain = LET_IN[way]
    before = again(world).run(converse(LOGIN, FACTS, plain))
    world = again(world, told=["T-1", "because"])
    verdict = world.run(converse(LOGIN, FACTS, replace(plain, questions=(TICKET, WHY))))
    assert verdict == replace(before, answers={"ticket": "T-1"})
    assert [type(step) for step, _ in world.steps[-2:]] == [Inquire, Inquire]


@pytest.mark.parametrize("way", LET_IN)
@pytest.mark.parametrize("required", [True, False])
def test_hanging_up_at_any_question_denies(way: str, *, required: bool) -> None:
    world, plain = LET_IN[way]
    asking = replace(plain, questions=(TICKET, replace(WHY, required=required)))
    for told in ([], ["T-1"]):
        verdict = again(world, told=told).run(converse(LOGIN, FACTS, asking))
        assert (verdict.outcome, verdict.reason) == (Outcome.DENY, Reason.HUNG_UP)
        assert not verdict.answers


@pytest.mark.parametrize("way", LET_IN)
@pytest.mark.parametrize("end", [*(kind() for kind in INTERRUPTIONS), *OUTAGES], ids=str)
def test_whatever_ends_a_login_among_its_questions_denies(way: str, end: Exception) -> None:
    world, plain = LET_IN[way]
    asking = replace(plain, questions=(replace(TICKET, pattern="x"), WHY))
    whole = again(world, told=["x", "y", "z"], matches=[False, True])
    assert whole.run(converse(LOGIN, FACTS, asking)).lets_in
    first = [isinstance(step, Inquire) for step, _ in whole.steps].index(True)
    for position in range(first, len(whole.steps)):
        cut = again(world, told=whole.told, matches=whole.matches, interrupted_at=position, interruption=end)
        assert not cut.run(converse(LOGIN, FACTS, asking)).lets_in
        assert len(cut.steps) == position + 1


def test_who_is_denied_is_asked_nothing() -> None:
    world = World(answers=[WRONG] * 3, told=["T-1"])
    assert not world.run(converse(LOGIN, FACTS, rules(TICKET))).lets_in
    assert not world.of(Inquire)


@pytest.mark.parametrize("account", [None, ALICE], ids=["unknown", "known"])
def test_nobody_is_asked_a_question_even_when_the_driver_wrongly_says_yes(account: object) -> None:
    world = World(account=account, answers=[RIGHT], checks=[Check.RIGHT], told=["T-1"], gullible=True)  # type: ignore[arg-type]
    verdict = world.run(converse(LOGIN, FACTS, rules(TICKET)))
    assert verdict.lets_in is bool(world.of(Inquire)) is (account is not None)


def test_a_question_uses_up_no_attempt() -> None:
    world = World(answers=[RIGHT], checks=[Check.RIGHT], told=["x", "x", "T-1"], matches=[False, False, True])
    asking = rules(replace(TICKET, pattern="T"), max_attempts=1)
    assert world.run(converse(LOGIN, FACTS, asking)).lets_in
    assert len(world.of(Ask)) == 1


# --- where nobody can be asked -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", sorted(set(LET_IN) - {"code"}))
def test_where_no_question_can_be_asked_those_that_need_no_answer_are_skipped(way: str) -> None:
    world, plain = LET_IN[way]
    asking = replace(plain, questions=(TICKET, WHY), without_second_factor=WithoutSecondFactor.PUSH)
    for conversation in (converse(BATCH, FACTS, asking), confirm(LOGIN, FACTS, asking)):
        verdict = again(world).run(conversation)
        assert verdict.lets_in
        assert not verdict.answers


@pytest.mark.parametrize("way", sorted(set(LET_IN) - {"code", "break-glass"}))
def test_where_no_question_can_be_asked_a_required_one_denies_before_any_phone_rings(way: str) -> None:
    world, plain = LET_IN[way]
    for choice in WithoutSecondFactor:
        asking = replace(plain, questions=(TICKET, replace(WHY, required=True)), without_second_factor=choice)
        for conversation, result in (
            (converse(BATCH, FACTS, asking), Result.AUTH_ERR),
            (confirm(LOGIN, FACTS, asking), Result.ACCT_DENIED),
        ):
            tried = again(world)
            assert tried.run(conversation) == replace(refused(2), result=result)
            assert not tried.of(StartPush)


def test_a_required_question_that_cannot_be_asked_does_not_keep_break_glass_out() -> None:
    asking = rules(replace(TICKET, required=True), break_glass=BREAK_GLASS)
    for conversation in (converse(BATCH, FACTS, asking), confirm(LOGIN, FACTS, asking)):
        assert World().run(conversation).reason is Reason.BREAK_GLASS


def test_a_matcher_that_fails_denies() -> None:
    world = World(entry=ENTRY, told=["x"], matches=[outage(Fault.BUSY, "patterns")])
    verdict = world.run(converse(LOGIN, FACTS, rules(replace(TICKET, pattern="x"), grace=GRACE)))
    assert (verdict.outcome, verdict.reason) == (Outcome.DENY, Reason.BUSY)
    assert len(world.of(Reuse)) == 1


# --- any questions at all ------------------------------------------------------------------------------------------

some_questions = st.lists(
    st.builds(
        Question,
        number=st.just(0),
        key=st.sampled_from(["a", "b_1", "Ticket"]),
        prompt=st.text(min_size=1, max_size=5),
        disable_echo=st.booleans(),
        required=st.booleans(),
        pattern=st.sampled_from(["", "x"]),
        audit=st.booleans(),
        export=st.booleans(),
    ),
    max_size=4,
    unique_by=lambda question: question.key,
)


@settings(max_examples=300)
@given(
    asked=some_questions,
    told=st.lists(st.sampled_from(["", "x", "yes", "ö"]), max_size=14),
    matches=st.lists(st.booleans(), min_size=1, max_size=6),
)
def test_only_whoever_answers_every_question_as_it_wants_is_let_in(
    asked: list[Question], told: list[str], matches: list[bool]
) -> None:
    questions = [replace(question, number=number) for number, question in enumerate(asked, 1)]
    world = World(answers=[RIGHT], checks=[Check.RIGHT], told=told, matches=matches)
    verdict = world.run(converse(LOGIN, FACTS, rules(*questions)))
    if not verdict.lets_in:
        assert verdict.reason in {Reason.QUESTION_REFUSED, Reason.HUNG_UP}
        assert (verdict.answers, verdict.exports) == ({}, {})
        return
    prompts = [step.text for step in world.of(Inquire)]
    assert list(dict.fromkeys(prompts)) == list(dict.fromkeys(question.prompt + " " for question in questions))
    assert set(verdict.answers) == {question.key for question in questions if question.audit}
    assert set(verdict.exports) == {EXPORTED + question.key.upper() for question in questions if question.export}
    for question in questions:
        if question.required and question.audit:
            assert verdict.answers[question.key]
