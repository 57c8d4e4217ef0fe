"""starlingctl login-test: who would get in, seen at the real PAM stack, step by step.

It runs the stack in a child (``application``), which the daemon is told about before it begins: so nothing that comes
of it counts as a login. Needs root. It opens no session.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from starlingd.cli.daemon import ask, json_option, printable, show_json
from starlingd.cli.doctor import facts
from starlingd.cli.doctor.pam import mode_of
from starlingd.cli.pam.confirming import start_time
from starlingd.cli.pam.places import SERVICES, run
from starlingd.cli.pam.stack import Mode

APPLICATION = Path(__file__).with_name("application.py")
JOURNALCTL = "/usr/bin/journalctl"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
TTY = {"sshd": "ssh", "login": "/dev/tty1"}
"""What the real application says the terminal is."""


@dataclass(frozen=True)
class Result:
    """What became of it: each step's PAM result, what the daemon decided, and what the module said to the log."""

    steps: list[dict[str, Any]]
    decisions: list[dict[str, str]]
    module: list[str]
    died: str = ""

    @property
    def passed(self) -> bool:
        """Whether every step let in."""
        return not self.died and bool(self.steps) and all(step["code"] == 0 for step in self.steps)


@click.command("login-test")
@click.argument("user")
@click.option("--service", type=click.Choice(SERVICES), default="sshd", show_default=True, help="Whose stack to run.")
@click.option("--from", "address", default="", metavar="ADDRESS", help="Where the login is said to come from.")
@json_option
def login_test(user: str, service: str, address: str, *, as_json: bool) -> None:
    """Run the real PAM stack for USER on this terminal, and tell what each step came to. Opens no session."""
    if os.getresuid() != (0, 0, 0):
        sys.exit("starlingctl: login-test needs root: it runs the PAM stack as sshd and login do")
    mode = mode_of(facts.pam_files(), service)
    steps = ["account"] if mode is Mode.KEY_PUSH and service == "sshd" else ["authenticate", "account"]
    request = {"service": service, "user": user, "rhost": _address(address), "tty": TTY[service], "steps": steps}
    result = _run(request)
    if as_json:
        show_json({"passed": result.passed, "mode": mode.value if mode else None, **vars(result)})
    else:
        _show(result, service, mode)
    sys.exit(0 if result.passed else 1)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError:
        raise click.BadParameter(f"{text!a} is not an address", param_hint="--from") from None


def _run(request: dict[str, Any]) -> Result:
    """Run the application with our terminal, and gather what it, the daemon and the log say."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = ["/usr/bin/python3", "-I", str(APPLICATION), str(theirs.fileno()), json.dumps(request)]
        environment = ENVIRONMENT | {"TERM": os.environ.get("TERM", "dumb")}
        with subprocess.Popen(words, pass_fds=[theirs.fileno()], env=environment) as child:  # noqa: S603
            theirs.close()
            steps, process = _follow(child.pid, ours)
    decisions = ask("test decisions", **process)["decisions"]
    died = f"it ended by signal {-child.returncode}" if child.returncode < 0 else ""
    return Result(steps, decisions, _said_by_module(child.pid), died)


def _follow(pid: int, ours: socket.socket) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Have the daemon take all that comes from the child for a test, let it begin, and read what each step came to.

    Without a daemon this ends the program; the child, of which nobody wants anything then, ends as well.
    """
    with ours:
        process = {"pid": pid, "start": start_time(pid)}
        ask("test begin", **process)
        ours.sendall(b"go\n")
        try:
            with ours.makefile("r", encoding="utf-8") as lines:
                return [json.loads(line) for line in lines], process
        except KeyboardInterrupt:  # the terminal sends it to the child as well
            return [], process


def _said_by_module(pid: int) -> list[str]:
    """Read what the module wrote to the log in that process; a pid that was used before would be of long ago."""
    run(JOURNALCTL, "--sync")
    words = ("-o", "json", "--no-pager", "--since=-15min", "SYSLOG_IDENTIFIER=pam_starling", f"_PID={pid}")
    found = run(JOURNALCTL, "--quiet", *words)
    return [str(json.loads(line).get("MESSAGE", "")) for line in found.output.splitlines() if line.startswith("{")]


def _show(result: Result, service: str, mode: Mode | None) -> None:
    if mode is None:
        click.echo(f"pam-starling is not switched on for {service}: this is its stack without a second factor")
    click.echo()
    for step in result.steps:
        click.echo(printable(f"{step['step']:<14}{'passed' if step['code'] == 0 else 'refused: ' + step['text']}"))
        for decision in (found for found in result.decisions if found["step"] == step["step"]):
            click.echo(printable(f"{'':14}{_told(decision)}"))
    for line in result.module:
        click.echo(printable(f"module        {line}"))
    if result.died or not result.steps:
        click.echo(f"the stack did not end: {result.died or 'it was interrupted'}")
    end = "would get in" if result.passed else "would not get in"
    click.echo(f"{end}; this was a test: no session, nothing is kept")


def _told(decision: dict[str, str]) -> str:
    more = [f"{key}={decision[key]}" for key in ("rule", "failures", "would", "seen_as", "needs") if decision.get(key)]
    return f"starlingd: {decision['outcome']}, {decision['reason']}{' (' + ', '.join(more) + ')' if more else ''}"
