"""starlingctl totp, recovery and code: authenticator apps, recovery codes, helpdesk codes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from starlingd.adapters.qr import draw
from starlingd.cli import imports
from starlingd.cli.daemon import NoAnswer, ask, json_option, moment, printable, show_json, show_table, try_to_ask
from starlingd.cli.keeping import Keeper, NotKept
from starlingd.cli.vaultkey import make_key, rotate_key
from starlingd.config.values import seconds as time_of

GROUPED = 4
SECONDS_OF_A_DAY = 86400
TRIES = 3
"""How often a code may be typed until an app is enrolled."""
GOOD = frozenset({"imported", "would be imported"})


@click.group("totp")
def totp() -> None:
    """Look after authenticator apps that this host checks itself."""


@totp.command("enrol")
@click.argument("user")
@click.option("--replace", is_flag=True, help="In place of the app that the user has.")
def enrol(user: str, *, replace: bool) -> None:
    """Show USER a new secret, and keep it once a code of the app is typed."""
    offer = ask("totp begin", user=user, replace=replace)
    click.echo(draw(offer["uri"]))
    click.echo(f"{printable(offer['uri'])}\n\nSecret: {grouped(offer['secret'])}\n")
    done = _confirm(offer, replace=replace)
    click.echo(printable(f"{done['user']} logs in with this app from now on"))


def _confirm(offer: dict[str, str], *, replace: bool) -> dict[str, str]:
    """Have a code of the app typed, anew where it is refused: the secret that was shown stays the same."""
    asked = {"user": offer["user"], "secret": offer["secret"], "replace": replace}
    for _ in range(TRIES - 1):
        try:
            done: dict[str, str] = try_to_ask("totp confirm", code=_typed_code(), **asked)
        except NoAnswer as why:
            click.echo(printable(f"starlingctl: {why}"), err=True)
        else:
            return done
    last: dict[str, str] = ask("totp confirm", code=_typed_code(), **asked)
    return last


def _typed_code() -> str:
    typed: str = click.prompt("Code that the app shows", type=str)
    return typed.replace(" ", "")


@totp.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    """Show who has an app, since when, when it was used last, and how far its clock is off."""
    found = ask("totp list")
    if as_json:
        show_json(found)
        return
    rows = (
        (
            token["user"],
            f"{token['algorithm']}, {token['digits']} digits, {token['step']} s",
            moment(token["made"]),
            moment(token["used"]) if token["used"] else "never",
            f"{token['drift']:+d} s" if token["drift"] else "",
        )
        for token in found
    )
    show_table(("user", "kind", "enrolled", "used", "clock"), rows, "nobody has an app")


@totp.command("remove")
@click.argument("user")
def remove(user: str) -> None:
    """Forget the app of USER, who may not enrol another one by logging in."""
    click.echo(printable(f"the app of {ask('totp remove', user=user)['user']} is forgotten"))


@totp.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--user", help="Whose the apps are; those of others in the file are left.")
@click.option("--replace", is_flag=True, help="In place of apps that users have.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be imported.")
@json_option
def import_(files: tuple[Path, ...], user: str | None, *, replace: bool, dry_run: bool, as_json: bool) -> None:
    """Take over apps from FILES of google-authenticator or pam_oath, or with otpauth URIs: nobody enrols again."""
    report = []
    for path in files:
        for found in imports.read(path, user):
            outcome = found.flaw or ("would be imported" if dry_run else _add(found, replace=replace))
            told = {"file": str(path), "line": found.line, "user": found.user, "outcome": outcome, "hint": found.hint}
            report.append(told)
    if as_json:
        show_json(report)
    else:
        rows = ((each["file"], each["line"], each["user"], _in_words(each)) for each in report)
        show_table(("file", "line", "user", "outcome"), rows, "nothing was found")
    sys.exit(0 if report and all(_in_words(each) in GOOD for each in report) else 1)


def _in_words(told: dict[str, Any]) -> str:
    return f"{told['outcome']}, but {told['hint']}" if told["hint"] and told["outcome"] in GOOD else told["outcome"]


def _add(found: imports.Found, *, replace: bool) -> str:
    try:
        try_to_ask(
            "totp add",
            user=found.user,
            secret=found.secret,
            algorithm=found.algorithm,
            digits=found.digits,
            step=found.step,
            replace=replace,
        )
    except NoAnswer as why:
        return str(why)
    return "imported"


@totp.command("make-key")
@click.option("--plain", is_flag=True, help="Keep it in a file that root can read, not encrypted.")
@click.option("--anew", is_flag=True, help="Though there are apps, whose key is lost: they must be enrolled anew.")
def make_key_(*, plain: bool, anew: bool) -> None:
    """Make the key that seals the secrets, and keep it as the service's credential. Needs root."""
    _finish(lambda: make_key(Keeper(), plain=plain, anew=anew))


@totp.command("rotate-key")
@click.option("--plain", is_flag=True, help="Keep it in a file that root can read, not encrypted.")
def rotate_key_(*, plain: bool) -> None:
    """Seal all secrets with a new key, and forget the old one. Restarts the daemon twice. Needs root."""
    _finish(lambda: rotate_key(Keeper(), plain=plain))


def _finish(work: Any) -> None:  # noqa: ANN401  a callable that tells sentences
    try:
        for sentence in work():
            click.echo(printable(sentence))
    except (NotKept, OSError) as why:
        click.echo(printable(f"starlingctl: {why}"), err=True)
        sys.exit(1)


@click.group("recovery")
def recovery() -> None:
    """Make recovery codes: ten for a user, each good for one login."""


@recovery.command("make")
@click.argument("user")
@json_option
def make(user: str, *, as_json: bool) -> None:
    """Make ten codes for USER, and show them this once; those from before are void."""
    made = ask("recovery make", user=user)
    if as_json:
        show_json(made)
        return
    for code in made["codes"]:
        click.echo(grouped(code, 5))
    click.echo(printable(f"\nEach is good for one login of {made['user']}. They are not shown again."))


@recovery.command("show")
@click.argument("user")
@json_option
def show(user: str, *, as_json: bool) -> None:
    """Tell how many codes USER has left."""
    told = ask("recovery show", user=user)
    if as_json:
        show_json(told)
    else:
        click.echo(printable(f"{told['user']} has {told['left']} recovery codes left"))


@recovery.command("remove")
@click.argument("user")
def remove_codes(user: str) -> None:
    """Forget the recovery codes of USER, whose account may be gone."""
    click.echo(printable(f"the recovery codes of {ask('recovery remove', user=user)['user']} are forgotten"))


@click.group("code")
def code() -> None:
    """Issue codes to people who stand at the helpdesk."""


@code.command("issue")
@click.argument("user")
@click.option("--valid", default="15m", show_default=True, help="For how long: seconds, or 90s, 15m, 2h.")
@json_option
def issue(user: str, valid: str, *, as_json: bool) -> None:
    """Issue a code that lets USER in once, in place of an earlier one. Who issued it is in the audit log."""
    try:
        seconds = time_of(1, SECONDS_OF_A_DAY)(valid)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--valid") from None
    issued = ask("code issue", user=user, valid=seconds)
    if as_json:
        show_json(issued)
    else:
        click.echo(grouped(issued["code"]))
        click.echo(printable(f"good for one login of {issued['user']} within {seconds} seconds"), err=True)


@code.command("revoke")
@click.argument("user")
def revoke(user: str) -> None:
    """Take back the code that was issued to USER and is not used yet."""
    click.echo(printable(f"the helpdesk code of {ask('code revoke', user=user)['user']} is void"))


def grouped(text: str, size: int = GROUPED) -> str:
    """Write a secret in groups, to be read and typed."""
    return " ".join(text[at : at + size] for at in range(0, len(text), size))
