"""The key that seals the secrets of authenticator apps: made, kept as the service's credential, and rotated."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from starlingd import config
from starlingd.adapters.vault import new_key
from starlingd.cli.daemon import NoAnswer, ask, try_to_ask
from starlingd.cli.keeping import Keeper, KeptSecrets, NotKept, keep
from starlingd.cli.pam.places import run
from starlingd.cli.pam.undo import replace
from starlingd.config import ini

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "totp.key"
SHIPPED, WANTED = "#key = $", "key = $"
"""The line of the file that the package brings, and what it is to become."""
SYSTEMCTL = "/usr/bin/systemctl"
UNIT = "starlingd.service"
HANDED = Path("/run/credentials") / UNIT
"""Where systemd puts what it hands over, while the daemon runs."""


class Place(Enum):
    """Where a key lies."""

    NOWHERE = "found nowhere"
    CONFIGURATION = "written in the configuration itself"
    KEPT = "kept by starlingctl"
    HANDED = "handed to the unit from elsewhere"


@dataclass(frozen=True)
class Key:
    """The key that the daemon uses, or will at its next start."""

    text: str = field(repr=False)
    place: Place


def present_key(keeper: Keeper) -> Key:
    """Find the key as the daemon would. Raises NotKept for one that cannot be read."""
    written = _configured()
    if written not in {"", "$"}:
        return Key(written, Place.CONFIGURATION)
    if _is_kept(keeper):
        try:
            return Key(KeptSecrets(keeper).find("totp", "key"), Place.KEPT)
        except config.SecretMissingError as error:
            raise NotKept(f"the key that is there cannot be read: {error}") from None
    try:
        return Key(config.ServiceCredentials(HANDED).find("totp", "key"), Place.HANDED)
    except config.SecretMissingError:
        return Key("", Place.NOWHERE)


def make_key(keeper: Keeper, *, plain: bool, anew: bool) -> Iterator[str]:
    """Make a key where there is none; tell what was done. Raises NotKept or OSError.

    Where there are apps already it is made only ``anew``: those open with the key that is lost.
    """
    _needs_root()
    if _is_kept(keeper) or present_key(keeper).place is not Place.NOWHERE:
        raise NotKept("there is a key already; another one would open nothing: see rotate-key")
    if not anew:
        _see_that_no_app_is_lost()
    yield from keep(keeper, NAME, new_key(), plain=plain)
    yield from switch_on()
    run(SYSTEMCTL, "daemon-reload")
    yield "whoever loses this key loses every app: starlingctl backup saves both"
    yield f"the running daemon does not have it yet: systemctl restart {UNIT}"


def rotate_key(keeper: Keeper, *, plain: bool) -> Iterator[str]:
    """Put a new key before the old one, seal all secrets anew, and drop the old one.

    Whenever it is interrupted, what is kept opens everything. Raises NotKept or OSError.
    """
    _needs_root()
    there = present_key(keeper)
    if there.place is not Place.KEPT:
        raise NotKept(f"the key is {there.place.value}: only one that starlingctl keeps can be rotated")
    old, new = there.text.split(), new_key()
    yield from keep(keeper, NAME, " ".join([new, *old]), plain=plain)
    _restart()
    yield f"{ask('totp reseal')['count']} secrets are sealed with the new key"
    yield from keep(keeper, NAME, new, plain=plain)
    _restart()
    yield "the old key is forgotten; a backup from before still holds it"


def _needs_root() -> None:
    if os.geteuid() != 0:
        raise NotKept("this needs root: it keeps a secret that nobody else may read")


def _is_kept(keeper: Keeper) -> bool:
    return keeper.plain(NAME).exists() or keeper.encrypted(NAME).exists()


def _configured() -> str:
    """Tell what the configuration says the key is, whatever else is wrong with it; empty where it says nothing."""
    try:
        document = ini.parse(config.FILE.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""
    entry = document.sections.get("totp", {}).get("key")
    return entry.value if entry else ""


def _see_that_no_app_is_lost() -> None:
    """See that there are no apps yet, which a new key would not open. Raises NotKept."""
    try:
        apps = try_to_ask("totp list")
    except NoAnswer as why:
        raise NotKept(f"whether there are apps already is not known: {why}; --anew makes a key all the same") from None
    if apps:
        raise NotKept(
            f"there are apps already ({len(apps)}), and they open with the key that is lost and no other: starlingctl"
            " restore puts it back; or begin anew with --anew, and enrol each of them anew (totp enrol --replace)"
        )


def switch_on() -> Iterator[str]:
    """Have the configuration use the key, where it is the one that the package brings; tell what is left to do."""
    try:
        lines = config.FILE.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        lines = []
    if lines.count(SHIPPED) == 1 and WANTED not in lines:
        lines[lines.index(SHIPPED)] = WANTED
        replace(config.FILE, "\n".join(lines).encode())
        yield f"{config.FILE}: [totp] {WANTED}"
    elif not _configured():
        yield f'the daemon does not use it yet: write "{WANTED}" below [totp] of {config.FILE}'


def _restart() -> None:
    run(SYSTEMCTL, "daemon-reload")
    done = run(SYSTEMCTL, "restart", UNIT)
    if done.status:
        raise NotKept(f"starlingd does not start: {done.output}")
