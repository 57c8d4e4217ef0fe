"""A real OpenSSH client on a pseudo-terminal: types answers at prompts, and tells what was shown."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 40.0
PROMPT = b"assword: "
"""How every prompt of ours ends, and ssh's own for a Unix password too."""


@dataclass
class Terminal:
    """One running command. ``shown`` is all it printed so far."""

    pid: int
    descriptor: int
    shown: bytes = b""
    status: int | None = None
    _answered: int = field(default=0)

    @classmethod
    def run(cls, command: list[str]) -> Terminal:
        """Start a command on a terminal of its own."""
        pid, descriptor = pty.fork()
        if pid == 0:
            os.execv(command[0], command)  # the child
        return cls(pid, descriptor)

    @property
    def text(self) -> str:
        """All that was shown, as text."""
        return re.sub(r"\r*\n", "\n", self.shown.decode("utf-8", "replace"))

    def await_prompt(self, patience: float = PATIENCE) -> str:
        """Wait for the next unanswered prompt and return its line."""
        self._read_until(lambda: self.shown.count(PROMPT) > self._answered, patience, "a prompt")
        return self.text.rstrip("\n").splitlines()[-1]

    def type(self, answer: str | bytes) -> None:
        """Answer the prompt."""
        self._answered = self.shown.count(PROMPT)
        data = answer if isinstance(answer, bytes) else answer.encode()
        os.write(self.descriptor, data + b"\n")

    def await_text(self, text: str, patience: float = PATIENCE, begun: int = 0) -> None:
        """Wait until ``text`` was shown, behind the first ``begun`` characters."""
        self._read_until(lambda: text in self.text[begun:], patience, repr(text))

    def await_end(self, patience: float = PATIENCE) -> int:
        """Wait for the command's end and return its exit status."""
        self._read_until(lambda: self.status is not None, patience, "the end")
        assert self.status is not None
        return self.status

    def await_text_or_end(self, text: str, patience: float = PATIENCE) -> bool:
        """Wait until ``text`` was shown or the command has ended; tell whether it was shown."""
        self._read_until(lambda: text in self.text or self.status is not None, patience, f"{text!r} and no end")
        return text in self.text

    def kill(self) -> None:
        """End the command by force, as a client that vanishes."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            _, status = os.waitpid(self.pid, 0)
            self.status = os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """Leave nothing behind."""
        self.kill()
        os.close(self.descriptor)

    def _read_until(self, done: Callable[[], bool], patience: float, what: str) -> None:
        ends = time.monotonic() + patience
        while not done():
            left = ends - time.monotonic()
            if left <= 0 or self.status is not None:
                raise AssertionError(f"no {what} within {patience} s; status {self.status}, shown so far:\n{self.text}")
            if select.select([self.descriptor], [], [], min(left, 1.0))[0]:
                self._read()

    def _read(self) -> None:
        data = b""
        with contextlib.suppress(OSError):  # EIO: the command's side of the terminal is closed
            data = os.read(self.descriptor, 65536)
        self.shown += data
        if not data and self.status is None:
            _, status = os.waitpid(self.pid, 0)
            self.status = os.waitstatus_to_exitcode(status)
