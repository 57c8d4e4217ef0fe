"""starlingctl provision: what the provisioning loop would do, does, and did; for everybody, some groups, or a user."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click
from rich.progress import Progress

from starlingd.cli.daemon import ask, json_option, moment, printable, show_json, show_table

if TYPE_CHECKING:
    from collections.abc import Callable

POLL = 0.5
HEADINGS = ("user", "action", "why")
NOTHING = "nobody is missing, and nothing has changed"


def _whom(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command be about one user, or about some groups whatever the configuration says."""
    command = click.option("--group", "groups", multiple=True, help="Only this group; may be given again.")(command)
    return click.argument("user", required=False)(command)


@click.group("provision")
def provision() -> None:
    """Enrol the members of the directory's groups ahead of time."""


@provision.command("plan")
@_whom
@json_option
def plan(user: str | None, groups: tuple[str, ...], *, as_json: bool) -> None:
    """Show who would be enrolled, and what else is to be said; change nothing. With USER, only about this one."""
    _either(user, groups)
    if user:
        found = ask("provision look", user=user)
        _tell(found, _difference(found), as_json=as_json)
        return
    _plan(groups, as_json=as_json)


@provision.command("run")
@_whom
@click.option("--accept-shrink", is_flag=True, help="Go on although many members have left. Look at the plan first.")
@json_option
def run(user: str | None, groups: tuple[str, ...], *, accept_shrink: bool, as_json: bool) -> None:
    """Enrol who is missing; with USER, enrol that one person anew with what the directory says now.

    Ctrl-C ends the run; the next one goes on where it was.
    """
    _either(user, groups)
    if user:
        answer = ask("provision renew", user=user)
        _tell(answer, f"{answer['user']} is enrolled as {answer['identity']}", as_json=as_json)
        return
    ask("provision run", groups=list(groups), accept_shrink=accept_shrink)
    try:
        _follow(is_plan=False, show=not as_json)
    except KeyboardInterrupt:
        ask("provision stop")
    _finish(ask("provision status")["run"], as_json=as_json)


@provision.command("status")
@_whom
@click.option("--plan", "is_plan", is_flag=True, help="The last plan instead of the last run.")
@json_option
def status(user: str | None, groups: tuple[str, ...], *, is_plan: bool, as_json: bool) -> None:
    """Show how the last run went, or how far this one is; how USER stands, or the members of a group."""
    _either(user, groups)
    if user:
        found = ask("provision look", user=user)
        _tell(found, f"{_difference(found)}\n{_enrolled(found)}", as_json=as_json)
    elif groups:
        _plan(groups, as_json=as_json)
    else:
        told = ask("provision status", plan=is_plan)
        if as_json:
            show_json(told)
        else:
            _show_last(told)


def _either(user: str | None, groups: tuple[str, ...]) -> None:
    if user and groups:
        raise click.UsageError("a user or groups, not both")


def _plan(groups: tuple[str, ...], *, as_json: bool) -> None:
    ask("provision plan", groups=list(groups))
    _follow(is_plan=True, show=not as_json)
    _finish(ask("provision status", plan=True)["run"], as_json=as_json)


def _follow(*, is_plan: bool, show: bool) -> None:
    """Wait for the end of the run that is under way, with a progress bar where somebody looks."""
    with Progress(disable=not show or not sys.stdout.isatty()) as progress:
        bar = progress.add_task("", total=None)
        while True:
            told: dict[str, Any] = ask("provision status", plan=is_plan, brief=True)["run"]
            working = told["phase"] == "working"
            progress.update(
                bar,
                description=told["phase"] if working else f"{told['phase']}, {told['members']} members",
                total=told["todo"] if working else None,
                completed=told["done"],
            )
            if told["outcome"]:
                return
            time.sleep(POLL)


def _finish(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(told)
    else:
        _show(told)
    sys.exit(0 if told["outcome"] == "complete" else 1)


def _tell(found: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    for line in text.splitlines():
        click.echo(printable(line))


def _difference(found: dict[str, Any]) -> str:
    why = f" ({found['note']})" if found["note"] else ""
    return f"{found['user']}: {found['action']}{why}"


def _enrolled(found: dict[str, Any]) -> str:
    kept = found["enrolment"]
    if kept is None:
        return "is not enrolled"
    seen = f", last seen in the groups {moment(kept['seen'])}" if kept["seen"] else ""
    blocked = ", blocked" if kept["blocked"] else ""
    return f"is enrolled as {kept['identity']} since {moment(kept['made'])}{seen}{blocked}"


def _show_last(told: dict[str, Any]) -> None:
    if told["run"] is not None:
        _show(told["run"])
        return
    kept = told["kept"]
    click.echo("there was no run since the daemon started")
    if kept["started"]:
        end = f"came to its end with {kept['members']} members" if kept["complete"] else "did not come to its end"
        click.echo(f"the last one before began {moment(kept['started'])} and {end}")


def _show(told: dict[str, Any]) -> None:
    rows = ((found["user"], found["action"], found["note"]) for found in told["differences"])
    show_table(HEADINGS, rows, NOTHING if told["outcome"] == "complete" else "")
    if told["not_shown"]:
        click.echo(f"… and {told['not_shown']} more")
    counts = ", ".join(f"{count} {action}" for action, count in sorted(told["counts"].items()))
    kind = "plan" if told["dry_run"] else "run"
    outcome = told["outcome"] or f"under way ({told['phase']}, {told['done']} of {told['todo']})"
    failed = f", {told['errors']} failed" if told["errors"] else ""
    click.echo(
        printable(f"{kind} of {moment(told['started'])}: {told['members']} members ({counts}){failed}: {outcome}")
    )
