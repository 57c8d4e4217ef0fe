"""The connection to the daemon, and the watch on the client's connection.

Every wait has three ends: the daemon speaks, the deadline passes, or the client hangs up, which reaches neither the PAM
conversation nor the daemon by itself. Written over ``_socket``, because importing ``socket`` costs each login 5 ms.
"""

import _socket
import posix
import select
import time

from pam_starling import protocol

RETRY_PAUSE = 0.05
"""Seconds between two tries to connect while the daemon's backlog is full."""
UNAVAILABLE = "The second factor is not available; try again later or ask your administrator"


class Refusal(Exception):  # noqa: N818  it is what it is called
    """Why this call is refused: ``why`` is for the log, ``sentence``, if any, for the person who is watching."""

    def __init__(self, why: str, sentence: str = UNAVAILABLE) -> None:
        self.why = ascii(why[:200])[1:-1]
        self.sentence = sentence


class DaemonLost(Refusal):
    """The daemon went away. If nobody was asked anything yet, it may be tried once more."""


class Client:
    """A connection to the daemon; ``watched`` is the descriptor of the client's connection, or None.

    Every wait ends ``until``, in monotonic seconds. Every method may raise Refusal, also because the client hung up.
    """

    def __init__(self, watched: "int | None") -> None:
        self.has_asked = False
        self._watched = watched
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)

    def connect(self, path: str, until: float) -> None:
        """Connect, and wait until the daemon, which may be starting, has greeted."""
        while True:
            try:
                self._socket.connect(path)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise Refusal("the daemon accepts no connection") from None
            except OSError as error:
                raise Refusal(f"cannot reach the daemon: {error.strerror or error}") from None
            self.wait(time.monotonic() + RETRY_PAUSE, 0)
        op, fields = self.receive(until)
        if op != "hello" or fields.get("v") != str(protocol.VERSION):
            raise Refusal("the daemon speaks another version of the protocol")

    def send(self, op: str, fields: "dict[str, str]") -> None:
        """Send one packet. That the daemon is gone is left to ``receive``, which first reads its last words."""
        try:
            self._socket.send(protocol.encode(op, fields), _socket.MSG_NOSIGNAL)
        except protocol.ProtocolError as error:
            raise Refusal(f"cannot send to the daemon: {error}") from None
        except (BrokenPipeError, ConnectionResetError):
            return

    def receive(self, until: float) -> "tuple[str, dict[str, str]]":
        """Wait for the next packet, which is none of op ``error``: that raises."""
        if not self.wait(until):
            raise Refusal("the daemon did not answer in time")
        try:
            packet = self._socket.recv(protocol.MAX_PACKET + 1)
        except ConnectionResetError:
            packet = b""
        if not packet:
            raise DaemonLost("the daemon closed the connection")
        try:
            op, fields = protocol.decode(packet)
        except protocol.ProtocolError as error:
            raise Refusal(f"cannot understand the daemon: {error}") from None
        if op == "error":
            raise Refusal("the daemon turned us away: " + fields.get("reason", "no reason given"))
        return op, fields

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def wait(self, until: float, events: int = select.POLLIN) -> bool:
        """Wait for the daemon's next packet, if ``events`` says so, and for the client's hang-up in any case."""
        poll = select.poll()
        if events:
            poll.register(self._socket, events)
        if self._watched is not None:
            poll.register(self._watched, select.POLLRDHUP)
        ready = dict(poll.poll(max(0, until - time.monotonic()) * 1000))
        if self._watched in ready:
            raise Refusal("the client hung up", sentence="")
        return bool(ready)


def find_connection(announced: str, rhost: str) -> "tuple[int | None, str]":
    """Find the client's connection among our descriptors: (descriptor or None, its ends as SSH_CONNECTION has them).

    ``announced`` is SSH_CONNECTION. Where sshd has not told it, the client's is the one connected TCP socket of the
    process, or of several the one from ``rhost``. A connection that was announced and is no more raises Refusal: after
    a reset the kernel has forgotten its peer.
    """
    found = {ends: int(name) for name in posix.listdir("/proc/self/fd") if (ends := _ends_of(int(name)))}
    if announced:
        ends = " ".join(map(_folded, announced.split()))
        if ends not in found:
            raise Refusal("the client's connection is gone", sentence="")
        return found[ends], announced
    if len(found) > 1:
        found = {ends: descriptor for ends, descriptor in found.items() if ends.split()[0] == _folded(rhost)}
    return (None, "") if len(found) != 1 else found.popitem()[::-1]


def _ends_of(descriptor: int) -> str:
    """Tell both ends of a connected TCP socket, and nothing for any other descriptor."""
    try:
        sock = _socket.socket(fileno=descriptor)
    except OSError:
        return ""
    try:
        if sock.type != _socket.SOCK_STREAM or sock.family not in (_socket.AF_INET, _socket.AF_INET6):
            return ""
        peer, ours = sock.getpeername(), sock.getsockname()
        return f"{_folded(peer[0])} {peer[1]} {_folded(ours[0])} {ours[1]}"
    except OSError:
        return ""
    finally:
        sock.detach()  # the descriptor is not ours, and stays open


def _folded(address: str) -> str:
    """Write an address in its one form: without zone, and an IPv4-mapped one as IPv4."""
    address = address.partition("%")[0]
    return address[7:] if address.startswith("::ffff:") and "." in address else address
