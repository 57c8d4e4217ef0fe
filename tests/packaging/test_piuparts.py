"""piuparts, Debian's own test of installing, upgrading, removing and purging, in a minimal Debian."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.packaging.conftest import packed, unpacked
from tests.system.engine import minimal

OLDER = "0.1.0~older"
LEFT_BY_SYSTEMD = (
    "--ignore=/root/.ssh/",
    "--ignore-regex=/var/(cache|lib|log)/private",
    "--ignore-regex=/var/lib/systemd/(coredump|pstore)",
)
"""systemd-tmpfiles makes these when systemd is installed, as one of our dependencies; purging systemd leaves them."""


def test_installing_upgrading_and_purging_leaves_nothing_behind(deb: Path, tmp_path: Path) -> None:
    base, archive = tmp_path / "base", tmp_path / "archive"
    for folder in (base, archive):
        folder.mkdir()
    subprocess.run(["/usr/bin/tar", "-C", str(base), "-xf", str(minimal("bookworm"))], check=True)
    packed(unpacked(deb, tmp_path, OLDER), archive / f"pam-starling_{OLDER}_all.deb")
    listed = subprocess.run(
        ["/usr/bin/dpkg-scanpackages", "-m", "."], cwd=archive, capture_output=True, text=True, check=True
    )
    (archive / "Packages").write_text(listed.stdout, encoding="utf-8")
    done = subprocess.run(
        [
            *("/usr/sbin/piuparts", "--existing-chroot", str(base), "--distribution", "bookworm", "--no-eatmydata"),
            *("--mirror", f"{mirror(base)} main", "--bindmount", str(archive)),
            *("--extra-repo", f"deb [trusted=yes] file:{archive} ./", *LEFT_BY_SYSTEMD, str(deb)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert f"Unpacking pam-starling (0.1.0) over ({OLDER})" in done.stdout, "it did not upgrade"
    assert "PASS: Installation, upgrade and purging tests." in done.stdout


def mirror(base: Path) -> str:
    """Tell where the base came from."""
    sources = (base / "etc/apt/sources.list").read_text(encoding="utf-8")
    found = re.search(r"^deb (\S+) bookworm main", sources, re.MULTILINE)
    assert found is not None, sources
    return found[1]
