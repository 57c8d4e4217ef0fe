"""The package's own tests, as Debian runs them, by autopkgtest on a booted machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.system.package import copy_tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.system.machine import Machine


def test_the_packages_own_tests_pass(machine: Machine, tmp_path: Path) -> None:
    source = tmp_path / "pam-starling"
    copy_tree(source)
    machine.engine.docker("cp", str(source), f"{machine.name}:/root/source")
    said = machine.shell(
        "chown -R root: /root/source; cd /root && autopkgtest -B ./pam-starling.deb ./source/ -- null 2>&1",
        check=False,
    )
    assert "smoke                PASS" in said, said[-6000:]
    assert "FAIL" not in said
