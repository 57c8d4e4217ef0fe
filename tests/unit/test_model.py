"""Values that cannot contradict themselves, sentences that tell no secret, and names that must not change."""

from __future__ import annotations

import pytest

from starlingd.core import sentences
from starlingd.core.model import Fault, Outcome, Reason, Result, Unavailable, Verdict
from starlingd.core.sentences import sentence
from starlingd.core.steps import Verify
from starlingd.core.verdicts import reason_of, refuse
from tests.unit.script import INTERRUPTIONS, OUTAGES, RIGHT

YES = {Reason.PUSH_APPROVED, Reason.CODE_VERIFIED, Reason.KEY_ONLY_ALLOWED}
REFUSALS = sorted(set(Reason) - YES)


@pytest.mark.parametrize("result", Result)
@pytest.mark.parametrize("outcome", Outcome)
def test_a_verdict_never_says_one_thing_to_the_log_and_another_to_pam(outcome: Outcome, result: Result) -> None:
    opens = result in {Result.SUCCESS, Result.IGNORE}
    if opens == (outcome is not Outcome.DENY):
        assert Verdict(outcome, result, Reason.INTERNAL_ERROR).lets_in == opens
    else:
        with pytest.raises(ValueError, match="cannot end with"):
            Verdict(outcome, result, Reason.INTERNAL_ERROR)


@pytest.mark.parametrize("result", [Result.SUCCESS, Result.IGNORE])
def test_a_refusal_cannot_be_made_with_a_result_that_opens(result: Result) -> None:
    with pytest.raises(ValueError, match="cannot end with"):
        refuse(Reason.WRONG_CODE, result)


def test_a_step_that_is_printed_does_not_show_the_code() -> None:
    step = Verify("alice", "alice", RIGHT)
    assert step.code == RIGHT
    assert RIGHT not in f"{step} {step!r}"


@pytest.mark.parametrize("reason", REFUSALS)
def test_every_refusal_has_one_of_the_short_list_of_sentences(reason: Reason) -> None:
    known = {text for name, text in vars(sentences).items() if name.isupper() and isinstance(text, str)}
    assert sentence(reason) in known
    assert reason not in sentence(reason)


@pytest.mark.parametrize(
    "reason",
    [
        Reason.WRONG_CODE,
        Reason.NOT_A_CODE,
        Reason.NOT_ENROLLED,
        Reason.UNKNOWN_USER,
        Reason.ROOT_NOT_PERMITTED,
        Reason.PUSH_DENIED,
        Reason.ATTEMPTS_SPENT,
    ],
)
def test_which_part_was_wrong_is_not_told(reason: Reason) -> None:
    assert sentence(reason) == sentences.FAILED


def test_an_expired_push_reads_as_one_that_nobody_answered() -> None:
    assert sentence(Reason.PUSH_EXPIRED) == sentence(Reason.PUSH_TIMEOUT) == sentences.NO_ANSWER


@pytest.mark.parametrize("end", [*(kind() for kind in INTERRUPTIONS), *OUTAGES], ids=repr)
def test_every_end_from_outside_has_a_reason_that_lets_nobody_in(end: Exception) -> None:
    assert reason_of(end) not in YES  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize(("port", "reason"), [("nss", Reason.NSS_UNAVAILABLE), ("store", Reason.STORE_UNAVAILABLE)])
def test_an_outage_at_home_is_named_by_its_port(port: str, reason: Reason, fault: Fault) -> None:
    assert reason_of(Unavailable(port, fault, "")) is reason
