"""Who would lose access by a change, by name, as far as this host can tell before anybody tries.

It only looks: it reads accounts, modes of files, and what the daemon would decide.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from starlingd.cli.daemon import NoAnswer, try_to_ask
from starlingd.cli.pam.stack import Mode
from starlingd.core.policy import NO_APP

if TYPE_CHECKING:
    from collections.abc import Iterable

FIRST_PERSON, NOBODY = 1000, 65534
MOST_PEOPLE, LONGEST = 1000, 60.0
"""Accounts that are looked at, and seconds for them all; that there are more is said."""
NO_SHELLS = frozenset({"nologin", "false", "sync"})
ROBOTS_OPTIONS = ("command=", "restrict", "no-pty")
LONGEST_KEYS = 64 * 1024
SHADOW, NSSWITCH = Path("/etc/shadow"), Path("/etc/nsswitch.conf")
LISTED = frozenset({"files", "systemd", "compat"})
"""Sources of accounts that tell all they have; others (sss, ldap) may tell only of whom they are asked for by name."""

_ACTION = re.compile(r"\[[^]]*\]")


@dataclass(frozen=True)
class Loss:
    """Somebody who could not log in any more, and why."""

    who: str
    why: str


@dataclass(frozen=True)
class Scene:
    """What the change is, and what sshd says of itself (empty for login)."""

    service: str
    mode: Mode
    emergency_group: str | None
    sshd: dict[str, str]


def people() -> list[pwd.struct_passwd]:
    """Tell the people, and root, who can have a shell."""
    return [entry for entry in _with_shell() if entry.pw_uid == 0 or entry.pw_uid >= FIRST_PERSON]


def programs(scene: Scene) -> list[pwd.struct_passwd]:
    """Tell the system's accounts (git, backup, postgres) with a shell, and with a key or a password to come in by."""
    return [
        entry
        for entry in _with_shell()
        if 0 < entry.pw_uid < FIRST_PERSON
        and (has_password(entry.pw_name) or (scene.service == "sshd" and keys_of(entry, scene.sshd) != []))
    ]


def _with_shell() -> list[pwd.struct_passwd]:
    found = (entry for entry in pwd.getpwall() if entry.pw_uid != NOBODY)
    return [entry for entry in found if Path(entry.pw_shell).name not in NO_SHELLS]


def unlisted(nsswitch: Path = NSSWITCH) -> list[str]:
    """Tell the sources of accounts, as nsswitch.conf(5) names them, whose accounts this host may not list."""
    text = nsswitch.read_text(encoding="utf-8", errors="replace") if nsswitch.exists() else ""
    rows = (line.partition("#")[0].partition(":") for line in text.splitlines())
    words = [word for key, _, value in rows if key.strip() == "passwd" for word in _ACTION.sub(" ", value).split()]
    return [word for word in words if word not in LISTED]


def losses(scene: Scene) -> list[Loss]:
    """Name who would lose access."""
    found, ends = [*people(), *programs(scene)], time.monotonic() + LONGEST
    passing = members(scene.emergency_group) if scene.emergency_group else frozenset()
    out: list[Loss] = []
    for number, entry in enumerate(found):
        if number == MOST_PEOPLE or time.monotonic() > ends:
            return [*out, Loss("others", f"{len(found) - number} more accounts were not looked at")]
        out += [Loss(entry.pw_name, why) for why in _reasons(entry, scene, passing)]
    return out


def members(group: str) -> frozenset[str]:
    """Tell who is in a group, also as their first one; nobody where there is none."""
    try:
        entry = grp.getgrnam(group)
    except KeyError:
        return frozenset()
    return frozenset(entry.gr_mem) | {person.pw_name for person in pwd.getpwall() if person.pw_gid == entry.gr_gid}


def has_password(user: str, shadow: Path = SHADOW) -> bool | None:
    """Tell whether shadow(5) has a password that can be typed, no locked one; None when it does not know the user."""
    for line in shadow.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, rest = line.partition(":")
        if name == user:
            hashed = rest.partition(":")[0]
            locked = hashed.startswith(("!", "*"))
            return not locked and (hashed.startswith(("$", "_")) or len(hashed) >= 13)  # noqa: PLR2004  crypt(5)
    return None


def comes_through_sshd(person: pwd.struct_passwd, mode: Mode, sshd: dict[str, str]) -> bool:
    """Tell whether somebody is shown to have what sshd asks for in a mode, besides the second factor."""
    if person.pw_uid == 0 and sshd.get("permitrootlogin", "yes") != "yes":
        return False
    if mode is Mode.PASSWORD:
        return has_password(person.pw_name) is True
    return not all(map(_is_for_a_robot, keys_of(person, sshd) or []))


def keys_of(person: pwd.struct_passwd, sshd: dict[str, str]) -> list[str] | None:
    """Tell the lines of somebody's authorized keys; None when they may come from elsewhere."""
    if sshd.get("authorizedkeyscommand", "none") != "none" or sshd.get("trustedusercakeys", "none") != "none":
        return None
    lines: list[str] = []
    for pattern in sshd.get("authorizedkeysfile", ".ssh/authorized_keys").split():
        named = pattern.replace("%u", person.pw_name).replace("%h", person.pw_dir).replace("%%", "%")
        lines += _lines(Path(person.pw_dir) / named)
    return lines


def _reasons(person: pwd.struct_passwd, scene: Scene, passing: frozenset[str]) -> Iterable[str]:
    if person.pw_uid == 0 and scene.sshd.get("permitrootlogin") == "no":
        return  # sshd refuses root today
    if person.pw_uid == 0 and scene.mode is not Mode.KEY_PUSH and scene.sshd.get("permitrootlogin", "yes") != "yes":
        yield f"may not answer prompts in sshd (PermitRootLogin {scene.sshd['permitrootlogin']})"
    if scene.service == "sshd" and scene.mode is not Mode.PASSWORD:
        keys = keys_of(person, scene.sshd)
        if keys is not None and not keys:
            yield "has no authorized key"
        if scene.mode is Mode.KEY and keys and all(map(_is_for_a_robot, keys)):
            yield "has keys for programs only (command=, restrict, no-pty), which cannot answer a prompt"
    elif has_password(person.pw_name) is False:
        yield "has no Unix password"
    if person.pw_name not in passing:
        yield from _daemons_reasons(person.pw_name, scene.service)


def _daemons_reasons(user: str, service: str) -> Iterable[str]:
    try:
        plan = try_to_ask("explain", user=user, service=service)
    except NoAnswer as none:
        yield f"the daemon cannot say: {none}"
        return
    if plan["outcome"] == "deny":
        yield f"would be refused: {plan['reason']}" + (f" ({plan['rule']})" if plan["rule"] else "")
    elif plan["outcome"] == "second_factor":
        warnings = [step["result"] for step in plan["steps"] if step["step"] == "warning"]
        yield from (
            warning if warning == NO_APP else f"is neither exempt nor mapped to anybody: {warning}"
            for warning in warnings
        )


def _is_for_a_robot(line: str) -> bool:
    return line.startswith(ROBOTS_OPTIONS) or any(f",{option}" in line for option in ROBOTS_OPTIONS)


def _lines(path: Path) -> list[str]:
    """Read lines of a file that a user has made: a regular one, and no more than its first part."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        data = os.read(descriptor, LONGEST_KEYS) if regular else b""
    finally:
        os.close(descriptor)
    lines = data.decode("utf-8", "replace").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
