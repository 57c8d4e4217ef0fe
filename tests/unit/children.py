"""Real processes for tests, which end with them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starlingd.core.model import Process


def process_of(pid: int) -> Process:
    """Tell a process with its start time, as its own entry in /proc does."""
    return Process(pid, int(Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[19]))


@contextmanager
def child(*command: str, ready: bool = False) -> Iterator[Process]:
    """Offer a process that lives until it is killed; wait for its first line if it says when it is ``ready``."""
    running = subprocess.Popen(command or ("sleep", "1000"), stdout=subprocess.PIPE if ready else None)
    try:
        if running.stdout:
            with running.stdout as output:
                output.readline()
        yield process_of(running.pid)
    finally:
        running.kill()
        running.wait()
