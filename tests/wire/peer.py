"""A daemon that says what a test's script has it say, packet for packet."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import pytest

from pam_starling.protocol import decode, encode

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 15.0


class Read:
    """In a script: wait for the module's next packet."""


class Close:
    """In a script: hang up. A script without it ends by waiting until the module hangs up."""


READ, CLOSE = Read(), Close()
Step = bytes | Read | Close | Callable[[], object]


def packet(op: str, **fields: str) -> bytes:
    """Make a packet."""
    return encode(op, fields)


HELLO = packet("hello", v="1")
SUCCESS = packet("done", result="success")
ASK = packet("ask", style="echo_on", text="Code: ")


class Peer:
    """Listens at ``path``; the nth connection gets the nth of ``scripts``, and any further one fails the test.

    A script's steps are packets to send, READ, CLOSE, and functions to call. ``received`` holds what the module said,
    one list of packets for each connection.
    """

    def __init__(self, path: Path, *scripts: Sequence[Step]) -> None:
        self.received: list[list[tuple[str, dict[str, str]]]] = []
        self._scripts = scripts
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(PATIENCE)
        self._thread = threading.Thread(target=self._serve)
        self._failures: list[Exception] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(PATIENCE)
        with self._listener:
            self._listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                self._listener.accept()
        assert not self._thread.is_alive(), "the script did not come to its end"
        assert not self._failures, self._failures

    def _serve(self) -> None:
        try:
            for script in self._scripts:
                self.received.append([])
                sock, _ = self._listener.accept()
                with sock, suppress(ConnectionError):  # a module that has heard enough is gone
                    sock.settimeout(PATIENCE)
                    self._play(sock, script)
        except OSError as error:
            self._failures.append(error)

    def _play(self, sock: socket.socket, script: Sequence[Step]) -> None:
        for step in script:
            if isinstance(step, Close):
                return
            if isinstance(step, Read):
                self.received[-1].append(decode(sock.recv(65536)))
            elif isinstance(step, bytes):
                sock.send(step)
            else:
                step()
        while data := sock.recv(65536):
            self.received[-1].append(decode(data))
