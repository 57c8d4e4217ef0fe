"""starlingctl join: takes what joining the service yielded, sees that the service knows it, and keeps it.

The client id and the secret come from the terminal, a file or a pipe, never from an argument, which everybody on the
host could read. Nothing is kept that the service refuses.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn, TextIO

import click

from starlingd import config
from starlingd.cli.daemon import printable
from starlingd.cli.doctor import outside
from starlingd.cli.keeping import Keeper, KeptSecrets, keep
from starlingd.cli.pam.places import run
from starlingd.cli.pam.undo import replace
from starlingd.core.rules import Provider

if TYPE_CHECKING:
    from starlingd.core.model import Unavailable

NAME = "starling.credential"
SHIPPED, WANTED = "#credential = $", "credential = $"
"""The line of the file that the package brings, and what it is to become."""
LONGEST = 4096
SYSTEMCTL = "/usr/bin/systemctl"


class _Joined:
    """The secrets that the service will have: the one given now, and those that are kept already."""

    def __init__(self, credential: str) -> None:
        self._credential, self._others = credential, KeptSecrets()

    def find(self, section: str, option: str) -> str:
        """Tell a secret; raises SecretMissingError."""
        return self._credential if f"{section}.{option}" == NAME else self._others.find(section, option)


@click.command("join")
@click.option(
    "--file", "source", type=click.File("r", encoding="utf-8"), help="Read client_id:client_secret here; - is stdin."
)
@click.option("--plain", is_flag=True, help="Keep it in a file that root can read, not encrypted.")
@click.option("--without-check", is_flag=True, help="Keep it without asking the service, which cannot be reached yet.")
@click.option("--restart", is_flag=True, help="Restart the daemon at once, which takes the new credential into use.")
def join(source: TextIO | None, *, plain: bool, without_check: bool, restart: bool) -> None:
    """Take the client id and secret of this gateway, check them against the service, and keep them. Needs root."""
    if os.geteuid() != 0:
        _refuse("join needs root: it keeps a secret that nobody else may read")
    credential = _take(source)
    text = _configuration()
    settings = _settings(text, credential)
    if not without_check:
        _check(settings)
    try:
        for said in keep(Keeper(), NAME, credential, plain=plain):
            click.echo(printable(said))
    except OSError as error:
        _refuse(f"{Keeper().plain(NAME)} cannot be written: {error.strerror}")
    if text is not None:
        _switch_on(text)
    _restart(at_once=restart)


def _refuse(sentence: str) -> NoReturn:
    click.echo(printable(f"starlingctl: {sentence}"), err=True)
    sys.exit(1)


def _take(source: TextIO | None) -> str:
    """Take ``client_id:client_secret``, or each on a line of its own."""
    if source is None:
        client_id = click.prompt("Client id", type=str)
        return f"{client_id.strip()}:{click.prompt('Client secret', hide_input=True, type=str).strip()}"
    lines = source.read(LONGEST).split()
    if len(lines) not in {1, 2}:
        _refuse("expected client_id:client_secret, or the one and the other on a line of its own")
    return ":".join(lines)


def _configuration() -> str | None:
    """Tell the text that the configuration must become to use what is kept; None when it does so already."""
    try:
        text = config.FILE.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        _refuse(f"{config.FILE} cannot be read: {getattr(error, 'strerror', 'not UTF-8')}")
        raise
    lines = text.split("\n")
    if lines.count(SHIPPED) != 1 or any(line.partition("=")[0].strip() == "credential" for line in lines):
        return None
    lines[lines.index(SHIPPED)] = WANTED
    return "\n".join(lines)


def _settings(text: str | None, credential: str) -> config.Settings:
    """Make the settings that the service will have; ends the program where there are none, or they do without it."""
    secrets = _Joined(credential)
    try:
        settings = config.read(config.FILE, secrets) if text is None else config.load(text, secrets)
    except config.ConfigError as wrong:
        _refuse(f"nothing is kept: {config.FILE} has problems\n" + "\n".join(map(str, wrong.problems)))
        raise
    starling = settings.starling
    if starling is None or settings.rules.provider is not Provider.STARLING:
        _refuse(f"nothing is kept: {config.FILE} says provider = totp, which needs no service")
    if f"{starling.client_id}:{starling.client_secret.reveal()}" != credential:
        _refuse(f"nothing is kept: the section [starling] of {config.FILE} has a credential of its own; write {WANTED}")
    return settings


def _check(settings: config.Settings) -> None:
    url = settings.starling.token_url if settings.starling else ""
    outage: Unavailable | None = outside.token(settings)
    if outage is not None:
        _refuse(f"nothing is kept: {url} gives no token: {outage.detail}")
    click.echo(printable(f"{url} takes them"))


def _switch_on(text: str) -> None:
    replace(config.FILE, text.encode())
    click.echo(f"{config.FILE}: [starling] {WANTED}")


def _restart(*, at_once: bool) -> None:
    run(SYSTEMCTL, "daemon-reload")
    if not at_once:
        click.echo("The running daemon does not have it yet: systemctl restart starlingd.service")
        return
    done = run(SYSTEMCTL, "restart", "starlingd.service")
    if done.status:
        _refuse(f"starlingd does not start: {done.output}")
    click.echo("starlingd was restarted with it")
