"""starlingctl provision: what the provisioning loop would do, does, and did."""

from __future__ import annotations

import sys
import time
from typing import Any

import click
from rich.progress import Progress

from starlingd.cli.daemon import ask, json_option, moment, printable, show_json, show_table

POLL = 0.5


@click.group("provision")
def provision() -> None:
    """Enrol the members of the directory's groups ahead of time."""


@provision.command("plan")
@click.option("--group", "groups", multiple=True, help="Only this group, whatever the configuration says.")
@json_option
def plan(groups: tuple[str, ...], *, as_json: bool) -> None:
    """Show who would be enrolled, and what else is to be said; change nothing."""
    ask("provision plan", groups=list(groups))
    _finish(_follow(show=not as_json), as_json=as_json)


@provision.command("run")
@click.argument("user", required=False)
@click.option("--group", "groups", multiple=True, help="Only this group, whatever the configuration says.")
@json_option
def run(user: str | None, groups: tuple[str, ...], *, as_json: bool) -> None:
    """Enrol who is missing; with USER, enrol that one person anew with what the directory says now.

    Ctrl-C ends the run; the next one goes on where it was.
    """
    if user:
        answer = ask("provision renew", user=user)
        if as_json:
            show_json(answer)
        else:
            click.echo(printable(f"{answer['user']} is enrolled as {answer['identity']}"))
        return
    ask("provision run", groups=list(groups))
    try:
        told = _follow(show=not as_json)
    except KeyboardInterrupt:
        told = ask("provision stop")
    _finish(told, as_json=as_json)


@provision.command("status")
@json_option
def status(*, as_json: bool) -> None:
    """Show how the last run went, or how far this one is."""
    told = ask("provision status")
    if as_json:
        show_json(told)
    elif told is None:
        click.echo("there was no run since the daemon started")
    else:
        _show(told)


def _follow(*, show: bool) -> dict[str, Any]:
    """Wait for the end of the run that is under way, with a progress bar where somebody looks."""
    with Progress(disable=not show or not sys.stdout.isatty()) as progress:
        bar = progress.add_task("", total=None)
        while True:
            told: dict[str, Any] = ask("provision status")
            known = told["phase"] != "counting"
            progress.update(
                bar, description=told["phase"], total=told["expected"] if known else None, completed=told["members"]
            )
            if told["outcome"]:
                return told
            time.sleep(POLL)


def _finish(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(told)
    else:
        _show(told)
    sys.exit(0 if told["outcome"] == "complete" else 1)


def _show(told: dict[str, Any]) -> None:
    rows = ((found["user"], found["action"], found["note"]) for found in told["differences"])
    show_table(("user", "action", "why"), rows, "nobody is missing, and nothing has changed")
    counts = ", ".join(f"{count} {action}" for action, count in sorted(told["counts"].items()))
    kind = "plan" if told["dry_run"] else "run"
    outcome = told["outcome"] or f"under way ({told['phase']})"
    click.echo(printable(f"\n{kind} of {moment(told['started'])}: {told['members']} members ({counts}): {outcome}"))
