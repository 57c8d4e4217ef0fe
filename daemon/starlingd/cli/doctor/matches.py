"""Looking at the Match blocks of sshd's configuration for doctor: a connection that each of them is for.

What a block is for cannot always be told from here; such a block is handed on, so that its not being tried is told.
"""

from __future__ import annotations

import glob
import grp
import ipaddress
import pwd
import re
import shlex
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING

from starlingd.cli.doctor.facts import Connection, connection, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SSHD_CONFIG = Path("/etc/ssh/sshd_config")
MOST_TRIED = 20
DEEPEST = 5
"""Files that include each other."""
_MATCH = re.compile(r"^[ \t]*Match[ \t=]+(.*)$", re.IGNORECASE | re.MULTILINE)
_INCLUDE = re.compile(r"^[ \t]*Include[ \t=]+(.*)$", re.IGNORECASE | re.MULTILINE)
_SPEC = {
    "host": "host",
    "address": "addr",
    "localaddress": "laddr",
    "localport": "lport",
    "rdomain": "rdomain",
}
"""Criteria, and what sshd -T -C calls them; user and group are none of these."""
_STARS = ("1", "1.1", "1.1.1", "1.1.1.1", ":1", "1::1")
"""What a star may stand for in an address."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """A connection for each Match block, and the criteria of those blocks for which there is none."""

    tried: tuple[Connection, ...]
    untried: tuple[str, ...]


def read(config: Path = SSHD_CONFIG) -> Blocks:
    """Make the connections that the Match blocks of sshd's configuration are for."""
    lines = _MATCH.findall("\n".join(_with_includes(config, config.parent, DEEPEST)))
    found: dict[Connection, None] = {}
    untried: list[str] = []
    for line in lines:
        made = [connection(**words) for words in _connections(line)]
        if not made or len(found.keys() | made) > MOST_TRIED:
            untried.append(line.strip())
        else:
            found |= dict.fromkeys(made)
    return Blocks(tuple(found), tuple(dict.fromkeys(untried)))


def _with_includes(config: Path, folder: Path, deep: int) -> Iterator[str]:
    found = text(config)
    yield found
    for patterns in _INCLUDE.findall(found) if deep else ():
        for word in _words(patterns):
            for path in sorted(glob.glob(str(folder / word))):  # noqa: PTH207  it may be absolute
                yield from _with_includes(Path(path), folder, deep - 1)


def _words(line: str) -> list[str]:
    """Tell the words of a line, which may be quoted; none where the quotes do not end, which sshd refuses."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return []


def _connections(line: str) -> list[dict[str, str]]:
    """Tell the words of -C for one Match line, once for each user that it names; none when they are not known."""
    criteria = _criteria(line)
    if criteria is None:
        return []
    users = _users(criteria)
    common = {_SPEC[key]: _example(key, value) for key, value in criteria.items() if key in _SPEC}
    if not all(common.values()):
        return []
    return [{**common, "user": user} for user in users]


def _criteria(line: str) -> dict[str, str] | None:
    """Tell each criterion with its patterns; None when there is one that cannot be tried, such as a version."""
    words = _words(line.replace("=", " "))
    if [word.lower() for word in words] == ["all"]:
        return {}
    found = {key.lower(): value for key, value in zip(words[::2], words[1::2], strict=False)}
    known = found.keys() <= {*_SPEC, "user", "group"}
    return found if known and found and len(words) == 2 * len(found) else None


def _users(criteria: dict[str, str]) -> list[str]:
    """Tell whom a block is for: one for each pattern of users, else one member of each group; root when it is all."""
    if "user" in criteria:
        return [_letters(user) for user in _wanted(criteria["user"])]
    if "group" in criteria:
        return list(dict.fromkeys(user for group in _wanted(criteria["group"]) for user in _members(group)))
    return ["root"]


def _wanted(patterns: str) -> list[str]:
    return [part for part in patterns.split(",") if part and not part.startswith("!")]


def _example(key: str, patterns: str) -> str:
    """Make something that a list of patterns matches; empty when that is not known."""
    first = next(iter(_wanted(patterns)), "")
    if key in {"address", "localaddress"}:
        return _address(first)
    return _letters(first)


def _letters(pattern: str) -> str:
    return pattern.replace("*", "x").replace("?", "x")


def _address(pattern: str) -> str:
    """Make an address: of a network its first one, of wildcards one that is written so."""
    bare = pattern.partition("/")[0].replace("?", "1")
    pieces = bare.split("*")
    for stars in product(_STARS, repeat=len(pieces) - 1) if len(pieces) < 5 else ():  # noqa: PLR2004  as in 10.*.*.*
        made = "".join(piece + star for piece, star in zip(pieces, (*stars, ""), strict=True))
        if _is_address(made):
            return made
    return ""


def _is_address(made: str) -> bool:
    try:
        ipaddress.ip_address(made)
    except ValueError:
        return False
    return True


def _members(pattern: str) -> Iterable[str]:
    """Tell one member of a group, if this host knows any; of a pattern, one of each group that it names."""
    return (user for entry in _groups(pattern) for user in islice(_people(entry), 1))


def _groups(pattern: str) -> list[grp.struct_group]:
    if _letters(pattern) != pattern:
        return [entry for entry in grp.getgrall() if fnmatchcase(entry.gr_name, pattern)]
    try:
        return [grp.getgrnam(pattern)]
    except KeyError:
        return []


def _people(entry: grp.struct_group) -> Iterator[str]:
    yield from entry.gr_mem
    yield from (person.pw_name for person in pwd.getpwall() if person.pw_gid == entry.gr_gid)
