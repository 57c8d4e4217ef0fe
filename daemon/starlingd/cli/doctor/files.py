"""Findings about files, their owners and their modes: what PAM runs, sockets, credentials, state, and free space."""

from __future__ import annotations

import shlex
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlingd.cli.doctor.finding import error, warning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from starlingd.cli.doctor.finding import Finding

REINSTALL = "apt-get install --reinstall pam-starling"
LITTLE, TOO_LITTLE = 256 * 2**20, 16 * 2**20
"""Free bytes for the state: what is little, and what is too little to write anything."""
FEW_INODES = 100


@dataclass(frozen=True, slots=True)
class Fact:
    """What there is at a path, itself and not what it points to. ``mode`` is 0 where there is nothing."""

    path: str
    mode: int = 0
    user: str = ""
    group: str = ""

    @property
    def exists(self) -> bool:
        """Whether there is anything."""
        return self.mode != 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should be at a path: owner, group (empty for any) and the bits that the mode may have."""

    kind: str
    user: str
    group: str
    mode: int


SOCKETS = {
    "/run/starlingd/pam.sock": (Wanted("socket", "root", "root", 0o600), "starlingd.socket"),
    "/run/starlingd/control.sock": (Wanted("socket", "root", "starling-admin", 0o660), "starlingd-control.socket"),
}
PRIVATE_FOLDER, PRIVATE_FILE = Wanted("folder", "root", "", 0o700), Wanted("file", "root", "", 0o600)
STATE_FOLDER, STATE_FILE = Wanted("folder", "starlingd", "", 0o700), Wanted("file", "starlingd", "", 0o600)
_KINDS = {stat.S_IFSOCK: "socket", stat.S_IFDIR: "folder", stat.S_IFREG: "file", stat.S_IFLNK: "link"}


def check_code(facts: Iterable[Fact]) -> Iterator[Finding]:
    """Check what PAM runs as root: everything is root's, and nobody else can write it."""
    for fact in facts:
        if not fact.exists:
            yield error("files.missing", f"{fact.path} is missing: every login is refused", REINSTALL)
        elif fact.user != "root":
            yield error(
                "files.owner",
                f"{fact.path} belongs to {fact.user}, who can run anything as root with it",
                f"chown root:root {shlex.quote(fact.path)}",
            )
        elif not stat.S_ISLNK(fact.mode) and fact.mode & 0o022:
            yield error(
                "files.writable",
                f"{fact.path} has mode {stat.S_IMODE(fact.mode):04o}: others than root can change what runs as root",
                f"chmod go-w {shlex.quote(fact.path)}",
            )


def check_module(facts: Sequence[Fact]) -> Iterator[Finding]:
    """See that there is a pam_python.so at all, and that it is root's alone; ``facts`` are those that exist."""
    if not facts:
        yield error(
            "files.pam-python",
            "pam_python.so is not installed: every login is refused",
            "apt-get install libpam-python",
        )
    yield from check_code(facts)


def check_version(foreign: Sequence[str]) -> Iterator[Finding]:
    """See that PAM runs what the installed package brought; ``foreign`` are the files that differ."""
    if foreign:
        yield warning(
            "files.version",
            f"what PAM runs is not what the installed package brought ({', '.join(foreign)}): an upgrade did not come "
            "to its end, or somebody changed it",
            f"dpkg --configure --pending; {REINSTALL}",
        )


def check_sockets(facts: Iterable[Fact]) -> Iterator[Finding]:
    """Check the daemon's sockets."""
    for fact in facts:
        wanted, unit = SOCKETS[fact.path]
        if not fact.exists:
            yield error("socket.missing", f"{fact.path} is missing", f"systemctl restart {unit} starlingd.service")
        else:
            yield from _compare("socket.mode", fact, wanted, f"systemctl restart {unit} starlingd.service")


def check_private(name: str, facts: Iterable[tuple[Fact, Wanted]]) -> Iterator[Finding]:
    """Check files and folders that are somebody's alone. ``name`` is the finding's id."""
    for fact, wanted in facts:
        if fact.exists:
            path = shlex.quote(fact.path)
            yield from _compare(name, fact, wanted, f"chown {wanted.user} {path}; chmod {wanted.mode:04o} {path}")


def _compare(name: str, fact: Fact, wanted: Wanted, advice: str) -> Iterator[Finding]:
    kind = _KINDS.get(stat.S_IFMT(fact.mode), "something else")
    if kind != wanted.kind:
        yield error(name, f"{fact.path} is a {kind}, not a {wanted.kind}", f"take it away: rm {shlex.quote(fact.path)}")
    elif fact.user != wanted.user or (wanted.group and fact.group != wanted.group):
        whose = f"{wanted.user}:{wanted.group}" if wanted.group else wanted.user
        yield error(name, f"{fact.path} belongs to {fact.user}:{fact.group}, not to {whose}", advice)
    elif stat.S_IMODE(fact.mode) & ~wanted.mode or (kind == "socket" and stat.S_IMODE(fact.mode) != wanted.mode):
        is_mode = f"{stat.S_IMODE(fact.mode):04o}"
        yield error(name, f"{fact.path} has mode {is_mode}, not {wanted.mode:04o}", advice)


def check_space(path: str, free: int, inodes: int | None) -> Iterator[Finding]:
    """Check the free bytes and inodes for the state; ``inodes`` is None where the file system counts none."""
    if free < LITTLE:
        yield (error if free < TOO_LITTLE else warning)(
            "state.space",
            f"{path} has {free // 2**20} MB left: when it is full, no session can be recorded and logins are refused",
            f"make room: df -h {path}",
        )
    if inodes is not None and inodes < FEW_INODES:
        yield error("state.inodes", f"{path} has {inodes} inodes left", f"take small files away: df -i {path}")
