"""starlingctl status and events: what runs, and what happened."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from starlingd.cli.daemon import OURS, ask, json_option, moment, printable, show_json, show_table

FIELDS = {
    "time": "__REALTIME_TIMESTAMP",
    "event": "STARLING_EVENT",
    "outcome": "STARLING_OUTCOME",
    "reason": "STARLING_REASON",
    "user": "STARLING_USER",
    "client_ip": "STARLING_CLIENT_IP",
    "service": "STARLING_SERVICE",
    "factor": "STARLING_FACTOR",
    "rule": "STARLING_RULE",
    "login": "STARLING_LOGIN",
    "mode": "STARLING_MODE",
    "evidence": "STARLING_EVIDENCE",
}
JOURNALCTL = "/usr/bin/journalctl"
EVENTS_ALONE = "_TRANSPORT=journal"
"""What journalctl has to match besides: what the daemon says on stderr has come another way than its events."""
COLUMNS = ("time", "event", "outcome", "reason", "user", "client_ip", "service", "rule")


@click.command("status")
@json_option
def status(*, as_json: bool) -> None:
    """Tell what the daemon does: since when, who waits, how the service and the directory are, today's logins."""
    told = ask("status")
    if as_json:
        show_json({"observing": bool(told["observe_until"]), **told})
        return
    if told["observe_until"]:
        text = f"OBSERVING: until {moment(told['observe_until'])} nobody is asked for a second factor"
        Console(soft_wrap=True).print(Text(text, style="bold red"))
        click.echo()
    show_table(("daemon", ""), _rows(told), "")
    click.echo()
    # The counts are the daemon's own, in memory: they begin anew with each one.
    click.echo(f"Logins today, since midnight or since the daemon started ({moment(told['started'])}):")
    counted = [(outcome, reason, number) for outcome, all_ in told["today"].items() for reason, number in all_.items()]
    show_table(("outcome", "reason", "logins"), counted, "none")


def _rows(told: dict[str, Any]) -> list[tuple[str, str]]:
    pools = ", ".join(f"{name} {number}" for name, number in told["pools"].items())
    return [
        ("version", told["version"]),
        ("up since", moment(told["started"])),
        ("rules", told["configuration"]),
        ("logins", f"{told['waiting']} waiting"),
        ("sessions", f"{told['sessions']} open"),
        ("calls", f"{pools} under way"),
        *((name, _health(health)) for name, health in told["health"].items()),
    ]


def _health(health: dict[str, Any] | None) -> str:
    if not health:
        return "not called yet"
    took = f"last call {moment(health['ended'])}, {health['seconds'] * 1000:.0f} ms"
    return f"{took}: {health['outage']}" if health["outage"] else f"{took}, well"


@click.command("events")
@click.option("--user", help="Only events of this account.")
@click.option("--since", help="Only events since then, as journalctl takes it: 1h ago, today, 2026-11-24 03:00.")
@click.option("--follow", is_flag=True, help="Go on showing new ones.")
@click.option("--lines", default=50, show_default=True, help="As many as these at most, when --since is not given.")
@json_option
def events(user: str | None, since: str | None, *, follow: bool, lines: int, as_json: bool) -> None:
    """Show the audit events in the journal, the oldest first; with --json one object in a line."""
    command = _command(user, since, lines, follow=follow)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as journal:  # noqa: S603  no shell
        if journal.stdout is None:
            sys.exit(1)
        found = (_fields(line) for line in journal.stdout)
        shown = (event for event in found if event["event"])
        try:
            _show(shown, as_json=as_json, at_once=follow)
        except KeyboardInterrupt:
            journal.terminate()
    sys.exit(0 if journal.returncode == 0 or follow else 1)


def _command(user: str | None, since: str | None, lines: int, *, follow: bool) -> list[str]:
    """Make the command that prints the events; ``lines`` counts events, and not what the daemon says besides."""
    asked = [f"--since={since}", "--no-tail"] if since else [f"--lines={lines}"]
    matches = [OURS, EVENTS_ALONE, *([f"STARLING_USER={user}"] if user else [])]
    return [JOURNALCTL, "--output=json", "--all", "--quiet", *asked, *(["--follow"] if follow else []), *matches]


def _fields(line: str) -> dict[str, str]:
    entry = json.loads(line)
    found = {name: str(entry.get(field) or "") for name, field in FIELDS.items()}
    found["time"] = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(int(found["time"] or 0) / 1_000_000))
    return found


def _show(found: Any, *, as_json: bool, at_once: bool) -> None:  # noqa: ANN401  an iterator of events
    if as_json:
        for event in found:
            click.echo(json.dumps(event))
    elif at_once:
        for event in found:
            click.echo(printable("  ".join(event[name] or "-" for name in COLUMNS)))
    else:
        show_table(COLUMNS, ([event[name] for name in COLUMNS] for event in found), "no events")
