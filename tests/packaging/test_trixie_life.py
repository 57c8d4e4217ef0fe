"""The package's life on the next Debian: the one that is built on this release, and the one that is built there."""

from __future__ import annotations

import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.packaging.test_life import CONFIGURE, LIB
from tests.system import bastion as bastions
from tests.system import engine as engines
from tests.system.engine import BARE, TRIXIE
from tests.system.machine import PATIENCE, booted
from tests.system.package import copy_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.engine import Engine
    from tests.system.machine import Machine

BUILDER = "pam-starling-builder-trixie"
# -d: nothing is compiled, and the compilers that Debian takes for granted are not installed.
BUILD = f"""FROM {engines.image_of(TRIXIE, BARE)}
RUN apt-get update -q && apt-get install -y -q --no-install-recommends debhelper dh-apparmor dh-python python3 scdoc \\
    && rm -rf /var/lib/apt/lists/*
COPY pam-starling /build/pam-starling
RUN cd /build/pam-starling && dpkg-buildpackage -d -us -uc -b && mv ../*.deb /root/built-here.deb && rm -r /build
"""
OURS = "find / -xdev \\( -path /proc -o -path /sys -o -path /root \\) -prune -o -iname '*starling*' -print"


@pytest.fixture(scope="module")
def image(engine: Engine, deb: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the package on trixie, in an image that is otherwise bare."""
    engines.build_image(engine, deb, bastions.people(), TRIXIE, (("bare", BARE),))
    context = tmp_path_factory.mktemp("trixie")
    copy_tree(context / "pam-starling")
    (context / "Dockerfile").write_text(BUILD, encoding="ascii")
    engine.docker("build", "--network=host", "-q", "-t", BUILDER, str(context))
    shutil.rmtree(context)
    return BUILDER


@pytest.fixture
def trixie(engine: Engine, image: str, deb: Path, newer_deb: Path) -> Iterator[Machine]:
    """Offer a booted trixie without the package, and in its /root the packages of both releases."""
    with booted(engine, image, "fresh-trixie") as started:
        engine.docker("cp", str(deb), f"{started.name}:/root/pam-starling.deb")
        engine.docker("cp", str(newer_deb), f"{started.name}:/root/newer.deb")
        yield started


def install(machine: Machine, package: str) -> None:
    machine.shell(f"DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends /root/{package}.deb")


def status(machine: Machine) -> str:
    return machine.run("starlingctl", "pam", "status", check=False)


def contents(listing: str) -> set[tuple[str, str, str]]:
    """Tell mode, owner and path of each entry."""
    rows = [line.split(maxsplit=5) for line in listing.splitlines()]
    return {(row[0], row[1], row[5]) for row in rows}


def test_the_package_that_is_built_there_holds_the_same(trixie: Machine, deb: Path) -> None:
    ours = subprocess.run(["/usr/bin/dpkg-deb", "-c", str(deb)], capture_output=True, text=True, check=True).stdout
    theirs = trixie.run("dpkg-deb", "-c", "/root/built-here.deb")
    # systemd's folder moved from /lib to /usr/lib between the releases; both are the same one.
    moved = {(mode, owner, path.replace("./lib/", "./usr/lib/")) for mode, owner, path in contents(ours)}
    assert contents(theirs) == moved


@pytest.mark.parametrize("package", ["pam-starling", "built-here"])
def test_it_is_installed_upgraded_removed_and_purged(trixie: Machine, package: str) -> None:
    install(trixie, package)
    trixie.shell("systemctl start starlingd.service")
    socket = trixie.shell("stat -c %i /run/starlingd/pam.sock")
    install(trixie, "newer")
    assert trixie.shell("stat -c %i /run/starlingd/pam.sock") == socket
    assert trixie.run("systemctl", "is-active", "starlingd.service").strip() == "active"
    trixie.shell("apt-get remove -y -q pam-starling")
    assert trixie.shell(f"ls {LIB} 2>/dev/null || true") == ""
    trixie.shell("apt-get purge -y -q pam-starling")
    assert trixie.shell(OURS) == ""
    assert trixie.run("systemctl", "is-system-running").strip() == "running"


def test_a_second_factor_that_nobody_confirms_is_taken_back_by_itself(trixie: Machine) -> None:
    before = trixie.run("cat", "/etc/pam.d/sshd")
    install(trixie, "built-here")
    trixie.shell(CONFIGURE)
    trixie.shell("starlingctl pam enable sshd --mode key --confirm-within 15s --yes")
    assert f"{LIB}/entry.py" in trixie.run("cat", "/etc/pam.d/sshd")
    assert "authenticationmethods publickey,keyboard-interactive:pam" in trixie.run("sshd", "-T")
    ends = time.monotonic() + 15 + PATIENCE
    while trixie.run("cat", "/etc/pam.d/sshd") != before or " pending " in status(trixie):
        assert time.monotonic() < ends, trixie.run("cat", "/etc/pam.d/sshd")
        time.sleep(0.3)
    assert "authenticationmethods any" in trixie.run("sshd", "-T")
    trixie.shell("apt-get purge -y -q pam-starling")
    assert trixie.run("cat", "/etc/pam.d/sshd") == before
