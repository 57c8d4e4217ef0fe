"""Where things lie that ``starlingctl pam`` reads and writes, and the one way it runs other programs."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

SERVICES = ("sshd", "login")
TEMPLATES = Path(__file__).resolve().parents[4] / "etc" / "undo"
"""In the source tree and in /usr/lib/pam-starling alike."""
PATIENCE = 60.0
"""Seconds for any program we run."""


@dataclass(frozen=True)
class Places:
    """The paths of one host; ``root`` is another one in tests."""

    root: Path = Path("/")

    def pam(self, service: str) -> Path:
        """Tell the file of a PAM service."""
        return self.root / "etc/pam.d" / service

    @property
    def snippet(self) -> Path:
        """Our part of sshd's configuration. It sorts first, since sshd takes the first of two values."""
        return self.root / "etc/ssh/sshd_config.d/00-pam-starling.conf"

    @property
    def sshd_config(self) -> Path:
        """The file that includes it."""
        return self.root / "etc/ssh/sshd_config"

    @property
    def undo(self) -> Path:
        """Copies and scripts that belong to no package, and outlive ours."""
        return self.root / "var/lib/pam-starling-undo"

    @property
    def units(self) -> Path:
        """The administrator's units."""
        return self.root / "etc/systemd/system"

    @property
    def lock(self) -> Path:
        """What one starlingctl pam at a time holds: root's own, for whoever may open a file may also lock it."""
        return self.root / "run/pam-starling.lock"

    @property
    def stamps(self) -> Path:
        """When persistent timers ran last."""
        return self.root / "var/lib/systemd/timers"


@dataclass(frozen=True)
class Done:
    """What became of a program: its exit status, and all it printed."""

    status: int
    output: str


def run(*command: str) -> Done:
    """Run a program of the system to its end; one that is missing or takes too long has failed."""
    try:
        done = subprocess.run(  # noqa: S603  the commands are ours, with absolute paths and no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Done(127, f"{command[0]}: {error}")
    return Done(done.returncode, done.stdout.decode("utf-8", "replace").strip())
