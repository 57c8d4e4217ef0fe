"""starlingctl check-config: what is wrong with a configuration file, before the daemon is asked to use it.

It only reads, but for the file that --write names, and shows no secret.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from starlingd import config
from starlingd.cli import report, translation
from starlingd.cli.keeping import KeptSecrets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlingd.config import Problem

PROBLEMS = 1
_PATH = click.Path(path_type=Path)


@click.command("check-config")
@click.argument("file", type=_PATH, required=False)
@click.option("--without-secrets", is_flag=True, help="Do not look up what is kept elsewhere ($).")
@click.option("--sps", type=_PATH, metavar="FILE", help="Tell what becomes of a plugin configuration of the vendor's.")
@click.option(
    "--write", "target", type=_PATH, metavar="OUT", help="With --sps: write the translation to this new file."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check_config(
    file: Path | None, *, without_secrets: bool, sps: Path | None, target: Path | None, as_json: bool
) -> None:
    """Check FILE (/etc/pam-starling/starling.conf) and name every problem.

    Secrets are looked for in /etc/pam-starling/credentials, which only root may read.
    """
    if sps is not None:
        if file is not None or without_secrets:
            raise click.UsageError("--sps stands with --write and --json alone: no other file is checked.")
        sys.exit(0 if translation.run(sps, target, as_json=as_json) else PROBLEMS)
    if target is not None:
        raise click.UsageError("--write needs --sps.")
    checked = file or config.FILE
    problems, warnings = _check(checked, without_secrets=without_secrets)
    if as_json:
        click.echo(json.dumps(report.fields(checked, problems, warnings), indent=2))
    else:
        click.echo("\n".join(report.lines(problems, warnings)))
    sys.exit(PROBLEMS if problems else 0)


def _check(file: Path, *, without_secrets: bool) -> tuple[Sequence[Problem], Sequence[Problem]]:
    secrets = None if without_secrets else KeptSecrets()
    try:
        return (), config.check_file(file, secrets)
    except config.ConfigError as error:
        return error.problems, error.warnings
