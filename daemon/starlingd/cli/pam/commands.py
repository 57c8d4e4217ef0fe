"""starlingctl pam: the commands. What they do is in the other files of this package."""

from __future__ import annotations

import fcntl
import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from starlingd.cli.daemon import NoAnswer, json_option, moment, printable, show_json, show_table, try_to_ask
from starlingd.cli.pam import access, change, checks, confirming, sshd
from starlingd.cli.pam.places import SERVICES, Places, run
from starlingd.cli.pam.stack import Mode, Unfit
from starlingd.cli.pam.undo import Failed, Undo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlingd.cli.pam.undo import Edit

REFUSED = 1
SHORTEST, LONGEST = 5, 24 * 3600
"""Seconds that may be left to confirm."""
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_SERVICE = click.Choice(SERVICES)


class Duration(click.ParamType):
    """A time such as 90s, 10m or 1h, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Make seconds of what was typed."""
        found = re.fullmatch(r"(\d{1,6})([smh]?)", str(value), re.ASCII)
        seconds = int(found[1]) * _UNITS[found[2]] if found else 0
        if not SHORTEST <= seconds <= LONGEST:
            self.fail(f"{value!r} is not a time from {SHORTEST}s to 24h, such as 10m", param, ctx)
        return seconds


@click.group("pam")
def pam() -> None:
    """Put the second factor into sshd or login, or take it out; what is not confirmed is put back by itself."""


@pam.command("enable")
@click.argument("service", type=_SERVICE)
@click.option("--mode", required=True, type=click.Choice([mode.value for mode in Mode]), help="What comes first.")
@click.option("--confirm-within", type=Duration(), default="10m", show_default=True, help="Else it is put back.")
@click.option("--emergency-group", metavar="GROUP", help="Its members pass without a second factor, logged.")
@click.option("--yes", is_flag=True, help="Do not ask before anything is changed.")
def enable(service: str, mode: str, confirm_within: int, emergency_group: str | None, *, yes: bool) -> None:
    """Switch the second factor on for SERVICE: show the change, check it, make it, and wait to be confirmed."""
    with _alone() as places:
        undo = Undo(service, places, run)
        if undo.state() is not None:
            raise Unfit(f"{service} is switched on already; see starlingctl pam status")
        checks.fits(service, Mode(mode))
        edits = change.plan(service, Mode(mode), emergency_group, places)
        _show(edits)
        _check(service, Mode(mode), emergency_group, places)
        if not yes:
            click.confirm("Make this change?", abort=True)
        state = change.new_state(service, Mode(mode), emergency_group, confirm_within)
        change.apply(undo, state, edits)
    click.echo(f"{service} asks for a second factor now, and will be as it was before at {moment(state.restore_at)},")
    click.echo("unless you confirm: keep this session open, log in anew from another terminal, and type there as root:")
    click.echo("    starlingctl pam confirm")


def _check(service: str, mode: Mode, group: str | None, places: Places) -> None:
    checks.group_exists(group)
    found = _sshd_settings(service, mode, places)
    way: str | None
    if service == "login":
        way = checks.way_in_besides_login(group, confirming.ancestors(), found, places)
    else:
        way = checks.way_in_besides_sshd(group, mode, found, places)
    if way:
        click.echo(printable(f"If the daemon fails, this way in is left: {way}."))
    checks.daemon_answers()
    checks.daemon_asks()
    checks.module_answers(places, run)
    losses = access.losses(access.Scene(service, mode, group, found if service == "sshd" else {}))
    if losses:
        click.echo("Would lose access:")
        show_table(("who", "why"), ((loss.who, loss.why) for loss in losses), "")
    else:
        click.echo("No account would lose access.")
    if service == "sshd" and mode is not Mode.KEY_PUSH:
        click.echo("So would every client that cannot answer prompts: BatchMode=yes, scp -B, ansible, rsync from cron.")
    unlisted = ", ".join(access.unlisted())
    if unlisted:
        click.echo(
            printable(f"This host may not list accounts from {unlisted}: type starlingctl explain USER for each.")
        )
    click.echo()


def _sshd_settings(service: str, mode: Mode, places: Places) -> dict[str, str]:
    if service == "login":
        return sshd.effective(places, run, None) if places.sshd_config.exists() else {}
    sshd.effective(places, run, None)  # a configuration that is broken already could not be put back
    try:
        found = sshd.effective(places, run, sshd.snippet(mode))
    except Unfit as unfit:
        raise Unfit(f"{places.sshd_config}: {unfit}") from None
    wrong = sshd.overruled(mode, found)
    if wrong:
        raise Unfit(f"something that comes before {places.snippet} overrules it: {'; '.join(wrong)}")
    return found


@pam.command("confirm")
@click.argument("service", type=_SERVICE, required=False)
def confirm(service: str | None) -> None:
    """Keep what was switched on; from a session that came in through it, with a push or a code.

    Without SERVICE whatever this session proves is kept.
    """
    with _alone() as places:
        waiting = [undo for undo in _undos(places) if undo.pending and service in {None, undo.service}]
        if not waiting:
            raise Unfit("there is nothing to confirm; see starlingctl pam status")
        refusals = [refusal for refusal in map(_confirm_or_say, waiting) if refusal]
        if len(refusals) == len(waiting):
            raise Unfit("; ".join(refusals))
        for refusal in refusals:
            click.echo(printable(refusal), err=True)


def _confirm_or_say(undo: Undo) -> str | None:
    """Confirm what this session proves, and say so; tell why not, where it does not."""
    try:
        _confirm(undo)
    except Unfit as unfit:
        return f"{undo.service} is {unfit}"
    click.echo(f"{undo.service} stays as it is now")
    return None


def _confirm(undo: Undo) -> None:
    since = undo.active()
    if since is None:
        raise Unfit(f"not confirmed: the change was not completed; see starlingctl pam disable {undo.service}")
    changed = undo.changed()
    if changed:
        paths = ", ".join(str(file.path) for file in changed)
        raise Unfit(f"not confirmed: somebody changed {paths} since; starlingctl pam disable {undo.service} shows how")
    chain = confirming.ancestors()
    why_not = confirming.objection(try_to_ask("sessions list"), chain, undo.service, confirming.Since(*since))
    if why_not:
        raise Unfit(f"not confirmed: {why_not}")
    undo.disarm()


@pam.command("disable")
@click.argument("service", type=_SERVICE)
@click.option("--keep-changes", is_flag=True, help="Take only our lines out of what somebody changed since.")
def disable(service: str, *, keep_changes: bool) -> None:
    """Switch the second factor off for SERVICE: every file as it was, to the byte."""
    with _alone() as places:
        undo = Undo(service, places, run)
        if undo.state() is None:
            raise Unfit(f"{service} was not switched on by starlingctl pam enable")
        since = change.changed_since(undo)
        if since and not keep_changes:
            _show_lines([line for file in since for line in change.difference(file.after, file.before, file.path)])
            raise Unfit(
                "somebody made these changes since; nothing is done. Undo them first, or take only our lines out with "
                "--keep-changes"
            )
        if since:
            change.take_ours_out(undo)
        kept = change.take_back(undo, keep_replaced=bool(since))
    click.echo(f"{service} is as it was before" + (", but for what others changed since:" if since else ""))
    for file in since:
        click.echo(printable(_what_became_of(file, kept.get(file.name))))


def _what_became_of(file: Edit, kept: Path | None) -> str:
    """Say of a file that somebody had changed what is left of that; only of a PAM service are our lines taken out."""
    if file.before is None:
        return f"{file.path} was taken away, and is as it was before"
    became = "keeps it, without our lines" if file.name == "pam" else "is taken away with it"
    return f"{file.path} {became}; as it was until now it is {f'kept as {kept}' if kept else 'not kept: no space'}"


@pam.command("status")
@json_option
def status(*, as_json: bool) -> None:
    """Tell where the second factor is switched on, and what waits to be confirmed."""
    try:
        found = [change.report(undo) for undo in _undos(Places())]
    except (Failed, OSError) as error:
        sys.exit(_fail(error))
    if as_json:
        show_json(found)
    else:
        rows = ((one["service"], one["state"], one["mode"] or "", _sentence(one)) for one in found)
        show_table(("service", "state", "mode", ""), rows, "")
    sys.exit(REFUSED if any(one["changed"] for one in found) else 0)


def _sentence(one: dict[str, Any]) -> str:
    parts = []
    unless = " unless confirmed" if one["state"] == "pending" else ""
    if one["restore_at"]:
        parts.append(f"put back at {moment(one['restore_at'])}" + unless)
    if one["state"] == "unfinished":
        parts.append(f"the change was not completed: starlingctl pam disable {one['service']} takes back what there is")
    if one["emergency_group"]:
        parts.append(f"the group {one['emergency_group']} passes without a second factor")
    if one["changed"]:
        parts.append(f"changed by somebody since: {', '.join(one['changed'])}")
    if one["put_back"]:
        parts.append(f"put back at {moment(one['put_back'])}, since nobody confirmed")
    if one["state"] == "by_hand":
        parts.append("lines of pam-starling that starlingctl did not write")
    return "; ".join(parts)


# --- what they share ----------------------------------------------------------------------------------------------


@contextmanager
def _alone() -> Iterator[Places]:
    """Offer the host to root, one command at a time; what is wrong ends the program with its sentence."""
    if os.geteuid() != 0:
        sys.exit(_fail("this needs root"))
    os.umask(0o022)
    try:
        descriptor = os.open(Places().lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Places()
        finally:
            os.close(descriptor)
    except BlockingIOError:
        sys.exit(_fail("another starlingctl pam is running"))
    except NoAnswer as none:
        sys.exit(_fail(none, none.status))
    except (Unfit, Failed, OSError) as error:
        sys.exit(_fail(error))


def _undos(places: Places) -> list[Undo]:
    return [Undo(service, places, run) for service in SERVICES]


def _show(edits: list[Edit]) -> None:
    for edit in edits:
        _show_lines(change.difference(edit.before, edit.after, edit.path))


def _show_lines(lines: list[str]) -> None:
    for line in lines:
        click.echo(printable(line.replace("\t", "    ")))
    click.echo()


def _fail(error: object, status: int = REFUSED) -> int:
    click.echo(f"starlingctl: {printable(str(error))}", err=True)
    return status
