"""starlingctl check-config: what is wrong with a configuration file, before the daemon is asked to use it.

It only reads, and shows no secret.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from starlingd import config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlingd.config import Problem

PROBLEMS = 1


@click.command("check-config")
@click.argument("file", type=click.Path(path_type=Path), default=config.FILE)
@click.option("--without-secrets", is_flag=True, help="Do not look up what is kept elsewhere ($).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check_config(file: Path, *, without_secrets: bool, as_json: bool) -> None:
    """Check FILE (/etc/pam-starling/starling.conf) and name every problem.

    Secrets are looked for in /etc/pam-starling/credentials, which only root may read.
    """
    problems, warnings = _check(file, without_secrets=without_secrets)
    if as_json:
        click.echo(_as_json(file, problems, warnings))
    else:
        _print(problems, warnings)
    sys.exit(PROBLEMS if problems else 0)


def _check(file: Path, *, without_secrets: bool) -> tuple[Sequence[Problem], Sequence[Problem]]:
    secrets = None if without_secrets else config.AdministratorFiles()
    try:
        return (), config.check_file(file, secrets)
    except config.ConfigError as error:
        return error.problems, error.warnings


def _print(problems: Sequence[Problem], warnings: Sequence[Problem]) -> None:
    for problem in problems:
        click.echo(str(problem))
    for warning in warnings:
        click.echo(f"warning: {warning}")
    click.echo("fine" if not problems else f"{len(problems)} problem{'s' if len(problems) > 1 else ''}")


def _as_json(file: Path, problems: Sequence[Problem], warnings: Sequence[Problem]) -> str:
    report = {
        "file": str(file),
        "fine": not problems,
        "problems": [_fields(problem) for problem in problems],
        "warnings": [_fields(warning) for warning in warnings],
    }
    return json.dumps(report, indent=2)


def _fields(problem: Problem) -> dict[str, str | int | None]:
    return {"section": problem.section, "key": problem.key, "message": problem.message, "line": problem.line}
