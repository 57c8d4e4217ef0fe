"""What the provider makes of bad lines, names and ends of answers, over real sockets and real TLS."""

from __future__ import annotations

import errno
import socket
import ssl
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from starlingd.core.model import Check, Push, PushStatus
from starlingd.ports import Fault, Unavailable
from starlingd.web import https
from starlingd.web.budget import Budget, spending
from starlingd.web.flights import Flights
from starlingd.web.line import Line
from tests.unit.starling_peer import (
    TOKEN,
    TOKEN_PATH,
    Authority,
    Peer,
    Seen,
    http,
    provider,
    scripted,
    talking,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.unit.starling_peer import Reaction

PUSH = Push("Login", (), 60)
PENDING = http(200, {"status": "pending"})
BRIEF = 0.5
"""A time-out short enough to wait for."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def outage_of(call: Callable[[], object]) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        call()
    return caught.value


@contextmanager
def black_hole() -> Iterator[int]:
    """Make a port that takes no connection and refuses none: a listener whose queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


# --- time -----------------------------------------------------------------------------------------------------------


def test_a_refused_connection_is_unreachable(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with provider(authority.file, f"https://127.0.0.1:{port}") as starling:
        assert outage_of(lambda: starling.check_push("r", 5.0)).fault is Fault.UNREACHABLE


def silent(peer: Peer) -> Reaction:
    return peer.wait_until_stopped


def dripping_head(peer: Peer) -> Reaction:
    return peer.drip(b"H")


def dripping_headers(peer: Peer) -> Reaction:
    return peer.drip(b"HTTP/1.1 200 OK\r\nX: ")


def dripping_body(peer: Peer) -> Reaction:
    return peer.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")


@pytest.mark.parametrize("behave", [silent, dripping_head, dripping_headers, dripping_body])
@pytest.mark.parametrize(
    ("http_timeout", "timeout", "fault"), [(BRIEF, 60.0, Fault.UNREACHABLE), (60.0, BRIEF, Fault.BROKEN)]
)
def test_no_server_holds_a_call_beyond_its_time(
    authority: Authority, behave: Callable[[Peer], Reaction], http_timeout: float, timeout: float, fault: Fault
) -> None:
    """The service's time-out means unreachable; the login's own deadline, which an attacker chooses, does not."""
    peers: list[Peer] = []

    def answer(seen: Seen) -> Reaction:
        return TOKEN if seen.target == TOKEN_PATH else behave(peers[0])

    with talking(authority, answer, http_timeout=http_timeout) as (starling, peer):
        peers.append(peer)
        began = time.monotonic()
        outage = outage_of(lambda: starling.verify("7", "123456", timeout))
        assert BRIEF <= time.monotonic() - began < BRIEF + 1.0
    assert outage.fault is fault
    assert outage.sent, "it may have done what it was asked to"


@pytest.mark.parametrize("token", [silent, None])
def test_a_call_that_never_left_is_known_not_to_have_been_carried_out(
    authority: Authority, token: Callable[[Peer], Reaction] | None
) -> None:
    """Neither where nothing listens nor where the token request, which comes before the call, is not answered."""
    peers: list[Peer] = []
    with talking(authority, lambda _: token(peers[0]) if token else TOKEN, http_timeout=BRIEF) as (starling, peer):
        peers.append(peer)
        if token is None:
            peer.__exit__(None, None, None)
        assert not outage_of(lambda: starling.start_push("7", Push("hello", (), 60), 60.0)).sent


def test_a_black_hole_is_unreachable_in_time(authority: Authority) -> None:
    with black_hole() as port, provider(authority.file, f"https://127.0.0.1:{port}", http_timeout=BRIEF) as starling:
        began = time.monotonic()
        assert outage_of(lambda: starling.check_push("r", 60.0)).fault is Fault.UNREACHABLE
        assert time.monotonic() - began < BRIEF + 1.0


def test_a_server_that_never_shakes_hands_is_unreachable_in_time(authority: Authority) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        provider(authority.file, f"https://127.0.0.1:{listener.getsockname()[1]}", http_timeout=BRIEF) as starling,
    ):
        assert outage_of(lambda: starling.check_push("r", 60.0)).fault is Fault.UNREACHABLE


@pytest.mark.parametrize("timeout", [0.0, -5.0])
def test_without_time_nothing_is_asked(authority: Authority, timeout: float) -> None:
    with talking(authority, scripted(PENDING)) as (starling, peer):
        starling.check_push("r", 5.0)
        assert outage_of(lambda: starling.check_push("r", timeout)).fault is Fault.BROKEN
    assert len(peer.seen) == 2


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        (socket.EAI_NONAME, Fault.UNREACHABLE),
        (socket.EAI_AGAIN, Fault.UNREACHABLE),
        (socket.EAI_FAIL, Fault.UNREACHABLE),
        (socket.EAI_MEMORY, Fault.BROKEN),
        (socket.EAI_SYSTEM, Fault.BROKEN),
    ],
)
def test_a_name_that_is_not_found_is_unreachable(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, number: int, fault: Fault
) -> None:
    def look_up(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "words")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with provider(authority.file, "https://sts.invalid") as starling:
        assert outage_of(lambda: starling.check_push("r", 5.0)).fault is fault


def test_a_resolver_that_hangs_holds_nobody_and_is_asked_once(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, asked = threading.Event(), []

    def look_up(*arguments: object, flags: int = 0, **_: object) -> None:
        if flags != socket.AI_NUMERICHOST:
            asked.append(arguments)
            release.wait(30)
        raise socket.gaierror(socket.EAI_NONAME, "words")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with (
        provider(authority.file, "https://sts.invalid", http_timeout=BRIEF) as starling,
        ThreadPoolExecutor(8) as pool,
    ):
        waiting = [pool.submit(starling.probe_token, 60.0) for _ in range(8)]
        faults = {outage_of(future.result).fault for future in waiting}
        release.set()
    assert faults == {Fault.UNREACHABLE}
    assert len(asked) == 1


def test_look_ups_for_two_ports_of_one_name_are_not_confused(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, together, flights = socket.getaddrinfo, threading.Barrier(2), Flights()
    line = Line(https.tls_context(authority.file), None, flights)

    def look_up(host: str, port: int, flags: int = 0, **options: Any) -> list[Any]:  # noqa: ANN401  its own
        if flags != socket.AI_NUMERICHOST:
            together.wait(30)
        return real(host, port, flags=flags, **options)

    def reached(port: int) -> int:
        with spending(Budget(30.0, own=False)), line.open("localhost", port) as sock:
            return int(sock.getpeername()[1])

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with (
        Peer(scripted(PENDING), authority.tls) as one,
        Peer(scripted(PENDING), authority.tls) as other,
        ThreadPoolExecutor(2) as pool,
    ):
        assert list(pool.map(reached, [one.port, other.port])) == [one.port, other.port]
    flights.close()


def test_the_next_address_is_tried_when_one_is_dead(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    with black_hole() as dead, talking(authority, scripted(PENDING), http_timeout=4.0) as (starling, _):

        def look_up(host: str, port: int, **options: Any) -> list[Any]:  # noqa: ANN401  the socket module's own
            found = real(host, port, **options)
            return (
                real("127.0.0.1", dead, type=socket.SOCK_STREAM) + real("127.0.0.1", port, type=socket.SOCK_STREAM)
                if found
                else found
            )

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        assert starling.check_push("r", 60.0) is PushStatus.PENDING


# --- the end of an answer -------------------------------------------------------------------------------------------


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def farewell(text: bytes) -> Callable[[socket.socket], None]:
    """Send ``text`` and end the connection as TLS wants it."""

    def send(sock: socket.socket) -> None:
        assert isinstance(sock, ssl.SSLSocket)
        sock.sendall(text)
        sock.unwrap()

    return send


def cut_off(text: bytes) -> Callable[[socket.socket], None]:
    """Send ``text`` and end the connection as an attacker in between would."""
    return lambda sock: sock.sendall(text)


@pytest.mark.parametrize(
    "reaction",
    [
        reset,
        b"",
        farewell(b""),
        farewell(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}"),
        farewell(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}"),
        cut_off(b"HTTP/1.1 200 OK\r\n"),
        cut_off(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}"),
        cut_off(b"HTTP/1.1 200 OK\r\n\r\n{}"),
    ],
)
def test_an_answer_that_is_cut_short_is_unreachable(authority: Authority, reaction: Reaction) -> None:
    with talking(authority, scripted(reaction)) as (starling, _):
        assert outage_of(lambda: starling.verify("7", "123456", 5.0)).fault is Fault.UNREACHABLE
        assert outage_of(lambda: starling.start_push("7", PUSH, 5.0)).fault is Fault.UNREACHABLE


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n" * 10,
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot hexadecimal\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n" + b"x" * 4095 + b"\r\n" + b"fff\r\nx" * 20_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n" + b"x" * 200_000,
        http(200, b"x" * 65_537),
    ],
)
def test_an_answer_that_is_too_long_or_not_http_is_broken(authority: Authority, answer: bytes) -> None:
    with talking(authority, scripted(answer)) as (starling, _):
        assert outage_of(lambda: starling.verify("7", "123456", 5.0)).fault is Fault.BROKEN
        assert outage_of(lambda: starling.start_push("7", PUSH, 5.0)).fault is Fault.BROKEN


def test_an_answer_in_chunks_or_without_a_length_is_read(authority: Authority) -> None:
    chunked = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{"id": "\r\n4\r\nx1"}\r\n0\r\n\r\n'
    until_the_end = farewell(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"id": "x2"}')
    with talking(authority, scripted(chunked, until_the_end)) as (starling, _):
        assert getattr(starling.start_push("7", PUSH, 5.0), "request", None) == "x1"
        assert getattr(starling.start_push("7", PUSH, 5.0), "request", None) == "x2"


def test_an_answer_that_comes_late_is_nobodys(authority: Authority) -> None:
    release = threading.Event()

    def late(sock: socket.socket) -> None:
        release.wait(30)
        sock.sendall(http(200, {"status": "approved"}))

    with talking(authority, scripted(PENDING, late, PENDING)) as (starling, peer):
        starling.check_push("r1", 5.0)
        outage_of(lambda: starling.check_push("r2", BRIEF))
        release.set()
        assert starling.check_push("r3", 5.0) is PushStatus.PENDING
    assert peer.connections == 2


def test_a_question_meets_a_dead_kept_connection_and_is_asked_again(authority: Authority) -> None:
    with talking(authority, scripted(http(200), b"", http(401))) as (starling, peer):
        assert starling.verify("7", "111111", 5.0) is Check.RIGHT
        assert starling.verify("7", "222222", 5.0) is Check.WRONG
    assert peer.connections == 2


def test_a_push_is_never_sent_twice(authority: Authority) -> None:
    with talking(authority, scripted(PENDING, b"", http(200, {"id": "r"}))) as (starling, peer):
        starling.check_push("r", 5.0)
        assert outage_of(lambda: starling.start_push("7", PUSH, 5.0)).fault is Fault.UNREACHABLE
    assert len([seen for seen in peer.seen if "approvalrequests" in seen.target]) == 1


def test_a_connection_that_was_idle_for_long_is_not_used_again(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with talking(authority, scripted(PENDING)) as (starling, peer):
        starling.check_push("r", 5.0)
        starling.check_push("r", 5.0)
        assert peer.connections == 1
        monkeypatch.setattr(https, "MAX_IDLE", -1.0)
        starling.check_push("r", 5.0)
    assert peer.connections == 2


def test_an_outage_does_not_spoil_the_next_call(authority: Authority) -> None:
    with talking(authority, scripted(http(500), reset, b"junk\r\n\r\n", http(200, b"x" * 90_000), PENDING)) as (
        starling,
        _,
    ):
        for _attempt in range(4):
            outage_of(lambda: starling.start_push("7", PUSH, 5.0))
        assert starling.check_push("r", 5.0) is PushStatus.PENDING


@pytest.mark.parametrize(
    ("number", "fault"),
    [
        (errno.EMFILE, Fault.BROKEN),
        (errno.ENOBUFS, Fault.BROKEN),
        (errno.EPERM, Fault.BROKEN),
        (errno.EADDRNOTAVAIL, Fault.BROKEN),
        (errno.EHOSTUNREACH, Fault.UNREACHABLE),
        (errno.ENETUNREACH, Fault.UNREACHABLE),
        (errno.ECONNRESET, Fault.UNREACHABLE),
    ],
)
def test_a_shortage_of_this_host_is_not_the_service_being_unreachable(number: int, fault: Fault) -> None:
    assert Budget(1.0, own=False).outage(OSError(number, "words"), "connect").fault is fault
