"""A host in a folder, for tests of starlingctl pam: real files, real tools, and a systemctl that only writes down."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from starlingd.cli.pam import change
from starlingd.cli.pam.places import Done, Places, run
from starlingd.cli.pam.stack import Mode
from starlingd.cli.pam.undo import Undo

STOCK = b"# mine: \xff\n@include common-auth\n@include common-account\n"
COMMON = "auth [success=1 default=ignore] pam_unix.so\nauth requisite pam_deny.so\nauth required pam_permit.so\n"
TOOLS = ("cp", "mv")


@dataclass
class Host:
    """A host in a folder. The restore script finds the tools that it may use, and no others.

    systemctl fails at what ``fails`` is part of; the time to confirm ends at what ``fires`` is part of; and of the unit
    that runs the script it says what ``says`` holds, one after the other, the last for good.
    """

    root: Path
    fails: str = ""
    fires: str = ""
    says: list[str] = field(default_factory=lambda: ["inactive"])
    asked: list[str] = field(default_factory=list)

    @property
    def places(self) -> Places:
        """Its paths."""
        return Places(self.root)

    def undo(self, service: str = "sshd") -> Undo:
        """Its way back."""
        return Undo(service, self.places, self.run)

    def run(self, *command: str) -> Done:
        """Run shell and cp for real, systemctl not at all."""
        if command[0].endswith("systemctl"):
            return self._systemctl(" ".join(command[1:]))
        if command[0] == "/bin/sh":
            return self.run_script(Path(command[1]), *command[2:])
        return run(*command)

    def _systemctl(self, asked: str) -> Done:
        self.asked.append(asked)
        if self.fires and self.fires in asked:
            self.fires = ""
            self.restore()
        if asked.startswith("is-active") and asked.endswith(".service"):
            return Done(3, self.says.pop(0) if len(self.says) > 1 else self.says[0])
        return Done(1, "no") if self.fails and self.fails in asked else Done(0, "")

    def restore(self, *words: str, service: str = "sshd") -> Done:
        """Put it back as its unit would."""
        return self.run_script(self.undo(service).folder / "restore", *words)

    def run_script(self, script: Path, *words: str) -> Done:
        """Run a restore script with the tools it may use and no others."""
        text = script.read_text(encoding="utf-8").replace("PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"PATH={self.tools}")
        copy = self.root / "restore"
        copy.write_text(text, encoding="utf-8")
        done = subprocess.run(["/bin/sh", str(copy), *words], capture_output=True, text=True, check=False)
        return Done(done.returncode, done.stdout + done.stderr)

    @property
    def tools(self) -> Path:
        """The only PATH that the script gets."""
        return self.root / "bin"

    def replace_tool(self, name: str, script: str) -> None:
        """Give the script another program in the place of a tool."""
        (self.tools / name).unlink()
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
        (self.tools / name).chmod(0o755)

    def enable(self, service: str = "sshd", seconds: int = 600) -> Undo:
        """Switch a service on: sshd in key mode, login in password mode."""
        mode, undo = Mode.KEY if service == "sshd" else Mode.PASSWORD, self.undo(service)
        edits = change.plan(service, mode, None, self.places)
        change.apply(undo, change.new_state(service, mode, None, seconds), edits)
        return undo

    def look(self) -> list[tuple[str, int, int, bytes]]:
        """Tell all files that a change may touch."""
        files = sorted(file for file in (self.root / "etc").rglob("*") if not file.is_dir())
        return [(str(file), file.stat().st_mode, file.stat().st_mtime_ns, file.read_bytes()) for file in files]

    def texts(self) -> dict[str, bytes]:
        """Tell the contents of all files that a change may touch."""
        return {path: data for path, _, _, data in self.look()}


def make_host(root: Path) -> Host:
    """Make a host with a stock sshd and login."""
    made = Host(root)
    for folder in ("etc/pam.d", "etc/ssh/sshd_config.d", "var/lib", "etc/systemd/system", "bin", "run"):
        (root / folder).mkdir(parents=True)
    for service in ("sshd", "login"):
        made.places.pam(service).write_bytes(STOCK)
        made.places.pam(service).chmod(0o640)
    made.places.pam("common-auth").write_text(COMMON, encoding="ascii")
    for tool in TOOLS:
        (made.tools / tool).symlink_to(f"/bin/{tool}")
    (made.tools / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> {root}/systemctl\n', encoding="ascii")
    (made.tools / "systemctl").chmod(0o755)
    return made
