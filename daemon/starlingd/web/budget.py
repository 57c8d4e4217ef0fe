"""What one call to the service may still use, and the sockets that keep to it.

A socket's own time-out starts anew with every byte, so a server that drips can hold a thread for ever. Here every
receive and send is given what is left of the whole call, and whatever goes wrong on the line is named where it happens,
as ``Unavailable``, instead of being dug out of a library's exception later. It must never tell our own deadline, a
wrong certificate or a shortage of this host as "unreachable": an attacker can cause those (SEMANTICS §10).
"""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import ReadableBuffer, WriteableBuffer

T = TypeVar("T")

PORT = "starling"
"""What the service is called in an ``Unavailable``."""

MAX_RECEIVED = 128 * 1024
"""Most bytes that one answer may have, headers and all."""

_LINE_FAILED = frozenset(
    {
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.ETIMEDOUT,
    },
)
_NAME_FAILED = frozenset({socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_NODATA, socket.EAI_NONAME})


class Budget:
    """Time for a whole call and bytes for each of its answers; used by one thread at a time.

    ``own`` says that ``seconds`` is the caller's deadline and shorter than the service's time-out, so that running
    out of it proves nothing about the service.
    """

    def __init__(self, seconds: float, *, own: bool) -> None:
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self._own = own
        self.received = 0
        self.connected = False
        """Whether a connection was opened, or tried, for the exchange in progress."""
        self.ended = False
        """Whether the peer ended the connection during it."""
        self.sent = False
        """Whether anything of its request was sent."""

    def next_exchange(self) -> None:
        """Start counting anew; the time runs on."""
        self.received, self.connected, self.ended, self.sent = 0, False, False, False

    def left(self) -> float:
        """Seconds left, more than 0; raises Unavailable when there are none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise self.spent()
        return left

    def spent(self) -> Unavailable:
        """Make the outage of a call whose time is up."""
        if self._own:
            return Unavailable(PORT, Fault.BROKEN, "no answer before our own deadline")
        return Unavailable(PORT, Fault.UNREACHABLE, f"no answer within {self._seconds:g} s")

    def receive(self, count: int) -> None:
        """Note that ``count`` bytes arrived, 0 for the end; raises Unavailable when there are more than may be."""
        self.received += count
        self.ended = self.ended or not count
        if self.received > MAX_RECEIVED:
            raise Unavailable(PORT, Fault.BROKEN, "answer too long")

    def outage(self, error: OSError, doing: str) -> Unavailable:
        """Name what ``error`` means; ``doing`` says during what, for the log."""
        if isinstance(error, TimeoutError):
            return self.spent()
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unavailable(PORT, Fault.MISCONFIGURED, f"{doing}: certificate: {error.verify_message}")
        fault = Fault.UNREACHABLE if _is_the_line(error) else Fault.BROKEN
        return Unavailable(PORT, fault, f"{doing}: {_name(error)}")


def _is_the_line(error: OSError) -> bool:
    """Tell a failure of network or peer from one of this host (no descriptors, no memory, a local firewall)."""
    if isinstance(error, ssl.SSLError):
        return True
    return error.errno in (_NAME_FAILED if isinstance(error, socket.gaierror) else _LINE_FAILED)


def _name(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or type(error).__name__}"
    return error.strerror or type(error).__name__


class _Current(threading.local):
    budget: Budget | None = None


_current = _Current()


@contextmanager
def spending(budget: Budget) -> Iterator[None]:
    """Make ``budget`` the one that this thread's sockets keep to: kept connections pass from thread to thread."""
    _current.budget = budget
    try:
        yield
    finally:
        _current.budget = None


def current() -> Budget:
    """Tell the budget of this thread's exchange."""
    if _current.budget is None:
        raise RuntimeError("a socket of the service is used outside of an exchange")
    return _current.budget


def _bounded(sock: socket.socket, work: Callable[[], T], doing: str) -> T:
    """Let ``work`` block on ``sock`` for no longer than the budget; raises Unavailable for whatever goes wrong."""
    budget = current()
    sock.settimeout(budget.left())
    try:
        return work()
    except OSError as error:
        outage = budget.outage(error, doing)
    raise outage


class PlainSocket(socket.socket):
    """A TCP socket that keeps to the budget of the thread that uses it."""

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive as ``socket.recv``, counted and bounded."""
        data = _bounded(self, lambda: super(PlainSocket, self).recv(bufsize, flags), "read")
        current().receive(len(data))
        return data

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        """Send as ``socket.sendall``, bounded."""
        _bounded(self, lambda: super(PlainSocket, self).sendall(data, flags), "send")


class TlsSocket(ssl.SSLSocket):
    """A TLS socket that keeps to the budget of the thread that uses it. http.client reads through ``recv_into``."""

    def recv_into(self, buffer: WriteableBuffer, nbytes: int | None = None, flags: int = 0) -> int:
        """Receive as ``SSLSocket.recv_into``, counted and bounded."""
        count = _bounded(self, lambda: super(TlsSocket, self).recv_into(buffer, nbytes, flags), "read")
        current().receive(count)
        return count

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """Send as ``SSLSocket.send`` (``sendall`` is made of it), bounded."""
        current().sent = True
        return _bounded(self, lambda: super(TlsSocket, self).send(data, flags), "send")
