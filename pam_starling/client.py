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
        self.why, self.sentence = ascii(why[:200])[1:-1], sentence


class Client:
    """A connection to the daemon; ``watched`` is the descriptor of the client's connection, or None.

    Waits end ``until``, in monotonic seconds. Methods may raise ProtocolError, and Refusal when the client has hung up.
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
            time.sleep(RETRY_PAUSE)
            self.wait(0)
        op, fields = self.receive(until)
        if op != "hello" or fields.get("v") != str(protocol.VERSION):
            raise Refusal("the daemon speaks another version of the protocol")

    def send(self, op: str, fields: "dict[str, str]") -> None:
        """Send one packet. That the daemon is gone is left to ``receive``, which first reads its last words."""
        try:
            self._socket.send(protocol.encode(op, fields), _socket.MSG_NOSIGNAL)
        except ConnectionError:
            return

    def receive(self, until: float) -> "tuple[str, dict[str, str]]":
        """Wait for the next packet; of op ``error`` it is a Refusal. A daemon that went away is a ConnectionError."""
        if not self.wait(until):
            raise Refusal("the daemon did not answer in time")
        packet = self._socket.recv(protocol.MAX_PACKET + 1)
        if not packet:
            raise ConnectionResetError
        op, fields = protocol.decode(packet)
        if op == "error":
            raise Refusal("the daemon turned us away: " + fields.get("reason", "no reason given"))
        return op, fields

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def wait(self, until: float) -> bool:
        """Wait for the daemon's next packet or its end, and for the client's hang-up."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if self._watched is not None:
            poll.register(self._watched, select.POLLRDHUP)
        ready = dict(poll.poll(max(0, until - time.monotonic()) * 1000))
        if self._watched in ready:
            raise Refusal("the client hung up", sentence="")
        return bool(ready)


def find_connection(announced: str, rhost: str) -> "tuple[int | None, str]":
    """Find the client's connection among our descriptors: (descriptor or None, its ends as SSH_CONNECTION has them).

    ``announced`` is SSH_CONNECTION; what it names and is no more raises Refusal, for a reset connection has no peer.
    Where sshd has not told it, the client's is the one connected TCP socket of the process, or of several the one from
    ``rhost``.
    """
    found = {ends: int(name) for name in posix.listdir("/proc/self/fd") if (ends := _ends_of(int(name)))}
    if announced:
        ends = _folded(announced)
        if ends not in found:
            raise Refusal("the client's connection is gone", sentence="")
        return found[ends], announced
    if len(found) > 1:
        found = {ends: descriptor for ends, descriptor in found.items() if ends.startswith(_folded(rhost) + " ")}
    return (None, "") if len(found) != 1 else found.popitem()[::-1]


def _ends_of(descriptor: int) -> str:
    """Tell both ends of a connected TCP socket, and nothing for any other descriptor."""
    try:
        sock = _socket.socket(fileno=descriptor)
    except OSError:
        return ""
    try:
        is_tcp = sock.type == _socket.SOCK_STREAM and sock.family in (_socket.AF_INET, _socket.AF_INET6)
        peer, ours = sock.getpeername(), sock.getsockname()
        return _folded(f"{peer[0]} {peer[1]} {ours[0]} {ours[1]}") if is_tcp else ""
    except OSError:
        return ""
    finally:
        sock.detach()  # the descriptor is not ours, and stays open


def _folded(ends: str) -> str:
    """Write addresses in their one form: without zone, and an IPv4-mapped one as IPv4."""
    return " ".join(word.partition("%")[0].removeprefix("::ffff:") for word in ends.split())
