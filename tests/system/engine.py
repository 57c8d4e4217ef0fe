"""A Docker engine of our own: started here, stopped here by its pid, in the way of nobody else's.

Containers live on one network that belongs to the run; nothing of them reaches further than this machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE = Path("/var/cache/pam-starling-dev")
RUN = Path("/run/pam-starling-dev")
DATA = Path("/var/lib/pam-starling-dev/docker")
BASE = "debian:bookworm"
IMAGE = "pam-starling-bastion"
PATIENCE = 60.0
HERE = Path(__file__).parent
BOOT = (
    "--cap-add", "SYS_ADMIN", "--tmpfs", "/run", "--tmpfs", "/run/lock",
    "--cgroupns", "host", "-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw",
)  # fmt: skip
"""What a booted systemd needs (FIELD-FACTS)."""


@dataclass(frozen=True)
class Engine:
    """A running engine; ``gateway`` is this machine's address on the network of the run."""

    socket: Path
    network: str
    gateway: str = ""

    def docker(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        """Run the client; return what it printed. Raises with the client's own words when it fails."""
        done = subprocess.run(
            ["/usr/bin/docker", "-H", f"unix://{self.socket}", *arguments],
            input=text, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"docker {' '.join(arguments[:4])}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """Start an engine with a network, and stop both."""
    RUN.mkdir(parents=True, exist_ok=True)
    run = RUN / str(os.getpid())
    run.mkdir()
    started = Engine(run / "docker.sock", f"pam-starling-{os.getpid()}")
    with (run / "dockerd.log").open("wb") as log:
        daemon = subprocess.Popen(
            [
                "/usr/sbin/dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "-H",
                f"unix://{started.socket}", "--data-root", str(DATA), "--exec-root", str(run / "exec"),
                "--pidfile", str(run / "dockerd.pid"),
            ],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        _await(started, daemon, run)
        started.docker("network", "create", started.network)
        template = "{{(index .IPAM.Config 0).Gateway}}"
        gateway = started.docker("network", "inspect", "-f", template, started.network).strip()
        yield Engine(started.socket, started.network, gateway)
        started.docker("network", "rm", started.network, check=False)
    finally:
        daemon.terminate()
        daemon.wait(PATIENCE)
        shutil.rmtree(run, ignore_errors=True)


def build_image(on: Engine, deb: Path, people: list[str]) -> None:
    """Build the bastion's image from the package; the layers below it are kept from run to run."""
    if not on.docker("images", "-q", BASE).strip():
        _make_base(on)
    context = RUN / f"context-{os.getpid()}"
    context.mkdir()
    try:
        shutil.copy(HERE / "Dockerfile", context)
        shutil.copy(deb, context)
        (context / "people.txt").write_text("".join(f"{name}\n" for name in people), encoding="ascii")
        on.docker("build", "--network=host", "-q", "-t", IMAGE, str(context))
    finally:
        shutil.rmtree(context)


def _make_base(on: Engine) -> None:
    """Pull Debian, or make it from the packages where no image can be pulled."""
    try:
        on.docker("pull", "-q", BASE)
    except RuntimeError:
        CACHE.mkdir(parents=True, exist_ok=True)
        tar, half = CACHE / "bookworm.tar", CACHE / f"bookworm.{os.getpid()}.tar"
        if not tar.exists():
            command = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates", "bookworm", str(half)]
            subprocess.run(command, check=True)
            half.rename(tar)
        on.docker("import", str(tar), BASE)


def _await(started: Engine, daemon: subprocess.Popen[bytes], run: Path) -> None:
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            started.docker("info")
        except RuntimeError:
            if daemon.poll() is not None or time.monotonic() > ends:
                raise RuntimeError((run / "dockerd.log").read_text(encoding="utf-8")[-2000:]) from None
            time.sleep(0.1)
        else:
            return
