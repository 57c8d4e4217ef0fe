"""A fresh machine for each test: the package's life is told in what it leaves on one."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.system.engine import BARE
from tests.system.machine import booted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.engine import Engine
    from tests.system.machine import Machine

NEWER = "0.1.0+later"


@pytest.fixture
def machine(engine: Engine, deb: Path, newer_deb: Path) -> Iterator[Machine]:
    """Offer a booted machine without the package, and both packages in its /root."""
    with booted(engine, BARE, "fresh") as started:
        engine.docker("cp", str(deb), f"{started.name}:/root/pam-starling.deb")
        engine.docker("cp", str(newer_deb), f"{started.name}:/root/newer.deb")
        yield started


@pytest.fixture
def installed(machine: Machine) -> Machine:
    """Offer the machine with the package installed, as an administrator would."""
    machine.shell("apt-get install -y -q --no-install-recommends /root/pam-starling.deb")
    return machine


@pytest.fixture(scope="session")
def newer_deb(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Offer the same package with a higher version and a module that can be told from the old one."""
    folder = tmp_path_factory.mktemp("newer")
    tree = unpacked(deb, folder, NEWER)
    module = tree / "usr/lib/pam-starling/module/pam_starling/__init__.py"
    module.write_text(module.read_text(encoding="utf-8") + f'NEWER = "{NEWER}"\n', encoding="utf-8")
    return packed(tree, folder / "newer.deb")


def unpacked(deb: Path, folder: Path, version: str) -> Path:
    """Unpack the package and give it another version."""
    tree = folder / "tree"
    subprocess.run(["/usr/bin/dpkg-deb", "-R", str(deb), str(tree)], check=True)
    control = tree / "DEBIAN" / "control"
    lines = control.read_text(encoding="utf-8").splitlines()
    changed = [f"Version: {version}" if line.startswith("Version:") else line for line in lines]
    control.write_text("\n".join(changed) + "\n", encoding="utf-8")
    return tree


def packed(tree: Path, made: Path) -> Path:
    """Make a package of a tree."""
    subprocess.run(["/usr/bin/dpkg-deb", "--root-owner-group", "-b", str(tree), str(made)], check=True)
    return made
