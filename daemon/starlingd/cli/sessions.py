"""starlingctl sessions: the sessions that hold a slot, and a way to end one.

The daemon cannot send signals; starlingctl does, as root, through a pidfd whose start time it has compared.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import Any

import click

from starlingd.cli.daemon import ask, json_option, moment, show_json, show_table
from starlingd.core.model import Process
from starlingd.server.processes import is_alive

PATIENCE = 5.0
"""Seconds a session gets to end by itself."""
FIELDS = ("user", "client_ip", "service", "tty", "pid", "since", "login")


@click.group("sessions")
def sessions() -> None:
    """Look at the open sessions, or end one."""


@sessions.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    """List the open sessions, the oldest first."""
    found = ask("sessions list")
    if as_json:
        show_json([{name: session[name] for name in FIELDS} for session in found])
        return
    rows = (
        (
            session["user"],
            session["client_ip"],
            session["service"],
            session["tty"],
            session["pid"],
            moment(session["since"]),
            session["login"],
        )
        for session in found
    )
    show_table(("user", "from", "service", "tty", "pid", "since", "login"), rows, "no sessions")


@sessions.command("end")
@click.argument("which", metavar="LOGIN|PID")
def end(which: str) -> None:
    """End the session with this login id or pid. Needs root."""
    found = [session for session in ask("sessions list") if which in (session["login"], str(session["pid"]))]
    if len(found) != 1:
        sys.exit(_fail(f"there is no session {which!a}; see starlingctl sessions list"))
    try:
        ended = _end(found[0])
    except PermissionError:
        sys.exit(_fail("ending a session needs root"))
    if not ended:
        sys.exit(_fail("the session does not end"))
    click.echo("ended")


def _end(session: dict[str, Any]) -> bool:
    """Ask the session's process to end, then make it; tell whether it has."""
    process = Process(session["pid"], session["start"])
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        # The pidfd came first: if the start time is right now, it names that process and no other.
        if not is_alive(process):
            return True
        return any(_signal(descriptor, number) for number in (signal.SIGTERM, signal.SIGKILL))
    except ProcessLookupError:
        return True  # it has ended by itself since
    finally:
        os.close(descriptor)


def _signal(descriptor: int, number: signal.Signals) -> bool:
    signal.pidfd_send_signal(descriptor, number)
    return bool(select.select([descriptor], [], [], PATIENCE)[0])


def _fail(text: str) -> int:
    click.echo(f"starlingctl: {text}", err=True)
    return 1
