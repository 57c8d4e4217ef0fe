"""The module's end of the socket: one connection, one deadline, and an eye on the client that is logging in.

Standard library by hand: ``_socket`` and ``select`` alone, because ``socket`` and ``json`` would cost every login
several milliseconds. It must never wait without a deadline, and never write where SIGPIPE could kill sshd or login.
"""

import _socket
import posix
import select
import time

from pam_starling import protocol

RETRY_PAUSE = 50
"""Milliseconds between two tries to connect while the daemon's backlog is full."""
_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR


class Refusal(Exception):  # noqa: N818  it is what it is called
    """Why this login cannot go on; the text is for the log, ``sentence`` for whoever is watching."""

    sentence = "The second factor is not available; try again later or ask your administrator"


class DaemonUnavailable(Refusal):
    """The daemon is absent, hung, gone, or speaks another language."""


class ClientGone(Refusal):
    """The client hung up: nobody is there to be let in."""


class Client:
    """One connection to the daemon. ``watched`` is the descriptor of the client's connection, or None."""

    def __init__(self, path: str, connect_timeout: float, deadline: float, watched: "int | None") -> None:
        self._deadline = min(deadline, time.monotonic() + connect_timeout)
        self._watched = watched
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            self._connect(path)
            self._greet()
        except BaseException:
            self._socket.close()
            raise
        self._deadline = deadline

    def _greet(self) -> None:
        op, fields = self.receive()
        if op == "error":
            raise DaemonUnavailable("the daemon turned us away: " + printable(fields.get("reason", "")))
        if op != "hello" or fields.get("v") != str(protocol.VERSION):
            raise DaemonUnavailable("the daemon speaks another version of the protocol")

    def send(self, op: str, fields: "dict[str, str]") -> None:
        """Send one packet. Raises DaemonUnavailable."""
        try:
            self._socket.send(protocol.encode(op, fields), _socket.MSG_NOSIGNAL)
        except (OSError, protocol.ProtocolError) as error:
            raise DaemonUnavailable("cannot send to the daemon: " + describe(error)) from None

    def receive(self) -> "tuple[str, dict[str, str]]":
        """Wait for the next packet. Raises DaemonUnavailable, or ClientGone as soon as the client has hung up."""
        self._wait()
        try:
            packet, _, flags, _ = self._socket.recvmsg(protocol.MAX_PACKET)
            if not packet:
                raise DaemonUnavailable("the daemon closed the connection")
            if flags & _socket.MSG_TRUNC:
                raise DaemonUnavailable("the daemon sent a packet that is too long")
            return protocol.decode(packet)
        except (OSError, protocol.ProtocolError) as error:
            raise DaemonUnavailable("cannot understand the daemon: " + describe(error)) from None

    def check_client(self) -> None:
        """Raise ClientGone if the client has hung up by now."""
        if self._watched is not None:
            poll = select.poll()
            poll.register(self._watched, _GONE)
            if poll.poll(0):
                raise ClientGone("the client hung up")

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def _connect(self, path: str) -> None:
        self._socket.setblocking(False)
        while True:
            try:
                self._socket.connect(path)
            except BlockingIOError:
                if time.monotonic() >= self._deadline:
                    raise DaemonUnavailable("the daemon accepts no connection") from None
                select.poll().poll(RETRY_PAUSE)
            except OSError as error:
                raise DaemonUnavailable("cannot reach the daemon: " + describe(error)) from None
            else:
                return

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if self._watched is not None:
            poll.register(self._watched, _GONE)
        left = self._deadline - time.monotonic()
        ready = [descriptor for descriptor, _ in poll.poll(max(0, int(left * 1000)))]
        if self._watched in ready:
            raise ClientGone("the client hung up")
        if not ready:
            raise DaemonUnavailable("the daemon did not answer in time")


def find_connection(announced: str, rhost: str) -> "tuple[int | None, str]":
    """Find the client's connection among our own descriptors: (descriptor or None, as SSH_CONNECTION writes it).

    ``announced`` is SSH_CONNECTION, empty where sshd has not told us (key-only logins); then the one connected TCP
    socket of the process is it, or of several the one from PAM_RHOST.
    """
    found = []
    for name in posix.listdir("/proc/self/fd"):
        ends = _ends_of(int(name))
        if ends is not None:
            found.append((int(name), ends))
    if announced:
        found = [(descriptor, ends) for descriptor, ends in found if ends.split()[:2] == announced.split()[:2]]
    elif len(found) > 1:
        found = [(descriptor, ends) for descriptor, ends in found if ends.split()[0] == rhost]
    descriptor, ends = found[0] if found else (None, "")
    return descriptor, announced or ends


def _ends_of(descriptor: int) -> "str | None":
    try:
        sock = _socket.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        if sock.type != _socket.SOCK_STREAM or sock.family not in (_socket.AF_INET, _socket.AF_INET6):
            return None
        peer, ours = sock.getpeername(), sock.getsockname()
        return f"{_numeric(peer[0])} {peer[1]} {_numeric(ours[0])} {ours[1]}"
    except OSError:
        return None
    finally:
        sock.detach()  # the descriptor is sshd's, and stays open


def _numeric(address: str) -> str:
    address = address.partition("%")[0]
    return address[7:] if address.startswith("::ffff:") and "." in address else address


def describe(error: BaseException) -> str:
    """Tell an error for the log: its kind and text, without what a peer could have put there."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return printable(str(error)) or type(error).__name__


def printable(text: str) -> str:
    """Make a text fit for one line of the log."""
    return ascii(text[:200])[1:-1]
