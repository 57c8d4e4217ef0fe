"""starlingctl doctor: gathers what there is to see, has it checked, and shows the findings, the worst first."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from starlingd import config
from starlingd.cli.daemon import NoAnswer, json_option, printable, show_json, try_to_ask
from starlingd.cli.doctor import clock, daemon, facts, files, matches, outside, pam, service, sshd
from starlingd.cli.doctor.finding import Finding, Severity, error, note, warning
from starlingd.cli.doctor.sshd import Times
from starlingd.cli.keeping import KeptSecrets
from starlingd.cli.pam.stack import Mode
from starlingd.core.rules import Provider, Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlingd.config import Settings

DEADLINES = {"sshd": 100, "login": 50}
"""Seconds that the module takes at most where its line says no deadline=."""
WORST_FIRST = list(Severity)
CREDENTIALS = (Path("/etc/pam-starling/credentials"), Path("/etc/pam-starling/credentials.encrypted"))
STATE = Path("/var/lib/starlingd")


@click.command("doctor")
@click.option(
    "--user", "users", multiple=True, metavar="NAME[@ADDRESS]", help="Try sshd's configuration for this login."
)
@json_option
def doctor(users: tuple[str, ...], *, as_json: bool) -> None:
    """Look for what is wrong in sshd, pam.d, files, daemon and service; tell why, and what to type. Needs root."""
    found = sorted(dict.fromkeys(_findings(users)), key=lambda finding: WORST_FIRST.index(finding.severity))
    if as_json:
        show_json([_fields(finding) for finding in found])
    else:
        _show(found)
    sys.exit(1 if any(finding.severity is not Severity.NOTE for finding in found) else 0)


def _fields(finding: Finding) -> dict[str, str]:
    return {
        "id": finding.id,
        "severity": finding.severity.value,
        "reason": finding.reason,
        "advice": finding.advice,
    }


def _show(found: list[Finding]) -> None:
    for finding in found:
        click.echo(printable(f"{finding.severity:8}{finding.reason}  [{finding.id}]"))
        if finding.advice:
            click.echo(printable(f"        -> {finding.advice}"))
    counts = [(severity, sum(finding.severity is severity for finding in found)) for severity in Severity]
    said = [f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in counts if count]
    click.echo(", ".join(said) or "nothing to say: all is well")


def _findings(users: tuple[str, ...]) -> Iterator[Finding]:
    if os.geteuid() != 0:
        yield warning("doctor.root", "not root: much cannot be looked at", "sudo starlingctl doctor")
    settings, problems = _settings()
    texts = facts.pam_files()
    rules = settings.rules if settings else Rules()
    yield from daemon.check_configuration(problems, settings.warnings if settings else ())
    yield from daemon.check_rules(rules, pam.mode_of(texts, "sshd"))
    yield from pam.check(texts, facts.setuid_programs())
    yield from _sshd(texts, rules, users)
    yield from _login(texts)
    yield from _files()
    yield from _daemon()
    yield from _outside(settings)


def _settings() -> tuple[Settings | None, tuple[config.Problem, ...]]:
    try:
        return config.read(config.FILE, KeptSecrets()), ()
    except config.ConfigError as wrong:
        return None, tuple(wrong.problems)


def _sshd(texts: dict[str, str], rules: Rules, users: tuple[str, ...]) -> Iterator[Finding]:
    mode = pam.mode_of(texts, "sshd")
    if mode is None:
        return
    push = rules.account_push_timeout if mode is Mode.KEY_PUSH else rules.push_timeout
    times = Times(push, pam.deadline_of(texts, "sshd", DEADLINES["sshd"]), rules.permit_root)
    general, blocks = facts.connection(), matches.read()
    yield from sshd.check_blocks(blocks.untried)
    said: set[Finding] = set()
    for tried in (general, *map(_connection, users), *blocks.tried):
        effective = facts.effective(tried)
        if isinstance(effective, str):
            yield sshd.unseen(effective)
            return
        new = [finding for finding in sshd.check(effective, mode, times) if finding not in said]
        said.update(new)
        yield from new if tried == general else (_for(tried, finding) for finding in new)


def _connection(user: str) -> facts.Connection:
    name, _, address = user.partition("@")
    return facts.connection(name, address or "127.0.0.1")


def _for(tried: facts.Connection, finding: Finding) -> Finding:
    return Finding(finding.id, finding.severity, f"for {tried}: {finding.reason}", finding.advice)


def _login(texts: dict[str, str]) -> Iterator[Finding]:
    if pam.mode_of(texts, "login") is None:
        return
    deadline, ends = pam.deadline_of(texts, "login", DEADLINES["login"]), facts.login_timeout()
    if ends and deadline >= ends:
        yield warning(
            "login.timeout",
            f"login ends itself after {ends} s (LOGIN_TIMEOUT), our line takes up to {deadline} s",
            f"write into /etc/login.defs: LOGIN_TIMEOUT {deadline + sshd.FIRST_FACTOR}",
        )


def _files() -> Iterator[Finding]:
    yield from files.check_code(facts.code())
    yield from files.check_version(facts.foreign_code())
    yield from files.check_module(facts.modules())
    yield from files.check_sockets(map(facts.look, files.SOCKETS))
    for folder in CREDENTIALS:
        kept = [(facts.look(path), files.PRIVATE_FILE) for path in sorted(folder.glob("*"))]
        yield from files.check_private("files.credentials", [(facts.look(folder), files.PRIVATE_FOLDER), *kept])
    state = [(facts.look(path), files.STATE_FILE) for path in sorted(STATE.glob("state.db*"))]
    yield from files.check_private("files.state", [(facts.look(STATE), files.STATE_FOLDER), *state])
    left = facts.space(str(STATE))
    if left is None:
        yield error("state.missing", f"{STATE} is missing", "systemctl restart starlingd.service")
    else:
        yield from files.check_space(str(STATE), *left)


def _daemon() -> Iterator[Finding]:
    yield from daemon.check_units(facts.units((*daemon.SOCKETS, daemon.SERVICE)))
    try:
        yield from daemon.check_answer(try_to_ask("status"), "")
    except NoAnswer as none:
        yield from daemon.check_answer(None, str(none))


def _outside(settings: Settings | None) -> Iterator[Finding]:
    if settings is None:
        yield note("service.unasked", "the service was not asked: the configuration cannot be used")
        return
    out = outside.ask(settings)
    yield from service.check_names(out.names)
    yield from service.check_token(out.token, out.token_seconds)
    yield from service.check_directory(out.directory)
    is_service = settings.rules.provider is Provider.STARLING
    yield from clock.check(out.offset) if is_service else clock.check_own(facts.clock_is_synchronised())
