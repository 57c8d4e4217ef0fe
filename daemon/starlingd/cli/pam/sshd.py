"""sshd's side of a mode: the lines for sshd_config.d, and what sshd would make of them before they are there."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from starlingd.cli.pam.stack import Mode, Unfit

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlingd.cli.pam.places import Done, Places

SSHD = "/usr/sbin/sshd"
HEAD = "# pam-starling: written by starlingctl pam enable, taken away by starlingctl pam disable"
_ASKS = {"UsePAM": "yes", "PasswordAuthentication": "no", "KbdInteractiveAuthentication": "yes"}
SETTINGS = {
    Mode.KEY: {**_ASKS, "AuthenticationMethods": "publickey,keyboard-interactive:pam"},
    Mode.PASSWORD: {**_ASKS, "AuthenticationMethods": "keyboard-interactive:pam"},
    Mode.KEY_PUSH: {**_ASKS, "KbdInteractiveAuthentication": "no", "AuthenticationMethods": "publickey"},
}
_INCLUDE = re.compile(r"^(\s*Include\s+)(?:/etc/ssh/)?sshd_config\.d/\*\.conf\s*$", re.IGNORECASE | re.MULTILINE)


def snippet(mode: Mode) -> str:
    """Give the lines for a mode."""
    return "".join(f"{line}\n" for line in [HEAD, *(f"{key} {value}" for key, value in SETTINGS[mode].items())])


def effective(places: Places, run: Callable[..., Done], ours: str | None) -> dict[str, str]:
    """Tell what sshd would use, with ``ours`` in place. Raises Unfit when it would not take it, or not see it."""
    if ours is None:
        return _ask_sshd(run, places.sshd_config)
    text = places.sshd_config.read_text(encoding="utf-8", errors="surrogateescape")
    if not _INCLUDE.search(text.split("\nMatch ", 1)[0]):
        raise Unfit("it lacks the line: Include /etc/ssh/sshd_config.d/*.conf")
    with tempfile.TemporaryDirectory(prefix="pam-starling-") as made:
        parts = Path(made) / "parts"
        parts.mkdir()
        for found in places.snippet.parent.glob("*.conf"):
            (parts / found.name).write_bytes(found.read_bytes())
        (parts / places.snippet.name).write_text(ours, encoding="ascii")
        would_be = Path(made) / "sshd_config"
        changed = _INCLUDE.sub(lambda match: f"{match[1]}{parts}/*.conf", text)
        would_be.write_text(changed, encoding="utf-8", errors="surrogateescape")
        return _ask_sshd(run, would_be)


def overruled(mode: Mode, found: dict[str, str]) -> list[str]:
    """Name each of our settings that something else in sshd's configuration overrules."""
    return [
        f"{key} would be {found.get(key.lower(), 'unset')}, not {value}"
        for key, value in SETTINGS[mode].items()
        if found.get(key.lower()) != value
    ]


def _ask_sshd(run: Callable[..., Done], file: Path) -> dict[str, str]:
    tested = run(SSHD, "-t", "-f", str(file))
    if tested.status:
        raise Unfit(f"sshd -t says: {tested.output}")
    shown = run(SSHD, "-T", "-f", str(file), "-C", "user=root,host=localhost,addr=127.0.0.1")
    if shown.status:
        raise Unfit(f"sshd -T says: {shown.output}")
    rows = (line.partition(" ") for line in shown.output.splitlines())
    return {key: value for key, _, value in rows}
