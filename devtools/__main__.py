"""The verbs of ./dev."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

from devtools import machine
from devtools.machine import TREE


def demo(_: list[str]) -> int:
    """Build the package, boot a bastion from it, and log in: by a push, then by a code."""
    machine.prepare()
    return _python("-m", "tests.system.demo")


def test(arguments: list[str]) -> int:
    """Run everything CI runs: linters, contracts, unit, wire, packaging and system tests (arguments go to pytest)."""
    machine.prepare()
    return _python("-m", "pytest", *arguments)


def unit(arguments: list[str]) -> int:
    """Run what needs no container: all but the system and packaging tests."""
    machine.prepare()
    return _python("-m", "pytest", "tests/unit", "tests/contract", "tests/wire", "tests/sandbox", *arguments)


def lint(_: list[str]) -> int:
    """Run ruff, mypy and the import contracts."""
    machine.prepare()
    return _python("-m", "pytest", "tests/unit/test_linters.py")


def deb(_: list[str]) -> int:
    """Build dist/pam-starling_*.deb."""
    machine.prepare()
    return _python("-c", "from tests.system import package; print(package.build())")


def bench(arguments: list[str]) -> int:
    """Measure what README quotes."""
    machine.prepare()
    return _python("-m", "bench", *arguments)


def harness(arguments: list[str]) -> int:
    """Leave a bastion, a directory and the sandbox running to try configurations on, until ./dev harness down."""
    machine.prepare()
    return _python("-m", "tests.harness", *arguments)


def clean(_: list[str]) -> int:
    """Remove what was built: dist/, .venv/, caches. Images and downloads in /var/cache stay."""
    doomed = [".venv", "dist", "build", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"]
    return subprocess.call(["rm", "-rf", *doomed], cwd=TREE)


VERBS: dict[str, Callable[[list[str]], int]] = {
    function.__name__: function for function in (demo, test, unit, lint, deb, bench, harness, clean)
}


def _python(*arguments: str) -> int:
    """Run the development Python in the tree; a signal to us reaches it, and it gets the time to clean up."""
    environment = {**os.environ, "PYTHONPATH": f"{TREE}:{TREE / 'daemon'}", "PYTHONDONTWRITEBYTECODE": "1"}
    child = subprocess.Popen([str(machine.PYTHON), *arguments], cwd=TREE, env=environment)
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGINT))
    signal.signal(signal.SIGINT, lambda *_: None)  # the terminal sends it to the child as well
    return child.wait()


def main() -> int:
    """Run the verb, or list them."""
    verb = VERBS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if verb is None:
        print("Usage: ./dev VERB\n")
        for name, function in VERBS.items():
            print(f"  {name:8} {function.__doc__}")
        return 0 if len(sys.argv) == 1 else 2
    return verb(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
