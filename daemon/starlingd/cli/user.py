"""starlingctl user: all that is known of somebody, on one screen."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import click

from starlingd.cli.daemon import OURS, ask, json_option, moment, printable, show_json

EVENTS = 5
PATIENCE = 10
"""Seconds to wait for the journal."""
FIELDS = {
    "time": "__REALTIME_TIMESTAMP",
    "event": "STARLING_EVENT",
    "outcome": "STARLING_OUTCOME",
    "reason": "STARLING_REASON",
}


@click.group("user")
def user() -> None:
    """Look at a user."""


@user.command("show")
@click.argument("name")
@json_option
def show(name: str, *, as_json: bool) -> None:
    """Show the account NAME: directory entry, identity, enrolment, grace entries, sessions. Secrets are masked."""
    found = ask("user show", user=name)
    found["events"] = _last_events(found["account"]["name"])
    if as_json:
        show_json(found)
        return
    for line in _lines(found):
        click.echo(printable(line))


def _last_events(user: str) -> list[dict[str, str]]:
    """Read the user's last audit events from the journal; none where there is no journal, or no right to read it."""
    command = ["/usr/bin/journalctl", "--output=json", f"--lines={EVENTS}", "--reverse", OURS, f"STARLING_USER={user}"]
    try:
        # The name is the account's, as NSS has it, behind a field's name of ours: it cannot be an option.
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)  # noqa: S603
        entries = [json.loads(line) for line in done.stdout.splitlines()]
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []
    return [{name: str(entry.get(field, "")) for name, field in FIELDS.items()} for entry in entries]


def _lines(found: dict[str, Any]) -> list[str]:
    account, plan = found["account"], found.get("plan") or {}
    lines = [f"account     {account['name']}, uid {account['uid']}"]
    why = f" ({plan['reason']})" if plan.get("reason") else ""
    lines.append(f"a login     {plan.get('outcome', 'unknown')}{why} {plan.get('rule') or ''}".rstrip())
    if plan.get("identity"):
        lines.append(f"identity    {plan['identity']}")
    events = [
        f"event       {moment(int(event['time'] or 0) / 1e6)} {event['event']} {event['outcome']} {event['reason']}"
        for event in found["events"]
    ]
    known = [*_directory(found.get("directory")), *_enrolment(found["enrolment"]), *_uses(found)]
    return [*lines, *known, *(events or ["events      none"])]


def _directory(entry: dict[str, Any] | None) -> list[str]:
    if not entry:
        return ["directory   no entry"]
    if "error" in entry:
        return [f"directory   {entry['error']}"]
    attributes = [f"            {name}: {', '.join(values)}" for name, values in entry["attributes"].items()]
    groups = [f"            in the group {group}" for group in entry["groups"]]
    return [f"directory   {entry['dn']} ({entry['standing']})", *attributes, *groups]


def _enrolment(kept: dict[str, Any] | None) -> list[str]:
    if not kept:
        return ["enrolment   none of ours"]
    blocked = ", blocked" if kept["blocked"] else ""
    contact = f"{kept['phone']}, {kept['email']}"
    return [f"enrolment   id {kept['identity']} since {moment(kept['made'])} for {contact}{blocked}"]


def _uses(found: dict[str, Any]) -> list[str]:
    grace = [
        f"grace       from {entry['client_ip'] or 'anywhere'}, asked {moment(entry['last_authenticated'])}"
        f", reused {entry['reuse_count']}"
        for entry in found["grace"]
    ]
    sessions = [
        f"session     from {held['client_ip'] or held['tty']} since {moment(held['since'])}, pid {held['pid']}"
        for held in found["sessions"]
    ]
    return [*(grace or ["grace       none"]), *(sessions or ["sessions    none"])]
