"""Prepares a bare Debian: the packages that tests and demo need, and the development Python in .venv."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
VENV = TREE / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = TREE / "requirements-dev.txt"
AUTHY = VENV / "authy"
AUTHY_REQUIREMENTS = TREE / "tests" / "sandbox" / "requirements-authy.txt"
PACKAGES = (
    # what the product imports
    "libpam-python python3-click python3-regex python3-requests python3-systemd sqlite-utils python3-rich "
    "python3-pampy python3-phonenumbers python3-prometheus-client python3-cryptography python3-ldap3 "
    "python3-qrcode "
    # what runs the tests
    "python3-venv python3-pip python3-six python3-selenium python3-paramiko pamtester chromium chromium-driver "
    "openssh-client openssh-server "
    "slapd ldap-utils samba samba-ad-dc samba-ad-provision samba-dsdb-modules samba-vfs-modules winbind "
    "libpam-google-authenticator libpam-oath oathtool rsync git iproute2 procps util-linux ca-certificates "
    # what builds the package and the bastion
    "build-essential debhelper apparmor dh-apparmor dh-python dpkg-dev fakeroot lintian scdoc docker.io mmdebstrap "
    "piuparts zsh docker-compose"
).split()


SERVERS = (
    ("slapd", "slapd"),
    ("samba", "smbd"),
    ("samba", "nmbd"),
    ("samba-ad-dc", "samba-ad-dc"),
    ("winbind", "winbind"),
)
"""Packages and units of what the tests start themselves: it must never start with the machine."""


def prepare() -> None:
    """Install what is missing; does nothing, quickly, when nothing is."""
    if os.geteuid() != 0:
        sys.exit("./dev needs root: it installs packages, boots containers and tests PAM")
    _install_packages()
    _make_venv()


def _install_packages() -> None:
    listed = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *PACKAGES],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    installed = {line.split()[0] for line in listed.stdout.splitlines() if line.endswith(" installed")}
    missing = [package for package in PACKAGES if package not in installed]
    if not missing:
        return
    print(f"installing {' '.join(missing)}", flush=True)
    _mask([unit for package, unit in SERVERS if package in missing])
    # Nothing that is installed here may start by itself.
    policy = Path("/usr/sbin/policy-rc.d")
    made_policy = not policy.exists()
    if made_policy:
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
        policy.chmod(0o755)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        _quietly(["apt-get", "update", "-q"], environment)
        _quietly(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], environment)
    finally:
        if made_policy:
            policy.unlink()


def _mask(servers: list[str]) -> None:
    """Keep servers that are about to be installed from being started at the next boot."""
    units = Path("/etc/systemd/system")
    units.mkdir(parents=True, exist_ok=True)
    for server in servers:
        unit = units / f"{server}.service"
        if not unit.exists() and not unit.is_symlink():
            unit.symlink_to("/dev/null")


def _make_venv() -> None:
    if not _is_made_by(REQUIREMENTS, VENV):
        print("making .venv", flush=True)
        # Debian's own Python and Debian's own libraries: what is tested is what is installed.
        _quietly(["/usr/bin/python3", "-m", "venv", "--clear", "--system-site-packages", str(VENV)], dict(os.environ))
        _install(REQUIREMENTS, VENV)
    if not _is_made_by(AUTHY_REQUIREMENTS, AUTHY):
        _install(AUTHY_REQUIREMENTS, AUTHY, "--no-deps", "--upgrade", "--target", str(AUTHY))


def _is_made_by(requirements: Path, place: Path) -> bool:
    stamp = place / "requirements.sha256"
    return stamp.exists() and stamp.read_text(encoding="ascii") == _digest(requirements)


def _install(requirements: Path, place: Path, *options: str) -> None:
    _quietly([str(PYTHON), "-m", "pip", "install", "-q", *options, "-r", str(requirements)], dict(os.environ))
    (place / "requirements.sha256").write_text(_digest(requirements), encoding="ascii")


def _digest(requirements: Path) -> str:
    return hashlib.sha256(requirements.read_bytes()).hexdigest()


def _quietly(command: list[str], environment: dict[str, str]) -> None:
    """Run a command; show what it printed only when it failed."""
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.stdout.buffer.write(done.stdout)
        sys.exit(f"failed: {' '.join(command[:3])} …")
