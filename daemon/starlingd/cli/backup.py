"""starlingctl backup and restore: the state and the key that opens it, in one encrypted file.

Whoever has the file and its passphrase has every app's secret. A backup may be made while the daemon runs; a restore
stops it.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from starlingd import config
from starlingd.adapters.sqlite.backup import Saved, Unusable, copy_of, put_back, seal, unseal
from starlingd.cli.daemon import moment, printable
from starlingd.cli.keeping import Keeper, KeptSecrets, NotKept, keep
from starlingd.cli.pam.places import run

if TYPE_CHECKING:
    from typing import BinaryIO, TextIO

STATE = Path("/var/lib/starlingd/state.db")
KEY_NAME = "totp.key"
LONGEST = 1024**3
SHORTEST_PASSPHRASE = 8
SYSTEMCTL, UNIT = "/usr/bin/systemctl", "starlingd.service"


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--passphrase-file", type=click.File("r"), help="Read the passphrase here; - is stdin.")
def backup(file: Path, passphrase_file: TextIO | None) -> None:
    """Save state and key, encrypted with a passphrase, in FILE, which must not exist. Needs root; runs meanwhile."""
    _needs_root()
    passphrase = _passphrase(passphrase_file, confirm=True)
    try:
        saved = Saved(copy_of(STATE), _kept_key(), time.time())
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(seal(saved, passphrase))
            stream.flush()
            os.fsync(stream.fileno())
    except (Unusable, OSError) as why:
        _refuse(str(why))
    if not saved.key:
        click.echo("there is no key yet: the backup holds the state alone")
    click.echo(printable(f"saved in {file}; without its passphrase nobody can read it, you neither"))


@click.command("restore")
@click.argument("file", type=click.File("rb"))
@click.option("--passphrase-file", type=click.File("r"), help="Read the passphrase here; - is stdin.")
@click.option("--plain", is_flag=True, help="Keep the key in a file that root can read, not encrypted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(file: BinaryIO, passphrase_file: TextIO | None, *, plain: bool, yes: bool) -> None:
    """Put back state and key from FILE, in place of what is there. Needs root; the daemon is stopped meanwhile."""
    _needs_root()
    try:
        saved = unseal(file.read(LONGEST), _passphrase(passphrase_file, confirm=False))
    except Unusable as why:
        _refuse(str(why))
    click.echo(printable(f"a backup of {moment(saved.made)}, made by version {saved.version}"))
    click.echo("what happened since then is lost: codes used since then are good again, and so on")
    if not yes:
        click.confirm("Put it in the place of what is there?", abort=True)
    stopped = run(SYSTEMCTL, "stop", UNIT)
    if stopped.status:
        _refuse(f"the daemon does not stop: {stopped.output}")
    try:
        put_back(saved, STATE)
        if saved.key:
            for said in keep(Keeper(), KEY_NAME, saved.key, plain=plain):
                click.echo(printable(said))
    except (Unusable, NotKept, OSError) as why:
        _refuse(f"{why}; the daemon is stopped, and logins start it again")
    run(SYSTEMCTL, "daemon-reload")
    started = run(SYSTEMCTL, "start", UNIT)
    if started.status:
        _refuse(f"it is put back, but the daemon does not start: {started.output}")
    click.echo(f"put back; the state from before is {STATE}.before-restore")


def _kept_key() -> str:
    """Read the key, where there is one. Raises Unusable when there is one that cannot be read."""
    keeper = Keeper()
    if not keeper.plain(KEY_NAME).exists() and not keeper.encrypted(KEY_NAME).exists():
        return ""
    try:
        return KeptSecrets(keeper).find("totp", "key")
    except config.SecretMissingError as error:
        raise Unusable(f"the key cannot be read, and a backup without it would open no app: {error}") from None


def _passphrase(source: TextIO | None, *, confirm: bool) -> str:
    if source is None:
        typed: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, type=str)
    else:
        typed = source.readline().rstrip("\r\n")
    if len(typed) < SHORTEST_PASSPHRASE:
        _refuse(f"a passphrase has at least {SHORTEST_PASSPHRASE} characters")
    return typed


def _needs_root() -> None:
    if os.geteuid() != 0:
        _refuse("this needs root")


def _refuse(sentence: str) -> NoReturn:
    click.echo(printable(f"starlingctl: {sentence}"), err=True)
    sys.exit(1)
