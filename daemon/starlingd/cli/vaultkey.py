"""The key that seals the secrets of authenticator apps: made, kept as the service's credential, and rotated."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from starlingd import config
from starlingd.adapters.vault import new_key
from starlingd.cli.daemon import ask
from starlingd.cli.keeping import Keeper, KeptSecrets, NotKept, keep
from starlingd.cli.pam.places import run
from starlingd.cli.pam.undo import replace

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "totp.key"
SHIPPED, WANTED = "#key = $", "key = $"
"""The line of the file that the package brings, and what it is to become."""
SYSTEMCTL = "/usr/bin/systemctl"
UNIT = "starlingd.service"


def make_key(keeper: Keeper, *, plain: bool) -> Iterator[str]:
    """Make a key where there is none; tell what was done. Raises NotKept or OSError."""
    _needs_root()
    if keeper.plain(NAME).exists() or keeper.encrypted(NAME).exists():
        raise NotKept("there is a key already; another one would open nothing: see rotate-key")
    yield from keep(keeper, NAME, new_key(), plain=plain)
    yield from _switch_on()
    run(SYSTEMCTL, "daemon-reload")
    yield "whoever loses this key loses every app: starlingctl backup saves both"
    yield f"the running daemon does not have it yet: systemctl restart {UNIT}"


def rotate_key(keeper: Keeper, secrets: KeptSecrets, *, plain: bool) -> Iterator[str]:
    """Put a new key before the old one, seal all secrets anew, and drop the old one.

    Whenever it is interrupted, what is kept opens everything. Raises NotKept or OSError.
    """
    _needs_root()
    try:
        old = secrets.find("totp", "key").split()
    except config.SecretMissingError as error:
        raise NotKept(str(error)) from None
    new = new_key()
    yield from keep(keeper, NAME, " ".join([new, *old]), plain=plain)
    _restart()
    yield f"{ask('totp reseal')['count']} secrets are sealed with the new key"
    yield from keep(keeper, NAME, new, plain=plain)
    _restart()
    yield "the old key is forgotten; a backup from before still holds it"


def _needs_root() -> None:
    if os.geteuid() != 0:
        raise NotKept("this needs root: it keeps a secret that nobody else may read")


def _switch_on() -> Iterator[str]:
    """Have the configuration use the key, where it is the one that the package brings."""
    text = config.FILE.read_text(encoding="utf-8")
    lines = text.split("\n")
    if lines.count(SHIPPED) == 1 and WANTED not in lines:
        lines[lines.index(SHIPPED)] = WANTED
        replace(config.FILE, "\n".join(lines).encode())
        yield f"{config.FILE}: [totp] {WANTED}"


def _restart() -> None:
    run(SYSTEMCTL, "daemon-reload")
    done = run(SYSTEMCTL, "restart", UNIT)
    if done.status:
        raise NotKept(f"starlingd does not start: {done.output}")
