"""starlingctl check-config --sps: what becomes of a plugin configuration of the vendor's gateway.

It writes one new file at most, over nothing, and shows neither values nor secrets.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from starlingd import config
from starlingd.cli import report

if TYPE_CHECKING:
    from pathlib import Path

    from starlingd.config import Option, Outcome, Problem


def run(file: Path, target: Path | None, *, as_json: bool) -> bool:
    """Translate ``file``, tell about it, and write ``target``; tell whether there was no problem."""
    try:
        outcome = config.translate(file)
    except config.ConfigError as error:
        outcome = config.Outcome((), (), error.problems, (), "")
    problems = [*outcome.problems, *_write(outcome, target)]
    written = target if target and not problems else None
    click.echo(_as_json(file, outcome, problems, written) if as_json else _as_text(outcome, problems, written))
    return not problems


def _write(outcome: Outcome, target: Path | None) -> list[Problem]:
    if target is None or outcome.problems:
        return []
    try:
        config.write_new(target, outcome.text)
    except FileExistsError:
        return [config.Problem("", "", f"{target} exists, and nothing is written over it: name another file")]
    except OSError as error:
        return [config.Problem("", "", f"{target} cannot be written: {error.strerror}")]
    return []


def _as_text(outcome: Outcome, problems: list[Problem], written: Path | None) -> str:
    lines = [_sentence(option) for option in outcome.options]
    lines += [f"to do: {config.printable(each)}" for each in outcome.to_do]
    lines += [f"written: {config.printable(str(written))}"] if written else []
    return "\n".join([*lines, *report.lines(problems, outcome.warnings)])


def _sentence(option: Option) -> str:
    result = f"renamed to [{option.section}] {option.key}" if option.result == "renamed" else option.result.value
    reason = f": {option.reason}" if option.reason else ""
    return str(config.Problem(option.old_section, option.old_key, result + reason, option.line))


def _as_json(file: Path, outcome: Outcome, problems: list[Problem], written: Path | None) -> str:
    found = {
        "options": [_fields(option) for option in outcome.options],
        "to_do": list(outcome.to_do),
        "written": str(written) if written else None,
    }
    return json.dumps(report.fields(file, problems, outcome.warnings) | found, indent=2)


def _fields(option: Option) -> dict[str, object]:
    return {
        "section": option.old_section,
        "key": option.old_key,
        "line": option.line,
        "result": option.result.name.lower(),
        "to": {"section": option.section, "key": option.key} if option.section else None,
        "reason": option.reason,
    }
