"""What ./dev harness starts: the services of compose.yaml on an engine, and the bastion configured for them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.directory.population import SECRET
from tests.directory.processes import answers
from tests.sandbox.running import Sandbox
from tests.system.bastion import Bastion, hand_out_keys
from tests.system.machine import PATIENCE, Machine, await_boot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.engine import Engine

HERE = Path(__file__).parent
TREE = HERE.parents[1]
CREDENTIALS = "/etc/pam-starling/credentials"


@dataclass
class Harness:
    """The services, as seen from this machine."""

    bastion: Bastion
    directory: Machine
    sandbox: Sandbox


@contextlib.contextmanager
def harness(engine: Engine, state: Path) -> Iterator[Harness]:
    """Start the services, offer them once they can be used, and take them away."""
    for folder in ("sandbox", "directory", "client"):
        (state / folder).mkdir(parents=True)
    try:
        _compose(engine, state, "up", "-d")
        yield _made_ready(engine, state)
    finally:
        _compose(engine, state, "down", "-v", "-t", "5")


def _made_ready(engine: Engine, state: Path) -> Harness:
    directory = Machine(engine, _container(engine, "directory"))
    sandbox = Sandbox(state / "sandbox")
    sandbox.await_readiness()
    sandbox.url = f"https://{Machine(engine, _container(engine, 'sandbox')).address}"
    bastion = Bastion(engine, _container(engine, "bastion"), sandbox, state / "client")
    await_boot(bastion)
    _await_directory(directory)
    hand_out_keys(bastion)
    _configure(bastion, state)
    return Harness(bastion, directory, sandbox)


def _configure(bastion: Bastion, state: Path) -> None:
    """Put our configuration in place, switch the second factor on as the recipe for key mode says."""
    bastion.configure("key")
    for name in ("sandbox", "directory"):
        authority = (state / name / "ca.pem").read_text(encoding="ascii")
        bastion.write(f"/etc/pam-starling/{name}-ca.pem", authority)
    bastion.write(f"'{CREDENTIALS}/ldap_server_policy harness.bind_password'", SECRET, "0600")
    bastion.write("/etc/pam-starling/starling.conf", (HERE / "starling.conf").read_text(encoding="utf-8"), "0640")
    bastion.shell("starlingctl check-config && systemctl restart starlingd.service")


def _await_directory(directory: Machine) -> None:
    ends = time.monotonic() + PATIENCE
    while not answers(directory.address, 636):
        assert time.monotonic() < ends, f"no directory: {directory.engine.docker('logs', directory.name)}"
        time.sleep(0.1)


def _container(engine: Engine, service: str) -> str:
    wanted = (f"label=com.docker.compose.project={_project(engine)}", f"label=com.docker.compose.service={service}")
    options = [option for condition in wanted for option in ("--filter", condition)]
    [name] = engine.docker("ps", *options, "--format", "{{.Names}}").split()
    return name


def _compose(engine: Engine, state: Path, *arguments: str) -> None:
    command = ["/usr/bin/docker-compose", "-f", str(HERE / "compose.yaml"), "-p", _project(engine), *arguments]
    environment = {
        **os.environ, "DOCKER_HOST": f"unix://{engine.socket}", "TREE": str(TREE), "STATE": str(state),
    }  # fmt: skip
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"docker-compose {arguments[0]}: {done.stderr.strip()}")


def _project(engine: Engine) -> str:
    return f"{engine.network}-harness"
