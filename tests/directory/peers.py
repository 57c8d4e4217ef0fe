"""Servers with bad manners, each on a loopback port, for as long as a context lasts."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Manners: TypeAlias = "Callable[[socket.socket, bytes, threading.Event], None]"
EXTENDED, BIND, DONE = b"\x78", b"\x61", b"\x65"
"""Kinds of answers: to an extended operation, to a bind, the end of one to a search."""
TICK = 0.05
"""Seconds between two bytes of a peer that drips."""


class Peer:
    """A listening peer; ``heard`` is all that was sent to it, ``accepted`` how many came."""

    def __init__(self, manners: Manners | None) -> None:
        self.heard = bytearray()
        self.accepted = 0
        self._manners = manners
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._threads = [threading.Thread(target=self._accept, name="peer")]
        self.port: int = self._listener.getsockname()[1]

    def start(self) -> None:
        """Begin to answer; one without manners leaves everybody waiting."""
        self._threads[0].start()

    def stop(self) -> None:
        """End, and everybody's conversation with it."""
        self._over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            thread = threading.Thread(target=self._talk, args=(sock,), name="peer talks")
            self._threads.append(thread)
            thread.start()

    def _talk(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            sock.settimeout(TICK)
            if self._manners is None:
                self._over.wait()
                return
            while not self._over.is_set():
                with suppress(TimeoutError):
                    data = sock.recv(65536)
                    if not data:
                        return
                    self.heard += data
                    self._manners(sock, data, self._over)


@contextmanager
def peer(manners: Manners | None = None) -> Iterator[Peer]:
    """Run a peer."""
    made = Peer(manners)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def says(answer: bytes) -> Manners:
    """Answer everything with the same bytes."""

    def manners(sock: socket.socket, _request: bytes, _: threading.Event) -> None:
        sock.sendall(answer)

    return manners


def replies(*operations: bytes) -> Manners:
    """Answer the first request with these operations, in its own id and the ones after it, in one breath."""

    def manners(sock: socket.socket, request: bytes, _: threading.Event) -> None:
        sock.sendall(b"".join(message(number, each) for number, each in enumerate(operations, asked_by(request))))

    return manners


def message(number: int, operation: bytes) -> bytes:
    """Write an LDAP message."""
    inner = b"\x02\x04" + number.to_bytes(4, "big") + operation
    return b"\x30" + bytes([len(inner)]) + inner


def result(kind: bytes, code: int) -> bytes:
    """Write an operation that only tells a result."""
    return kind + bytes.fromhex("070a01") + bytes([code]) + bytes.fromhex("04000400")


def asked_by(request: bytes) -> int:
    """Tell the id of a short LDAP request."""
    return int.from_bytes(request[4 : 4 + request[3]], "big")


def hangs_up(sock: socket.socket, _request: bytes, _: threading.Event) -> None:
    """Close as soon as anything is said."""
    sock.shutdown(socket.SHUT_RDWR)


def drips(sock: socket.socket, _request: bytes, over: threading.Event) -> None:
    """Send an answer of 64 KiB, a byte at a time."""
    sock.sendall(b"\x30\x83\x01\x00\x00")
    while not over.wait(TICK):
        sock.sendall(b"\x00")
