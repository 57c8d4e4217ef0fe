"""Questions asked after success ([question_N]), and their rules (SEMANTICS §13)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlingd.config import schema, values
from starlingd.core.rules import Question

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlingd.config.problems import Notes
    from starlingd.config.schema import Values


@dataclass(frozen=True, slots=True)
class QuestionForm:
    """Values of [question_N]; ``audit`` that is None follows from ``disable_echo``."""

    prompt: str | None = schema.key(values.text, None, "what is asked")
    key: str | None = schema.key(values.answer_key, None, "the name under which the answer is kept")
    disable_echo: bool = schema.key(values.boolean, default=True, meaning="do not show what is typed")
    required: bool = schema.key(values.boolean, default=False, meaning="refuse an empty answer")
    pattern: str = schema.key(values.pattern, "", "a regular expression that the whole answer must match")
    audit: bool | None = schema.key(values.boolean, None, "write the answer to the audit event")
    export: bool = schema.key(values.boolean, default=False, meaning="give the answer to the session's environment")


QUESTION = schema.Section("question", QuestionForm, "something to ask after success", numbered=True)


def asked(found: Values) -> tuple[Question, ...]:
    """Make the questions that are asked: from 1 up to the first gap."""
    return tuple(_question(number, form) for number, form in _in_order(found) if form.prompt and form.key)


def check(found: Values, notes: Notes) -> None:
    """Apply every rule about questions."""
    numbers = [number for number, _ in _in_order(found)]
    for number in sorted(map(int, found.each(QUESTION))):
        if number not in numbers:
            notes.warn(
                _heading(number),
                "",
                "is never asked: questions are numbered from 1 without a gap; give it another number",
            )
    keys: dict[str, int] = {}
    for number, form in sorted((int(number), form) for number, form in found.each(QUESTION).items()):
        _check_one(number, form, notes)
        if form.key is None:
            continue
        first = keys.setdefault(form.key.lower(), number)
        if first != number:
            notes.problem(_heading(number), "key", f"is also that of [{_heading(first)}]: give one of them another")


def _check_one(number: int, form: QuestionForm, notes: Notes) -> None:
    section = _heading(number)
    for name, given in (("prompt", form.prompt), ("key", form.key)):
        if given is None:
            notes.problem(section, name, "is missing: a question needs both prompt and key")


def _in_order(found: Values) -> Iterator[tuple[int, QuestionForm]]:
    questions = found.each(QUESTION)
    number = 1
    while str(number) in questions:
        yield number, questions[str(number)]
        number += 1


def _question(number: int, form: QuestionForm) -> Question:
    return Question(
        number=number,
        key=form.key or "",
        prompt=form.prompt or "",
        disable_echo=form.disable_echo,
        required=form.required,
        pattern=form.pattern,
        audit=not form.disable_echo if form.audit is None else form.audit,
        export=form.export,
    )


def _heading(number: int) -> str:
    return f"{QUESTION.name}_{number}"
