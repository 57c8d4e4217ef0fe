"""A Docker engine of our own: started here, stopped here by its pid, in the way of nobody else's.

Containers live on one network that belongs to the run; nothing of them reaches further than this machine. Images are
kept from run to run; runs at the same time have a store each.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE = Path("/var/cache/pam-starling-dev")
RUN = Path("/run/pam-starling-dev")
DATA = Path("/var/lib/pam-starling-dev")
BOOKWORM, TRIXIE = "bookworm", "trixie"
BARE = "pam-starling-bare"
"""All but the package: what an administrator installs it on."""
IMAGE = "pam-starling-bastion"
STAGES = (("bare", BARE), ("bastion", IMAGE))
SERVICES_STAGE = ("services", "pam-starling-services")
PATIENCE = 60.0
HERE = Path(__file__).parent
BOOT = (
    "--cap-add", "SYS_ADMIN", "--tmpfs", "/run", "--tmpfs", "/run/lock",
    "-v", "/sys/fs/cgroup:/sys/fs/cgroup:rw",
)  # fmt: skip
"""What a booted systemd needs (FIELD-FACTS), besides the control groups of the host, which the engine gives to all."""
APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
PROFILE = HERE.parents[1] / "etc" / "apparmor" / "starlingd"


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
            input=text or "", capture_output=True, text=True, check=False, start_new_session=True,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"docker {' '.join(arguments[:4])}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """Start an engine with a network, and stop both."""
    with _store() as data, _run_folder(data.name) as run, _dockerd(run, data) as started, _network(started) as gateway:
        yield replace(started, gateway=gateway)


@contextlib.contextmanager
def _run_folder(name: str) -> Iterator[Path]:
    """Make the folder that belongs to a store, and take it away; a run that was killed may have left one."""
    run = RUN / name
    _await_end_of(run / "dockerd.pid")
    _remove_run_folder(run)
    run.mkdir(parents=True)
    try:
        yield run
    finally:
        _remove_run_folder(run)


def _await_end_of(pidfile: Path) -> None:
    """Wait for the engine of a run that was killed: it is still ending its containers."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        try:
            name = Path(f"/proc/{int(pidfile.read_text(encoding='ascii'))}/comm").read_text(encoding="ascii")
        except (OSError, ValueError):
            return
        if name.strip() != "dockerd":
            return
        time.sleep(0.2)


def _remove_run_folder(run: Path) -> None:
    # dockerd ends without unmounting its own network namespace.
    for mounted in run.glob("exec/netns/*"):
        subprocess.run(["/usr/bin/umount", "-q", str(mounted)], check=False)
    if run.exists():
        shutil.rmtree(run)


@contextlib.contextmanager
def _store() -> Iterator[Path]:
    """Take the first store of images that no other run uses."""
    DATA.mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        with (DATA / f"{number}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield DATA / f"docker-{number}"
            return


@contextlib.contextmanager
def _dockerd(run: Path, data: Path) -> Iterator[Engine]:
    started = Engine(run / "docker.sock", f"pam-starling-{os.getpid()}")
    namespace = f"pam-starling-{data.name}"
    # Should we be killed, the kernel ends dockerd, and that its containers.
    with (run / "dockerd.log").open("wb") as log:
        daemon = subprocess.Popen(
            [
                "/usr/bin/setpriv", "--pdeathsig", "TERM", "/usr/sbin/dockerd",
                "--iptables=false", "--ip6tables=false", "--bridge=none", "--default-cgroupns-mode=host",
                "-H", f"unix://{started.socket}", "--pidfile", str(run / "dockerd.pid"),
                "--data-root", str(data), "--exec-root", str(run / "exec"),
                "--containerd-namespace", namespace, "--containerd-plugins-namespace", f"{namespace}-plugins",
            ],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        _await(started, daemon, run)
        # What a run that was killed left here.
        started.docker("container", "prune", "-f")
        started.docker("network", "prune", "-f")
        yield started
    finally:
        daemon.terminate()
        daemon.wait(PATIENCE)


@contextlib.contextmanager
def _network(on: Engine) -> Iterator[str]:
    """Make the network of the run; offer its gateway, which is this machine."""
    try:
        on.docker("network", "create", on.network)
        yield on.docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", on.network).strip()
    finally:
        _clear(on)


def _clear(on: Engine) -> None:
    """Remove all containers and the network, whatever an interrupted client had the engine begin."""
    ends = time.monotonic() + PATIENCE
    while on.docker("network", "ls", "-q", "--filter", f"name={on.network}").strip() and time.monotonic() < ends:
        for container in on.docker("ps", "-aq").split():
            on.docker("rm", "-f", "-v", container, check=False)
        on.docker("network", "rm", on.network, check=False)


def has_apparmor() -> bool:
    """Tell whether this machine's kernel, which the containers share, has AppArmor."""
    return APPARMOR.exists() and APPARMOR.read_text(encoding="ascii").startswith("Y")


def confinement() -> tuple[str, ...]:
    """Load the daemon's profile where the kernel has AppArmor, since no container may; tell docker what that needs."""
    if not has_apparmor():
        return ()
    subprocess.run(["/usr/sbin/apparmor_parser", "--replace", "--skip-cache", str(PROFILE)], check=True)
    return ("--security-opt", "apparmor=unconfined")  # docker's own profile would not let systemd change to ours


def image_of(release: str, image: str = IMAGE) -> str:
    """Name an image of a release."""
    return image if release == BOOKWORM else f"{image}-{release}"


def build_image(
    on: Engine, deb: Path, people: list[str], release: str = BOOKWORM, stages: tuple[tuple[str, str], ...] = STAGES
) -> None:
    """Build the images with and without the package; the layers below it are kept from run to run."""
    base = f"debian:{release}"
    if not on.docker("images", "-q", base).strip():
        _make_base(on, release)
    context = RUN / f"context-{os.getpid()}"
    context.mkdir()
    try:
        shutil.copy(HERE / "Dockerfile", context)
        shutil.copy(deb, context)
        (context / "people.txt").write_text("".join(f"{name}\n" for name in people), encoding="ascii")
        for stage, image in stages:
            named = ("--build-arg", f"BASE={base}", "--target", stage, "-t", image_of(release, image))
            on.docker("build", "--network=host", "-q", *named, str(context))
        on.docker("image", "prune", "-f")
    finally:
        shutil.rmtree(context)


def _make_base(on: Engine, release: str) -> None:
    """Pull Debian, or make it from the packages where no image can be pulled."""
    base = f"debian:{release}"
    try:
        on.docker("pull", "-q", base)
    except RuntimeError:
        on.docker("import", str(minimal(release)), base)


def minimal(release: str) -> Path:
    """Make a minimal Debian from the packages, once, and tell the tar it lies in."""
    CACHE.mkdir(parents=True, exist_ok=True)
    tar, half = CACHE / f"{release}.tar", CACHE / f"{release}.{os.getpid()}.tar"
    if not tar.exists():
        command = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates", release, str(half)]
        subprocess.run(command, check=True)
        half.rename(tar)
    return tar


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
