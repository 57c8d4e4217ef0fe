"""Builds the .deb from the tree as it stands, in a copy, as a builder would."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
DIST = TREE / "dist"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


def build() -> Path:
    """Build dist/pam-starling_*.deb and return it. Raises with the log's end when the build fails."""
    DIST.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pam-starling-build-") as folder:
        source = Path(folder) / "pam-starling"
        copy_tree(source)
        return Path(shutil.copy2(build_in(source, ENVIRONMENT), DIST))


def copy_tree(source: Path) -> None:
    """Copy what belongs to the tree, committed or not."""
    source.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=TREE, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (TREE / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TREE / name, source / name)


def build_in(source: Path, environment: dict[str, str], umask: int = 0o022) -> Path:
    """Build the package of a source tree; it lies beside the tree. Raises with the log's end when the build fails."""
    done = subprocess.run(
        ["/usr/bin/dpkg-buildpackage", "-us", "-uc", "-b"],
        cwd=source, capture_output=True, text=True, check=False, env=environment, umask=umask,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the package does not build:\n{(done.stdout + done.stderr)[-4000:]}")
    [deb] = source.parent.glob("*.deb")
    return deb
