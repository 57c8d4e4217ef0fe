"""Built twice, by builders who differ in all that should not matter, the package is the same to the byte."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.system.package import ENVIRONMENT, build_in, copy_tree

ELSEWHERE = ENVIRONMENT | {
    "TZ": "Pacific/Kiritimati",
    "LC_ALL": "C",
    "HOME": "/nonexistent",
    "USER": "somebody",
    "DEB_BUILD_OPTIONS": "parallel=7",
}
LONG_AGO = 1_000_000_000.0


def test_the_package_is_the_same_wherever_and_whenever_it_is_built(tmp_path: Path) -> None:
    made = []
    for name, environment, umask in (("one", ENVIRONMENT, 0o022), ("another/place", ELSEWHERE, 0o002)):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        source = folder / "pam-starling"
        copy_tree(source)
        if umask != 0o022:
            age(source)
        made.append(build_in(source, environment, umask))
    first, second = (path.read_bytes() for path in made)
    assert first == second, difference(*made)


def age(source: Path) -> None:
    """Give every file another time, and let its group write it, as another checkout would."""
    for path in source.rglob("*"):
        if path.is_file():
            path.chmod(path.stat().st_mode | 0o020)
            os.utime(path, (LONG_AGO, LONG_AGO))


def difference(one: Path, other: Path) -> str:
    """Tell which entries of the packages differ."""
    listings = [
        set(
            subprocess.run(["/usr/bin/dpkg-deb", "-c", path], capture_output=True, text=True, check=True).stdout.split(
                "\n"
            )
        )
        for path in (one, other)
    ]
    return "\n".join(sorted(listings[0] ^ listings[1])) or "the contents of files differ"
