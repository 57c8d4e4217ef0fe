"""The administrator's own questions, asked of everyone who is let in (SEMANTICS §3, question_N).

They decide nothing about the second factor. A question that is not answered as it wants to be keeps its user out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from starlingd.core.model import Factor, Reason, Result
from starlingd.core.sentences import NOT_AN_ANSWER
from starlingd.core.steps import Inquire, Match, Say
from starlingd.core.verdicts import refuse

if TYPE_CHECKING:
    from collections.abc import Generator

    from starlingd.core.model import Verdict
    from starlingd.core.rules import Question, Rules
    from starlingd.core.steps import Conversation, Reply, Step

TRIES = 3
"""How often a question is asked before its user is refused."""
EXPORTED = "PAM_STARLING_ANSWER_"


def ask_all(rules: Rules, verdict: Verdict) -> Conversation:
    """Ask every question in order; the verdict comes back with the answers, or as a refusal."""
    answers: dict[str, str] = {}
    exports: dict[str, str] = {}
    for question in rules.questions:
        answer = yield from _ask(question)
        if answer is None:
            return refused(question)
        if question.audit:
            answers[question.key] = answer
        if question.export:
            exports[EXPORTED + question.key.upper()] = answer
    return replace(verdict, answers=answers, exports=exports)


def required(rules: Rules) -> Question | None:
    """Find a question that must be answered, which a login that cannot be asked anything never does."""
    return next((question for question in rules.questions if question.required), None)


def refused(question: Question) -> Verdict:
    """Make the refusal of somebody who did not answer."""
    return refuse(Reason.QUESTION_REFUSED, Result.AUTH_ERR, rule=f"question_{question.number}", factor=Factor.NONE)


def _ask(question: Question) -> Generator[Step, Reply, str | None]:
    for _ in range(TRIES):
        answer, _ = yield Inquire(question.prompt + " ", echo=not question.disable_echo)
        fits = bool(answer) or not question.required
        if fits and answer and question.pattern:
            fits, _ = yield Match(question.pattern, answer)
        if fits:
            return str(answer)
        yield Say(NOT_AN_ANSWER)
    return None
