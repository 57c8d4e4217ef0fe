"""The client's connection is found among the descriptors of a process, and no other one is taken for it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from pam_starling import client
from pam_starling.client import Client, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

TREE = Path(__file__).resolve().parents[2]
GONE = "the client's connection is gone"
FIND = """
import json, os, sys
from pam_starling.client import Refusal, find_connection
before = sorted(os.listdir("/proc/self/fd"))
try:
    found = find_connection(*sys.argv[1:])
except Refusal as refusal:
    found = refusal.why, refusal.sentence
assert sorted(os.listdir("/proc/self/fd")) == before, "a descriptor was closed, or left open"
print(json.dumps(found))
"""


class Pair:
    """A TCP connection on the loopback; ``announced`` is what sshd would say of it."""

    def __init__(self, family: socket.AddressFamily, listen: str, connect: str) -> None:
        with socket.create_server((listen, 0), family=family, dualstack_ipv6=listen == "::") as listener:
            self.client = socket.create_connection((connect, listener.getsockname()[1]), source_address=(connect, 0))
            self.server, _ = listener.accept()
        peer, ours = self.client.getsockname(), self.client.getpeername()
        self.announced = f"{peer[0]} {peer[1]} {ours[0]} {ours[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.close()


def ipv4(address: str = "127.0.0.1") -> Pair:
    return Pair(socket.AF_INET, address, address)


def ipv6() -> Pair:
    return Pair(socket.AF_INET6, "::1", "::1")


def mapped() -> Pair:
    """Connect by IPv4 to a server of both: its socket calls the client ::ffff:127.0.0.1."""
    return Pair(socket.AF_INET6, "::", "127.0.0.1")


def find(announced: str, rhost: str, *inherited: socket.socket) -> list[object]:
    """Ask a process that holds these sockets."""
    descriptors = [sock.fileno() for sock in inherited]
    command = [sys.executable, "-c", FIND, announced, rhost]
    done = subprocess.run(
        command,
        pass_fds=descriptors,
        env={"PYTHONPATH": str(TREE)},
        capture_output=True,
        timeout=20,
        check=True,
    )
    assert not done.stderr
    return list(json.loads(done.stdout))


@pytest.mark.parametrize("make", [ipv4, ipv6, mapped])
@pytest.mark.parametrize("is_announced", [True, False])
def test_a_connection_is_found_of_whatever_family(make: type[Pair], *, is_announced: bool) -> None:
    with make() as pair:  # type: ignore[call-arg]
        found = find(pair.announced if is_announced else "", "", pair.server)
        assert found == [pair.server.fileno(), pair.announced]


@pytest.mark.parametrize("make", [ipv4, ipv6, mapped])
def test_the_announced_one_of_several_is_found(make: type[Pair]) -> None:
    with ipv4() as first, make() as pair, ipv6() as last:  # type: ignore[call-arg]
        found = find(pair.announced, "127.0.0.1", first.server, pair.server, last.server)
        assert found == [pair.server.fileno(), pair.announced]


def test_an_address_with_a_zone_is_the_address() -> None:
    with ipv6() as pair:
        announced = pair.announced.replace("::1 ", "::1%lo ", 1)
        assert find(announced, "", pair.server) == [pair.server.fileno(), announced]


def test_of_several_that_nobody_announced_the_one_from_rhost_is_found() -> None:
    with ipv4() as first, ipv4("127.0.0.2") as pair, ipv6() as last:
        found = find("", "127.0.0.2", first.server, pair.server, last.server)
        assert found == [pair.server.fileno(), pair.announced]


def test_of_several_from_rhost_none_is_found() -> None:
    with ipv4() as first, ipv4() as second:
        assert find("", "127.0.0.1", first.server, second.server) == [None, ""]
        assert find("", "", first.server, second.server) == [None, ""]


def test_what_is_no_tcp_connection_is_not_found() -> None:
    with ExitStack() as held:
        listener = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        datagrams = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        datagrams.connect(("127.0.0.1", 9))
        local, other = (held.enter_context(sock) for sock in socket.socketpair())
        assert find("", "", listener, datagrams, local, other) == [None, ""]


def test_a_connection_that_was_announced_and_is_not_there_is_a_client_who_has_gone() -> None:
    with ipv4() as pair, ipv4() as another:
        assert find(pair.announced, "127.0.0.1", another.server) == [GONE, ""]
        assert find("nonsense", "", another.server) == [GONE, ""]


def test_a_connection_that_was_reset_is_a_client_who_has_gone() -> None:
    with ipv4() as pair:
        pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        pair.client.close()
        assert find(pair.announced, "127.0.0.1", pair.server) == [GONE, ""]
        assert find("", "127.0.0.1", pair.server) == [None, ""]


class Daemon:
    """A daemon with a full backlog, and the clock of a module that waits for it: each look at it lets one in."""

    def __init__(self, path: Path) -> None:
        self.now = 0.0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen(0)
        self._listener.setblocking(False)
        self.modules = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)]
        self.modules[0].connect(str(path))

    def monotonic(self) -> float:
        """Accept whoever is next, and greet him."""
        try:
            module, _ = self._listener.accept()
        except BlockingIOError:
            return self.now
        module.send(b"op=hello\0v=1")
        self.modules.append(module)
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def close(self) -> None:
        """Close every socket."""
        for sock in (self._listener, *self.modules):
            sock.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path / "sock")
    yield made
    made.close()


def test_a_daemon_whose_backlog_was_full_is_reached_when_it_no_longer_is(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "time", daemon)
    connection = Client(None)
    connection.connect(str(tmp_path / "sock"), until=20)
    connection.send("authenticate", {})
    connection.close()
    assert daemon.modules[-1].recv(100) == b"op=authenticate"


def test_a_client_who_hangs_up_while_the_backlog_is_full_is_noticed(daemon: Daemon, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    connection = Client(ours.fileno())
    theirs.close()
    with ours, pytest.raises(Refusal) as refusal:
        connection.connect(str(tmp_path / "sock"), until=client.time.monotonic() + 20)
    connection.close()
    assert (refusal.value.why, refusal.value.sentence) == ("the client hung up", "")
    assert len(daemon.modules) == 1
