"""What one question to a directory may still use, the sockets that keep to it, and the one kind of failure there is.

A socket's own time-out starts anew with every byte, so a server that drips could hold a thread for ever: here each
receive and send gets what is left of the whole question. Nothing here may call an outage of a directory "unreachable":
that word opens doors (SEMANTICS §10), and a directory's outage never does.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING, TypeVar

from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer

T = TypeVar("T")

PORT = "directory"
"""What the directory is called in an ``Unavailable``."""

MAX_RECEIVED = 64 * 1024 * 1024
"""Most bytes that the answers to one question may have in all: a group of half a million members is shorter."""


class Outage(Unavailable):
    """One server could not be used. Another one may answer the same question."""

    def __init__(self, detail: str, fault: Fault = Fault.BROKEN) -> None:
        super().__init__(PORT, fault, detail)


class Refusal(Unavailable):
    """The directory answered, and what it said is of no use: to ask another server would be to ask the same again."""

    def __init__(self, detail: str, fault: Fault = Fault.BROKEN) -> None:
        super().__init__(PORT, fault, detail)


class Budget:
    """Time and bytes for one question; used by one thread at a time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self._received = 0

    def left(self) -> float:
        """Seconds left, more than 0; raises Outage when there are none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise self.spent()
        return left

    def share(self, among: int) -> Budget:
        """Make a budget of an equal share of the time that is left; raises Outage when there is none."""
        return Budget(self.left() / among)

    def spent(self) -> Outage:
        """Make the outage of a question whose time is up."""
        return Outage(f"no answer within {self._seconds:.2g} s")

    def receive(self, count: int) -> None:
        """Note that ``count`` bytes arrived; raises Refusal when there are more than may be."""
        self._received += count
        if self._received > MAX_RECEIVED:
            raise Refusal("answer too long")

    def outage(self, error: OSError, doing: str) -> Outage:
        """Name what ``error`` means; ``doing`` says during what, for the log."""
        if isinstance(error, TimeoutError):
            return self.spent()
        if isinstance(error, ssl.SSLCertVerificationError):
            return Outage(f"{doing}: certificate: {error.verify_message}", Fault.MISCONFIGURED)
        if isinstance(error, ssl.SSLError):
            return Outage(f"{doing}: TLS: {error.reason or type(error).__name__}")
        return Outage(f"{doing}: {error.strerror or type(error).__name__}")


class PlainSocket(socket.socket):
    """A socket that keeps to ``budget``, which whoever uses it next sets anew."""

    budget: Budget

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive as ``socket.recv``, counted and bounded."""
        data = bounded(self, lambda: super(PlainSocket, self).recv(bufsize, flags), "read")
        self.budget.receive(len(data))
        return data

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        """Send as ``socket.sendall``, bounded."""
        bounded(self, lambda: super(PlainSocket, self).sendall(data, flags), "send")


class TlsSocket(ssl.SSLSocket):
    """A TLS socket that keeps to ``budget``, which whoever uses it next sets anew."""

    budget: Budget

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive as ``SSLSocket.recv``, counted and bounded."""
        data = bounded(self, lambda: super(TlsSocket, self).recv(buflen, flags), "read")
        self.budget.receive(len(data))
        return data

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """Send as ``SSLSocket.send`` (``sendall`` is made of it), bounded."""
        return bounded(self, lambda: super(TlsSocket, self).send(data, flags), "send")


def bounded(sock: PlainSocket | TlsSocket, work: Callable[[], T], doing: str) -> T:
    """Let ``work`` block on ``sock`` for no longer than its budget; raises Outage for whatever goes wrong."""
    budget = sock.budget
    sock.settimeout(budget.left())
    try:
        return work()
    except OSError as error:
        outage = budget.outage(error, doing)
    raise outage
