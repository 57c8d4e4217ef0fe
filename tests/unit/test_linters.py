"""The linters are tests."""

import os
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def run(*command: str) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{TREE}:{TREE / 'daemon'}"}
    done = subprocess.run(command, cwd=TREE, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    run(str(BIN / "ruff"), "check", ".")


def test_every_type_is_right() -> None:
    run(str(BIN / "mypy"))


def test_imports_point_downwards() -> None:
    run(str(BIN / "lint-imports"))
