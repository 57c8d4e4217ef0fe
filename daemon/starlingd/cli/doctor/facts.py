"""Looking at this host for doctor: files, pam.d, sshd's effective configuration, units. It changes nothing.

What cannot be looked at is left out, and what is made of it says that it is missing; nothing here raises.
"""

from __future__ import annotations

import glob
import grp
import os
import pwd
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from starlingd.cli.doctor.files import Fact
from starlingd.cli.pam.places import run

if TYPE_CHECKING:
    from collections.abc import Iterable

PAM = Path("/etc/pam.d")
LIB = Path("/usr/lib/pam-starling")
SSHD = "/usr/sbin/sshd"
SYSTEMCTL, TIMEDATECTL = "/usr/bin/systemctl", "/usr/bin/timedatectl"
PROGRAMS = ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec", "/usr/local", "/bin", "/sbin", "/opt")
MODULES = ("/lib/security", "/usr/lib/security", "/lib/*/security", "/usr/lib/*/security")
UNIT_FIELDS = ("ActiveState", "LoadState", "UnitFileState", "StatusText", "NRestarts")
LONGEST = 256 * 1024
MOST_LOOKED_AT = 200_000


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection that sshd's configuration is tried for; ``words`` are those of its -C option."""

    words: tuple[tuple[str, str], ...]

    @property
    def spec(self) -> str:
        """What sshd -T -C wants."""
        return ",".join(f"{key}={value}" for key, value in self.words)

    def __str__(self) -> str:
        given = dict(self.words)
        where = f" on port {given['lport']}" if "lport" in given else ""
        return f"{given['user']} from {given['addr']}{where}"


def connection(user: str = "root", addr: str = "127.0.0.1", **more: str) -> Connection:
    """Make a connection of a user from an address."""
    known = {"user": user, "addr": addr, "host": addr, **more}
    return Connection(tuple(known.items()))


# --- files -----------------------------------------------------------------------------------------------------------


def look(path: str | Path) -> Fact:
    """Tell what there is at a path."""
    try:
        status = os.lstat(path)
    except OSError:
        return Fact(str(path))
    return Fact(str(path), status.st_mode, _user(status.st_uid), _group(status.st_gid))


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def code(lib: Path = LIB) -> list[Fact]:
    """Look at all that PAM and the daemon run, and the folders it lies in."""
    current = lib / "current"
    needed = [lib / "entry.py", current, *(current / "pam_starling" / f"{name}.py" for name in ("__init__", "login"))]
    needed += [current / "pam_starling" / f"{name}.py" for name in ("client", "options", "protocol")]
    found = [Path(parent, name) for parent, _, names in os.walk(lib) for name in ("", *names)]
    return [look(path) for path in dict.fromkeys([*reversed(lib.parents), *needed, *found])]


def modules() -> list[Fact]:
    """Look at each pam_python.so that there is, once by whatever names."""
    found = (path for folder in MODULES for path in glob.glob(f"{folder}/pam_python.so"))  # noqa: PTH207  both are patterns
    return [look(path) for path in dict.fromkeys(map(os.path.realpath, found))]


def foreign_code(lib: Path = LIB) -> list[str]:
    """Tell the files of the PAM side that are not what the installed package brought; all when it brought nothing."""
    shipped, used = lib / "module" / "pam_starling", lib / "current" / "pam_starling"
    names = {path.name for folder in (shipped, used) for path in folder.glob("*.py")}
    return sorted(name for name in names if _bytes(shipped / name) != _bytes(used / name))


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def setuid_programs() -> list[str]:
    """Tell the names of setuid and setgid programs."""
    looked = 0
    names: set[str] = set()
    for folder in PROGRAMS:
        for parent, _, files in os.walk(folder):
            for name in files:
                looked += 1
                if looked > MOST_LOOKED_AT:
                    return sorted(names)
                if look(Path(parent, name)).mode & (stat.S_ISUID | stat.S_ISGID):
                    names.add(name)
    return sorted(names)


def space(path: str) -> tuple[int, int | None] | None:
    """Tell the free bytes and inodes, the latter None where none are counted; nothing where there is no such path."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None


def pam_files(folder: Path = PAM) -> dict[str, str]:
    """Read all of /etc/pam.d, but for what lies hidden there: our own copies, an editor's."""
    return {path.name: text(path) for path in sorted(folder.glob("[!.]*")) if path.is_file()}


def text(path: Path) -> str:
    """Read the beginning of a file; nothing where that cannot be done."""
    try:
        with path.open("rb") as stream:
            return stream.read(LONGEST).decode("utf-8", "replace")
    except OSError:
        return ""


def login_timeout(path: Path = Path("/etc/login.defs")) -> int:
    """Tell after how many seconds ``login`` ends itself."""
    found = re.search(r"^\s*LOGIN_TIMEOUT\s+(\d+)", text(path), re.MULTILINE)
    return int(found[1]) if found else 60


# --- sshd ------------------------------------------------------------------------------------------------------------


def effective(of: Connection) -> dict[str, str] | str:
    """Tell what sshd uses for a connection, or what it says instead."""
    done = run(SSHD, "-T", "-C", of.spec)
    if done.status:
        return done.output
    rows = (line.partition(" ") for line in done.output.splitlines())
    return {key.lower(): value for key, _, value in rows}


# --- systemd ---------------------------------------------------------------------------------------------------------


def units(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Tell what systemd says of units."""
    return {name: _unit(name) for name in names}


def _unit(name: str) -> dict[str, str]:
    done = run(SYSTEMCTL, "show", name, *(f"--property={field}" for field in UNIT_FIELDS))
    return {key: value for key, _, value in (line.partition("=") for line in done.output.splitlines())}


def clock_is_synchronised() -> bool | None:
    """Tell whether something keeps this host's clock right; None when systemd does not tell."""
    done = run(TIMEDATECTL, "show", "--property=NTPSynchronized", "--value")
    return {"yes": True, "no": False}.get(done.output) if not done.status else None
