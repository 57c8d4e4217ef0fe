"""starlingctl totp, recovery and code: authenticator apps, recovery codes, helpdesk codes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from starlingd.adapters.qr import draw
from starlingd.cli import imports
from starlingd.cli.daemon import NoAnswer, ask, json_option, moment, printable, show_json, show_table, try_to_ask
from starlingd.cli.keeping import Keeper, KeptSecrets, NotKept
from starlingd.cli.vaultkey import make_key, rotate_key
from starlingd.config.values import seconds as time_of

GROUPED = 4
SECONDS_OF_A_DAY = 86400


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
    code = click.prompt("Code that the app shows", type=str).replace(" ", "")
    done = ask("totp confirm", user=offer["user"], secret=offer["secret"], code=code, replace=replace)
    click.echo(printable(f"{done['user']} logs in with this app from now on"))


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
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--user", help="Whose the apps are, where the file does not say so.")
@click.option("--replace", is_flag=True, help="In place of apps that users have.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be imported.")
@json_option
def import_(files: tuple[Path, ...], user: str | None, *, replace: bool, dry_run: bool, as_json: bool) -> None:
    """Take over apps from FILES of google-authenticator or pam_oath, or with otpauth URIs: nobody enrols again."""
    report = []
    for path in files:
        for found in imports.read(path, user):
            outcome = found.flaw or ("would be imported" if dry_run else _add(found, replace=replace))
            report.append({"file": str(path), "line": found.line, "user": found.user, "outcome": outcome})
    if as_json:
        show_json(report)
    else:
        rows = ((each["file"], each["line"], each["user"], each["outcome"]) for each in report)
        show_table(("file", "line", "user", "outcome"), rows, "nothing was found")
    good = {"imported", "would be imported"}
    sys.exit(0 if report and all(each["outcome"] in good for each in report) else 1)


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
def make_key_(*, plain: bool) -> None:
    """Make the key that seals the secrets, and keep it as the service's credential. Needs root."""
    _finish(lambda: make_key(Keeper(), plain=plain))


@totp.command("rotate-key")
@click.option("--plain", is_flag=True, help="Keep it in a file that root can read, not encrypted.")
def rotate_key_(*, plain: bool) -> None:
    """Seal all secrets with a new key, and forget the old one. Restarts the daemon twice. Needs root."""
    _finish(lambda: rotate_key(Keeper(), KeptSecrets(Keeper()), plain=plain))


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


def grouped(text: str, size: int = GROUPED) -> str:
    """Write a secret in groups, to be read and typed."""
    return " ".join(text[at : at + size] for at in range(0, len(text), size))
