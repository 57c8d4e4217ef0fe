"""Servers as processes: started by a test, ended by their id, with everything they need in a directory of their own."""

from __future__ import annotations

import select
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PATIENCE = 120.0
"""Seconds that a server may take to start or to stop."""


class Server:
    """A process that listens; what it prints goes to ``log``."""

    def __init__(self, command: Sequence[str], log: Path, is_up: Callable[[], bool]) -> None:
        # A test run that is killed takes its servers along.
        self._command = ["/usr/bin/setpriv", "--pdeathsig", "TERM", *command]
        self._log = log
        self._is_up = is_up
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        ends = time.monotonic() + PATIENCE
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > ends:
                self.stop()
                raise RuntimeError(
                    f"{self._command[3]} did not start:\n{self._log.read_text(errors='replace')[-3000:]}"
                )
            select.select([], [], [], 0.02)

    def stop(self) -> None:
        """End it, by force if it must be."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process is None:
            raise RuntimeError("not running")
        self._process.send_signal(number)


def answers(host: str, port: int) -> bool:
    """Tell whether somebody listens there."""
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def free_ports(host: str = "127.0.0.1") -> tuple[int, int]:
    """Find two ports that nobody listens on."""
    with socket.socket() as one, socket.socket() as other:
        one.bind((host, 0))
        other.bind((host, 0))
        return one.getsockname()[1], other.getsockname()[1]
