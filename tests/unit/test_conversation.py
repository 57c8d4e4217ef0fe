"""Every path of ``converse``, step by step: what is asked of the world, in which order, and what comes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from starlingd.core.conversation import converse
from starlingd.core.model import (
    Account,
    Check,
    Factor,
    Fault,
    NotStarted,
    Outcome,
    Push,
    PushStatus,
    Reason,
    Result,
    Unavailable,
    Verdict,
)
from starlingd.core.rules import VENDOR_PROMPT, Rules
from starlingd.core.sentences import FAILED, NO_ANSWER, NO_MORE_PUSHES, PUSH_WAITS, UNREACHABLE, sentence
from starlingd.core.steps import Ask, CancelPush, CheckPush, LookUp, Pause, Say, StartPush, Verify
from tests.unit.script import (
    ALICE,
    FACTS,
    LOGIN,
    RIGHT,
    ROOT,
    START,
    STARTED,
    WRONG,
    Line,
    Took,
    World,
    outage,
    play,
    unreachable,
)

RULES = Rules(poll_interval=30)
"""Two polls in a push of 60 seconds keep the scripts short."""
PROMPT = Ask("Press Enter for push notification (number 42) or type one-time password: ", echo=True)
CHECK = CheckPush("alice", "alice", "request-1")
FOUND = (LookUp("alice"), ALICE)
CANCELLED = (CancelPush("alice"), None)
UNANSWERED: list[Line] = [(Pause(30.0), None), (CHECK, PushStatus.PENDING)]
CLOCK = Pause(0.0)
"""How a conversation learns the time after a call that failed."""


def push(lifetime: int = 60, *, number: str = "42") -> StartPush:
    """Make the push that Alice gets."""
    details = [
        ("Gateway", "bastion.example.org"),
        ("Gateway User", "alice"),
        ("Client IP", "198.51.100.7"),
        ("Protocol", "sshd"),
    ]
    details += [("Number", number)] if number else []
    return StartPush("alice", "alice", Push("Login to bastion.example.org", tuple(details), lifetime))


def denied(reason: Reason, result: Result = Result.AUTH_ERR, **more: object) -> Verdict:
    """Make the denial that belongs to a reason."""
    verdict = Verdict(Outcome.DENY, result, reason, sentence=sentence(reason))
    return replace(verdict, **more)  # type: ignore[arg-type]


def play_alice(*script: Line, rules: Rules = RULES, **login: object) -> Verdict:
    """Hold Alice's login to a script."""
    return play(converse(replace(LOGIN, **login), FACTS, rules), *script)  # type: ignore[arg-type]


# Codes


@pytest.mark.parametrize("typed", [RIGHT, " 123 456 ", "1 2 3 4 5 6", "\t123456"])
def test_a_right_code_lets_in_with_blanks_dropped(typed: str) -> None:
    verdict = play_alice(FOUND, (PROMPT, typed), (Verify("alice", "alice", RIGHT), Check.RIGHT))
    assert verdict == Verdict(Outcome.ALLOW, Result.SUCCESS, Reason.CODE_VERIFIED, Factor.CODE)


def test_a_wrong_code_may_be_followed_by_a_right_one_and_leaves_a_trace() -> None:
    verdict = play_alice(
        FOUND,
        (PROMPT, WRONG),
        (Verify("alice", "alice", WRONG), Check.WRONG),
        (Say(FAILED), None),
        (PROMPT, RIGHT),
        (Verify("alice", "alice", RIGHT), Check.RIGHT),
    )
    assert verdict.lets_in
    assert verdict.evidence == {"failures": "wrong_code"}


@pytest.mark.parametrize(
    ("check", "reason"), [(Check.WRONG, Reason.WRONG_CODE), (Check.NOT_ENROLLED, Reason.NOT_ENROLLED)]
)
def test_the_last_attempt_ends_with_maxtries_and_the_reason_of_the_last_failure(check: Check, reason: Reason) -> None:
    verdict = play_alice(
        FOUND, (PROMPT, WRONG), (Verify("alice", "alice", WRONG), check), rules=replace(RULES, max_attempts=1)
    )
    expected = denied(reason, Result.MAXTRIES, factor=Factor.CODE, rule="auth.max_attempts")
    assert replace(verdict, evidence={}) == expected
    assert verdict.evidence["failures"] == reason
    assert verdict.sentence == FAILED


@pytest.mark.parametrize("answer", ["a", "12345", "abcde", "x" * 25, "1" * 25, "12345 " * 5, "äöü" * 9])
def test_an_answer_that_cannot_be_a_code_uses_up_an_attempt_and_asks_nobody(answer: str) -> None:
    verdict = play_alice(
        FOUND, (PROMPT, answer), (Say(FAILED), None), (PROMPT, answer), rules=replace(RULES, max_attempts=2)
    )
    assert (verdict.reason, verdict.result) == (Reason.NOT_A_CODE, Result.MAXTRIES)


@pytest.mark.parametrize("answer", ["abcdef", "12345x", "1" * 13, "١٢٣٤٥٦", "\b\n\r\x7fINCO", "1234567890123456"])
def test_an_answer_of_a_codes_length_takes_a_codes_time_but_does_not_leave_the_host(answer: str) -> None:
    verdict = play_alice(
        FOUND,
        (PROMPT, answer),
        (Verify("alice", None, "", guess=False), Check.RIGHT),
        rules=replace(RULES, max_attempts=1),
    )
    assert verdict.reason is Reason.NOT_A_CODE


# Pushes


def test_an_approved_push_lets_in() -> None:
    verdict = play_alice(
        FOUND,
        (PROMPT, ""),
        (push(), STARTED),
        (Pause(30.0), None),
        (CHECK, PushStatus.PENDING),
        (Pause(30.0), None),
        (CHECK, PushStatus.APPROVED),
    )
    assert verdict == Verdict(Outcome.ALLOW, Result.SUCCESS, Reason.PUSH_APPROVED, Factor.PUSH)


def test_a_denied_push_is_final() -> None:
    verdict = play_alice(FOUND, (PROMPT, ""), (push(), STARTED), (Pause(30.0), None), (CHECK, PushStatus.DENIED))
    assert verdict == denied(Reason.PUSH_DENIED, Result.MAXTRIES, factor=Factor.PUSH)


def test_an_expired_push_may_be_retried_and_is_not_counted_twice() -> None:
    verdict = play_alice(
        FOUND,
        (PROMPT, ""),
        (push(), STARTED),
        (Pause(30.0), None),
        (CHECK, PushStatus.EXPIRED),
        (Say(NO_ANSWER), None),
        (PROMPT, ""),
        (push(), STARTED),
        (Pause(30.0), None),
        (CHECK, PushStatus.APPROVED),
    )
    assert verdict.lets_in
    assert verdict.evidence == {"failures": "push_expired"}


def test_a_push_nobody_answers_is_given_up_and_a_code_may_follow() -> None:
    verdict = play_alice(
        FOUND,
        (PROMPT, ""),
        (push(), STARTED),
        *UNANSWERED * 2,
        CANCELLED,
        (Say(NO_ANSWER), None),
        (PROMPT, RIGHT),
        (Verify("alice", "alice", RIGHT), Check.RIGHT),
    )
    assert verdict.lets_in
    assert verdict.evidence == {"failures": "push_timeout"}


def test_a_status_nobody_documented_is_waited_for() -> None:
    world = World(answers=[""], statuses=[PushStatus.UNKNOWN, PushStatus.UNKNOWN, PushStatus.APPROVED])
    assert world.run(converse(LOGIN, FACTS, Rules())).lets_in


def test_the_polls_keep_to_the_schedule_and_the_last_one_comes_when_the_time_is_up() -> None:
    world = World(answers=[""])
    world.run(converse(LOGIN, FACTS, Rules()))
    polls = [now - START for step, now in world.steps if isinstance(step, CheckPush)]
    assert polls == [1, 2, 4, 6, 9, 14, 19, 27, 35, 43, 51, 59, 60]


@pytest.mark.parametrize(
    ("reply", "reason", "said"),
    [
        (NotStarted.NOT_ENROLLED, Reason.NOT_ENROLLED, FAILED),
        (NotStarted.PENDING, Reason.PUSH_PENDING, PUSH_WAITS),
        (NotStarted.LIMIT, Reason.PUSH_LIMIT, NO_MORE_PUSHES),
    ],
)
def test_a_push_that_is_not_sent_is_told_and_a_code_may_follow(reply: NotStarted, reason: Reason, said: str) -> None:
    verdict = play_alice(
        FOUND,
        (PROMPT, ""),
        (push(), reply),
        (Say(said), None),
        (PROMPT, RIGHT),
        (Verify("alice", "alice", RIGHT), Check.RIGHT),
    )
    assert verdict.lets_in
    assert verdict.evidence == {"failures": reason}


def test_a_service_that_cannot_prompt_gets_a_push_without_being_asked_and_without_a_number() -> None:
    plain = push(number="").push
    details = tuple((label, "backup" if label == "Protocol" else text) for label, text in plain.details)
    started = StartPush("alice", "alice", replace(plain, details=details))
    verdict = play_alice(FOUND, (started, STARTED), (Pause(30.0), None), (CHECK, PushStatus.APPROVED), service="backup")
    assert verdict.lets_in


def test_a_service_that_cannot_prompt_has_one_push_and_no_more() -> None:
    world = World()
    verdict = world.run(converse(replace(LOGIN, service="backup"), FACTS, RULES))
    assert (verdict.reason, verdict.result) == (Reason.PUSH_TIMEOUT, Result.AUTH_ERR)
    assert len(world.of(StartPush)) == 1
    assert world.seen() == []


# Prompts


def test_the_prompt_is_the_administrators_with_the_number_and_no_other_field() -> None:
    rules = replace(RULES, prompt="{user} {number}{{number}} {", disable_echo=True)
    world = World(answers=[RIGHT], checks=[Check.RIGHT])
    world.run(converse(LOGIN, FACTS, rules))
    assert world.of(Ask) == [Ask("{user} 42{42} { ", echo=False)]


def test_without_push_number_neither_prompt_nor_phone_shows_one() -> None:
    world = World(answers=[""], statuses=[PushStatus.APPROVED])
    world.run(converse(LOGIN, FACTS, replace(RULES, prompt=VENDOR_PROMPT, push_number=False)))
    assert world.of(StartPush) == [push(number="")]
    assert "42" not in "".join(world.seen())


# Attempts


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
@pytest.mark.parametrize("spent", [0, 1, 2, 4, 5, 6])
def test_a_connection_is_asked_max_attempts_times_and_not_once_more(limit: int, spent: int) -> None:
    world = World(answers=[WRONG] * 10)
    verdict = world.run(converse(LOGIN, replace(FACTS, answers_spent=spent), replace(RULES, max_attempts=limit)))
    assert len(world.of(Ask)) == max(0, limit - spent)
    assert (verdict.result, verdict.rule) == (Result.MAXTRIES, "auth.max_attempts")
    assert verdict.reason is (Reason.WRONG_CODE if spent < limit else Reason.ATTEMPTS_SPENT)


@pytest.mark.parametrize("facts", [replace(FACTS, closed=True), replace(FACTS, answers_spent=3)])
def test_a_connection_that_may_not_try_again_is_refused_before_anything_is_asked_of_anybody(facts: object) -> None:
    verdict = play(converse(LOGIN, facts, RULES))  # type: ignore[arg-type]
    assert verdict == denied(Reason.ATTEMPTS_SPENT, Result.MAXTRIES, rule="auth.max_attempts")


def test_pushes_and_odd_answers_use_up_attempts_like_codes() -> None:
    world = World(answers=["", "x", WRONG, RIGHT], checks=[Check.WRONG, Check.RIGHT])
    verdict = world.run(converse(LOGIN, FACTS, RULES))
    assert verdict.evidence == {"failures": "push_timeout,not_a_code,wrong_code"}
    assert verdict.result is Result.MAXTRIES


def test_guesses_before_a_hang_up_leave_their_trace() -> None:
    world = World(answers=[WRONG, WRONG])
    verdict = world.run(converse(LOGIN, FACTS, RULES))
    assert (verdict.reason, verdict.evidence) == (Reason.HUNG_UP, {"failures": "wrong_code,wrong_code"})


# Who is asked about


@pytest.mark.parametrize(
    ("user", "account", "mapping", "identity"),
    [
        ("alice", ALICE, {}, "alice"),
        ("ALICE", ALICE, {}, "alice"),
        ("alice", ALICE, {"alice": "17"}, "17"),
        ("alice", ALICE, {"alice": ""}, "alice"),
        ("alice", ALICE, {"bob": "17"}, "alice"),
    ],
)
def test_the_identity_is_the_mapped_one_or_the_canonical_name(
    user: str, account: Account, mapping: dict[str, str], identity: str
) -> None:
    world = World(account=account, answers=[RIGHT], checks=[Check.RIGHT])
    world.run(converse(replace(LOGIN, user=user), FACTS, replace(RULES, explicit_mapping=mapping)))
    assert world.of(Verify) == [Verify("alice", identity, RIGHT)]


def test_root_may_use_a_second_factor_where_the_administrator_permits_it() -> None:
    world = World(account=ROOT, answers=[RIGHT], checks=[Check.RIGHT])
    assert world.run(converse(replace(LOGIN, user="root"), FACTS, replace(RULES, permit_root=True))).lets_in


def test_limits_are_the_canonical_names() -> None:
    world = World(answers=[""], statuses=[PushStatus.APPROVED])
    world.run(converse(replace(LOGIN, user="EXAMPLE\\Alice"), FACTS, RULES))
    assert [(step.user, step.push.details[1]) for step in world.of(StartPush)] == [
        ("alice", ("Gateway User", "EXAMPLE\\Alice"))
    ]


def test_a_look_up_that_fails_ends_the_login_before_a_prompt() -> None:
    verdict = play_alice((LookUp("alice"), Unavailable("nss", Fault.BROKEN, "EIO")))
    assert verdict == replace(denied(Reason.NSS_UNAVAILABLE), evidence={"outage": "EIO"})


# Outages


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.UNREACHABLE, Reason.UNREACHABLE),
        (Fault.MISCONFIGURED, Reason.MISCONFIGURED),
        (Fault.BUSY, Reason.BUSY),
        (Fault.BROKEN, Reason.SERVICE_ERROR),
        (Fault.RATE_LIMITED, Reason.RATE_LIMITED),
    ],
)
def test_an_outage_at_a_code_or_at_a_pushs_start_ends_the_conversation_with_its_sentence(
    fault: Fault, reason: Reason
) -> None:
    at_code = play_alice(FOUND, (PROMPT, RIGHT), (Verify("alice", "alice", RIGHT), outage(fault)), (CLOCK, None))
    at_push = play_alice(FOUND, (PROMPT, ""), (push(), outage(fault)), (CLOCK, None))
    assert at_code == at_push == replace(denied(reason), evidence={"outage": "as the test says"})


@pytest.mark.parametrize("fault", [Fault.UNREACHABLE, Fault.BUSY, Fault.BROKEN, Fault.RATE_LIMITED])
def test_a_poll_that_fails_is_waited_for(fault: Fault) -> None:
    world = World(answers=[""], statuses=[outage(fault), PushStatus.PENDING, outage(fault), PushStatus.APPROVED])
    assert world.run(converse(LOGIN, FACTS, Rules())).lets_in


def test_a_poll_that_finds_us_misconfigured_ends_the_login_and_the_push() -> None:
    script: list[Line] = [FOUND, (PROMPT, ""), (push(), STARTED), (Pause(30.0), None)]
    verdict = play_alice(*script, (CHECK, outage(Fault.MISCONFIGURED)), CANCELLED)
    assert verdict == replace(denied(Reason.MISCONFIGURED), evidence={"outage": "as the test says"})


@pytest.mark.parametrize(
    ("statuses", "reason"),
    [
        ([PushStatus.PENDING, unreachable()], Reason.UNREACHABLE),
        ([PushStatus.PENDING, outage(Fault.BROKEN)], Reason.SERVICE_ERROR),
        ([unreachable(), outage(Fault.BUSY)], Reason.BUSY),
        ([unreachable(), PushStatus.PENDING], Reason.PUSH_TIMEOUT),
        ([unreachable(), PushStatus.UNKNOWN], Reason.PUSH_TIMEOUT),
    ],
)
def test_the_last_poll_decides_how_a_push_without_an_answer_ended(statuses: list[PushStatus], reason: Reason) -> None:
    world = World(answers=[""], statuses=statuses)
    verdict = world.run(converse(LOGIN, FACTS, replace(RULES, max_attempts=1)))
    assert verdict.reason is reason
    assert len(world.of(CancelPush)) == 1


def test_a_poll_that_took_long_to_fail_does_not_delay_the_last_one() -> None:
    polled: list[Line] = [(Pause(30.0), None), (CHECK, Took(10.0, unreachable())), (CLOCK, None)]
    verdict = play_alice(
        FOUND,
        (PROMPT, ""),
        (push(), STARTED),
        *polled,
        (Pause(20.0), None),
        (CHECK, unreachable()),
        (CLOCK, None),
        CANCELLED,
    )
    assert (verdict.reason, verdict.sentence) == (Reason.UNREACHABLE, UNREACHABLE)
