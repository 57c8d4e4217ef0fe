"""starlingctl backup and restore: the state and the key that opens it, in one encrypted file.

Whoever has the file and its passphrase has every app's secret. A backup may be made while the daemon runs. A restore
keeps it from running meanwhile, and begins only when nothing is left that could be wrong with the backup.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from starlingd import config
from starlingd.adapters.sqlite.backup import Saved, Unusable, apps_in, copy_of, prepared, seal, unseal
from starlingd.adapters.vault import Vault
from starlingd.cli.daemon import moment, printable
from starlingd.cli.keeping import Keeper, NotKept, keep
from starlingd.cli.pam.places import run
from starlingd.cli.vaultkey import Key, Place, present_key, switch_on
from starlingd.ports import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO, TextIO

STATE = Path("/var/lib/starlingd/state.db")
OWNER = "starlingd"
KEY_NAME = "totp.key"
LONGEST = 1024**3
SHORTEST_PASSPHRASE = 8
SYSTEMCTL, UNIT = "/usr/bin/systemctl", "starlingd.service"
ENDINGS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
SOCKETS = ("starlingd.socket", "starlingd-control.socket")


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--passphrase-file", type=click.File("r"), help="Read the passphrase here; - is stdin.")
def backup(file: Path, passphrase_file: TextIO | None) -> None:
    """Save state and key, encrypted with a passphrase, in FILE, which must not exist. Needs root; runs meanwhile."""
    _needs_root()
    passphrase = _passphrase(passphrase_file, confirm=True)
    try:
        state, key = copy_of(STATE), present_key(Keeper()).text
        _see_that_it_opens(key, apps_in(state))
        _write(file, seal(Saved(state, key, time.time()), passphrase))
    except (Unusable, NotKept, OSError) as why:
        _refuse(f"nothing is saved: {why}")
    if not key:
        click.echo("there is neither a key nor an app yet: the backup holds the rest of the state")
    click.echo(printable(f"saved in {file}; without its passphrase nobody can read it, you neither"))


@click.command("restore")
@click.argument("file", type=click.File("rb"))
@click.option("--passphrase-file", type=click.File("r"), help="Read the passphrase here; - is stdin.")
@click.option("--plain", is_flag=True, help="Keep the key in a file that root can read, not encrypted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(file: BinaryIO, passphrase_file: TextIO | None, *, plain: bool, yes: bool) -> None:
    """Put back state and key from FILE, in place of what is there. Needs root; nobody can log in meanwhile."""
    _needs_root()
    try:
        saved = unseal(file.read(LONGEST), _passphrase(passphrase_file, confirm=False))
        there = present_key(Keeper())
        key = _key_to_keep(saved, there, plain=plain)
    except (Unusable, NotKept) as why:
        _refuse(f"nothing is put back: {why}")
    click.echo(printable(f"a backup of {moment(saved.made)}, made by version {saved.version}"))
    click.echo("what happened since then is lost: codes used since then are good again, and so on")
    if not yes:
        click.confirm("Put it in the place of what is there?", abort=True)
    try:
        aside, told = _put_back(saved, key, plain=plain)
    except (Unusable, NotKept, OSError) as why:
        _refuse(f"the state is not put back: {why}; logins start the daemon again, with the one that was there")
    started = run(SYSTEMCTL, "restart", UNIT)
    for sentence in told:
        click.echo(printable(sentence))
    if started.status:
        _refuse(f"it is put back, but the daemon does not start: {started.output}")
    if key and there.text:
        click.echo(
            "the key from before is kept behind the backup's: it opens what was there; totp rotate-key forgets it"
        )
    click.echo(f"put back; the state from before is {aside}" if aside else "put back; there was no state before")


def _put_back(saved: Saved, key: str, *, plain: bool) -> tuple[Path | None, list[str]]:
    """Put everything in its place, the key first: it opens what is there too, whatever happens then.

    Tells where the old state is, and what there is to say; nothing is printed, as the terminal may be gone.
    """
    _make_folder()
    with prepared(saved, STATE) as put_in_its_place, _undisturbed():
        told = [*keep(Keeper(), KEY_NAME, key, plain=plain), *switch_on()] if key else []
        with _kept_from_running():
            return put_in_its_place(), told


def _make_folder() -> None:
    """Make the daemon's folder where it has never run, as systemd would at its start. Raises Unusable or OSError."""
    if STATE.parent.exists():
        return
    try:
        owner = pwd.getpwnam(OWNER)
    except KeyError:
        raise Unusable(f"there is no user {OWNER}: is the package installed?") from None
    STATE.parent.mkdir(mode=0o700)
    os.chown(STATE.parent, owner.pw_uid, owner.pw_gid)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let neither Ctrl-C nor a lost connection end it half-way: with the sockets down nobody could log in any more."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _kept_from_running() -> Iterator[None]:
    """Keep the daemon down: without its sockets no login starts it, but each is refused at once. Raises Unusable."""
    try:
        stopped = run(SYSTEMCTL, "stop", *SOCKETS, UNIT)
        if stopped.status:
            raise Unusable(f"the daemon does not stop: {stopped.output}")
        yield
    finally:
        run(SYSTEMCTL, "daemon-reload")
        started = run(SYSTEMCTL, "start", *SOCKETS)
        if started.status:
            click.echo(printable(f"starlingctl: the sockets do not start: {started.output}"), err=True)


def _key_to_keep(saved: Saved, there: Key, *, plain: bool) -> str:
    """Tell what the key must become: the backup's, and the one that is there behind it; empty if it is right already.

    Raises Unusable where the daemon would not get what opens the apps.
    """
    apps = apps_in(saved.state)
    if there.place is Place.CONFIGURATION:
        try:
            _see_that_it_opens(there.text, apps)
        except Unusable as why:
            raise Unusable(f"{why}: [totp] key of {config.FILE} goes before any that is kept; write key = $") from None
        return ""
    try:
        _see_that_it_opens(there.text, [])
    except Unusable as why:
        raise Unusable(f"the key that is there is none, and is not overwritten: {why}; take it away first") from None
    words = list(dict.fromkeys([*saved.key.split(), *there.text.split()]))
    _see_that_it_opens(" ".join(words), apps)
    if words == there.text.split():
        return ""
    if there.place is Place.HANDED and not plain:
        raise Unusable("the unit is handed a key that starlingctl does not keep: only with --plain ours goes before it")
    return " ".join(words)


def _see_that_it_opens(key: str, apps: list[tuple[str, bytes]]) -> None:
    """See that a key opens all apps; none will do where there are none. Raises Unusable."""
    if not key and apps:
        raise Unusable(
            f"there are apps ({len(apps)}), and their key is found nowhere; if the unit is handed one, start it first"
        )
    user = ""
    try:
        vault = Vault(key) if key else None
        for user, box in apps:
            if vault is not None:
                vault.open(user, box)
    except Unavailable as why:
        raise Unusable(f"the app of {user} does not open: {why.detail}" if user else why.detail) from None


def _write(file: Path, content: bytes) -> None:
    """Write a file that is not there yet, wholly or not at all. Raises OSError."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        file.unlink()
        raise


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
