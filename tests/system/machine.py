"""A booted Debian in a container: systemd as PID 1, and root's commands in it."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from functools import cached_property
from shlex import quote
from typing import TYPE_CHECKING

from tests.system.engine import BOOT, confinement

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.system.engine import Engine

PATIENCE = 120.0
"""Seconds that anything may take that a test waits for."""


@dataclass
class Machine:
    """One running container."""

    engine: Engine
    name: str

    @cached_property
    def address(self) -> str:
        """Its address on the network of the run."""
        template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return self.engine.docker("inspect", "-f", template, self.name).strip()

    def run(self, *command: str, text: str | None = None, check: bool = True) -> str:
        """Run a command as root and return what it printed. Raises when it fails, unless told not to."""
        return self.engine.docker("exec", "-i", self.name, *command, text=text, check=check)

    def shell(self, script: str, *, check: bool = True) -> str:
        """Run a shell script as root."""
        return self.run("sh", "-c", script, check=check)

    def write(self, path: str, text: str, mode: str = "0644") -> None:
        """Write a file."""
        self.run("sh", "-c", f"cat > {path} && chmod {mode} {path}", text=text)

    def write_all(self, files: Mapping[str, tuple[str, str]], then: str = "") -> None:
        """Write files, each with its contents and mode, and run a shell script behind them, all by one command."""
        each = (f"printf %s {quote(text)} > {path}\nchmod {mode} {path}" for path, (text, mode) in files.items())
        self.run("sh", "-e", text="\n".join([*each, then]))


@contextlib.contextmanager
def booted(engine: Engine, image: str, name: str) -> Iterator[Machine]:
    """Boot a machine, offer it when systemd is up, and take it away."""
    container = f"{engine.network}-{name}"
    try:
        boot = (*BOOT, *confinement())
        engine.docker("run", "-d", "--name", container, "--hostname", name, "--network", engine.network, *boot, image)
        machine = Machine(engine, container)
        await_boot(machine)
        yield machine
    finally:
        engine.docker("rm", "-f", "-v", container, check=False)


def await_boot(machine: Machine) -> None:
    """Wait until systemd has started everything."""
    ends = time.monotonic() + PATIENCE
    while (state := machine.run("systemctl", "is-system-running", check=False).strip()) != "running":
        assert time.monotonic() < ends, f"the machine is {state}: {machine.shell('systemctl --failed', check=False)}"
        time.sleep(0.2)
