"""A vendor's plugin configuration, from its lines to a starling.conf that has been read back and checked.

What is handed out as text is right, or there is a problem that says what to change in the old file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from starlingd.config import ini, settings, sps, writer
from starlingd.config.problems import ConfigError, Notes, Problem

if TYPE_CHECKING:
    from starlingd.config.ini import Document
    from starlingd.config.sps import Option, Translation

HEAD = "# Translated from a plugin configuration of the vendor's gateway. starling.conf(5) explains every key.\n\n"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of every option, what is left to do, and the new file's text, which is right without problems.

    Problems and warnings name the old file's lines, sections and keys where there are such.
    """

    options: tuple[Option, ...]
    to_do: tuple[str, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    text: str


def translate(document: Document) -> Outcome:
    """Translate, and read back what was made."""
    made = sps.translate(document)
    text = HEAD + writer.text(made.sections, made.remarks)
    found = _check(text)
    told = {(each.section, each.key) for each in made.problems}
    followed = (_at_origin(each, made) for each in found.problems)
    problems = [*made.problems, *(each for each in followed if (each.section, each.key) not in told)]
    if not problems and _sections(text) != made.sections:
        problems.append(Problem("", "", "a value begins in a way that cannot be written down: simplify the old file"))
    warnings = tuple(_at_origin(each, made) for each in found.warnings)
    return Outcome(tuple(made.options), tuple(made.to_do), tuple(problems), warnings, text)


def _check(text: str) -> ConfigError:
    try:
        return ConfigError((), settings.examine(ini.parse(text), None, Notes()))
    except ConfigError as error:
        return error


def _sections(text: str) -> dict[str, dict[str, str]]:
    document = ini.parse(text)
    return {name: {key: entry.value for key, entry in keys.items()} for name, keys in document.sections.items()}


def _at_origin(problem: Problem, made: Translation) -> Problem:
    """Name the place in the old file that a place in the new one comes from."""
    option = made.origin(problem.section, problem.key)
    if option:
        return replace(problem, section=option.old_section, key=problem.key and option.old_key, line=option.line)
    beside = made.origin(problem.section, "")
    return replace(problem, line=beside.line if beside else None)
