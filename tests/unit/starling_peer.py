"""A small TLS server for the tests of the Starling adapter: it does exactly what a test tells it, byte by byte.

Every thread and socket of it ends with the ``with`` block.
"""

from __future__ import annotations

import json
import queue
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import trustme

from starlingd.adapters.starling import Starling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    Reaction: TypeAlias = bytes | Callable[[socket.socket], None]


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


def http(status: int, content: object = None, headers: Mapping[str, str] | None = None) -> bytes:
    """Make an HTTP answer; ``content`` is bytes as they are, or is written as JSON."""
    body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
    lines = [f"HTTP/1.1 {status} Words", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Peer:
    """A server on loopback. ``answer`` turns each request into bytes to send, or into what to do with the socket.

    After b"", and after whatever it did with the socket, the connection ends.
    """

    def __init__(self, answer: Callable[[Seen], Reaction], tls: ssl.SSLContext | None) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self.stopping = threading.Event()
        self._answer = answer
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._open: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()

    @property
    def url(self) -> str:
        """Its address under a name that its certificates are for."""
        return f"https://localhost:{self.port}"

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        while not self._open.empty():
            with suppress(OSError):
                socket.socket.shutdown(self._open.get(), socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def wait_until_stopped(self, _: socket.socket) -> None:
        """Say nothing at all, for as long as the peer lives."""
        self.stopping.wait()

    def drip(self, piece: bytes) -> Callable[[socket.socket], None]:
        """Send ``piece`` again and again, slowly, for as long as anybody listens."""

        def send(sock: socket.socket) -> None:
            while not self.stopping.wait(0.02):
                sock.sendall(piece)

        return send

    def _spawn(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._spawn(self._serve, sock)

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError), plain, self._secured(plain) as sock:
            self._open.put(sock)
            for seen in _requests(sock):
                self.seen.append(seen)
                answer = self._answer(seen)
                if callable(answer):
                    answer(sock)
                else:
                    sock.sendall(answer)
                if not answer or callable(answer):
                    break

    def _secured(self, plain: socket.socket) -> socket.socket:
        return self._tls.wrap_socket(plain, server_side=True) if self._tls else plain


class Greeter(Peer):
    """A server that does not know TLS: it greets whoever connects, in plain text, and hangs up."""

    def __init__(self, greeting: bytes = b"220 mail.example ESMTP\r\n") -> None:
        super().__init__(lambda _: b"", None)
        self._greeting = greeting

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError), plain:
            plain.sendall(self._greeting)
            plain.shutdown(socket.SHUT_WR)
            plain.recv(65536)


def _requests(sock: socket.socket) -> Iterator[Seen]:
    with sock.makefile("rb") as stream:
        while (line := stream.readline()).count(b" ") == 2:
            method, target, _ = line.decode("latin-1").split(" ")
            headers = {}
            while (field := stream.readline()) not in {b"\r\n", b""}:
                name, _, value = field.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            yield Seen(method, target, headers, stream.read(int(headers.get("content-length", "0"))))


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, folder: Path, *names: str) -> None:
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)
        self.tls = self.server_context(*(names or ("localhost", "127.0.0.1", "::1")))

    def server_context(self, *names: str, **options: datetime) -> ssl.SSLContext:
        """Make a server's context with a certificate for ``names``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names, **options).configure_cert(context)
        return context


TOKEN_PATH = "/auth/realms/StarlingClients/protocol/openid-connect/token"
TOKEN = http(200, {"access_token": "TheToken", "expires_in": 300})


def scripted(*reactions: Reaction, token: Reaction = TOKEN) -> Callable[[Seen], Reaction]:
    """Answer token requests with ``token``, and the others with ``reactions`` in turn, the last one for ever."""
    left = list(reactions)

    def answer(seen: Seen) -> Reaction:
        if seen.target == TOKEN_PATH:
            return token
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


@contextmanager
def provider(ca_file: Path | None, url: str, **options: Any) -> Iterator[Starling]:  # noqa: ANN401  Starling's own
    """Make a provider whose service is at ``url``; nothing of it is left afterwards."""
    given = {"client_id": "client", "client_secret": "TheSecret", "service_url": url, "token_url": url}
    starling = Starling(**{**given, "ca_file": ca_file, "http_timeout": 5.0, **options})
    try:
        yield starling
    finally:
        starling.close()


@contextmanager
def talking(
    authority: Authority,
    answer: Callable[[Seen], Reaction],
    **options: Any,  # noqa: ANN401  Starling's own
) -> Iterator[tuple[Starling, Peer]]:
    """Make a peer and a provider that talks to it."""
    with Peer(answer, authority.tls) as peer, provider(authority.file, peer.url, **options) as starling:
        yield starling, peer
