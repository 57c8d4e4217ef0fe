"""Opening a TLS connection to the service, directly or through the configured proxy, within the call's budget.

It must never let a name, an address, a proxy or a handshake take longer than the budget, never go on without a
certificate that is good for the host, and never take a proxy's refusal for an unreachable service.
"""

from __future__ import annotations

import base64
import re
import socket
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from starlingd.ports import Fault, Unavailable
from starlingd.web.budget import PORT, Budget, PlainSocket, current

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from starlingd.web.flights import Flights

_Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
_PROXY_CANNOT_REACH = frozenset({502, 503, 504})
_MAX_HEAD = 16 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")


class Proxy(NamedTuple):
    """An HTTP proxy; ``authorization`` is the value of its header, or empty."""

    host: str
    port: int
    authorization: str

    def __repr__(self) -> str:
        """Name the proxy without its password."""
        return f"Proxy({self.host}:{self.port})"


def parse_proxy(url: str) -> Proxy:
    """Take ``http://[user:password@]host:port`` apart, user and password percent-encoded; raises Unavailable."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or parts.scheme != "http":
        raise Unavailable(PORT, Fault.MISCONFIGURED, "the proxy's URL is not http://[user:password@]host:port")
    if parts.username is None:
        return Proxy(host, port or 3128, "")
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(host, port or 3128, "Basic " + base64.b64encode(pair.encode()).decode())


class Line:
    """The way to the service. Safe from any thread."""

    def __init__(self, context: ssl.SSLContext, proxy: str | None, flights: Flights) -> None:
        self._context = context
        self._proxy = parse_proxy(proxy) if proxy else None
        self._flights = flights

    def open(self, host: str, port: int) -> ssl.SSLSocket:
        """Connect to ``host``, whose certificate is checked, within the thread's budget; raises Unavailable."""
        budget = current()
        budget.connected = True
        if self._proxy is None:
            return self._secure(self._reach(host, port, budget), host, budget)
        sock = self._reach(self._proxy.host, self._proxy.port, budget)
        try:
            _tunnel(sock, host, port, self._proxy.authorization)
        except BaseException:
            sock.close()
            raise
        return self._secure(sock, host, budget)

    def _reach(self, host: str, port: int, budget: Budget) -> PlainSocket:
        """Connect to the first address of ``host`` that answers; each gets its share of the time that is left."""
        addresses = self._look_up(host, port, budget)
        outage = Unavailable(PORT, Fault.UNREACHABLE, f"look up {host}: no address")
        for index, address in enumerate(addresses):
            share = budget.left() / (len(addresses) - index)
            try:
                return _connect(address, share)
            except OSError as error:
                outage = budget.outage(error, f"connect to {host}")
        raise outage

    def _look_up(self, host: str, port: int, budget: Budget) -> Sequence[_Address]:
        with suppress(OSError):
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        work = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            return cast("Sequence[_Address]", self._flights.share(f"look-up of {host}:{port}", work, budget.left()))
        except OSError as error:
            outage = budget.outage(error, f"look up {host}")
        raise outage

    def _secure(self, sock: PlainSocket, host: str, budget: Budget) -> ssl.SSLSocket:
        try:
            sock.settimeout(budget.left())
            return self._context.wrap_socket(sock, server_hostname=host, suppress_ragged_eofs=False)
        except OSError as error:
            outage = budget.outage(error, "TLS handshake")
        finally:
            sock.close()  # nothing is left in it when the handshake succeeded
        raise outage


def _connect(address: _Address, seconds: float) -> PlainSocket:
    family, kind, protocol, _, where = address
    sock = PlainSocket(family, kind, protocol)
    try:
        sock.settimeout(seconds)
        sock.connect(where)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _tunnel(sock: PlainSocket, host: str, port: int, authorization: str) -> None:
    """Have the proxy connect ``sock`` to ``host``; raises Unavailable when it does not."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if authorization:
        lines.append(f"Proxy-Authorization: {authorization}")
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        data = sock.recv(4096)
        if not data:
            raise Unavailable(PORT, Fault.UNREACHABLE, "proxy: connection closed")
        head += data
        if len(head) > _MAX_HEAD:
            raise Unavailable(PORT, Fault.BROKEN, "proxy: answer too long")
    _judge(head)


def _judge(head: bytes) -> None:
    """Raise Unavailable unless a proxy's answer says that the tunnel stands."""
    match = _STATUS.match(head)
    if match is None:
        raise Unavailable(PORT, Fault.BROKEN, "proxy: not an HTTP answer")
    status = int(match[1])
    if status == HTTPStatus.OK and not head.endswith(b"\r\n\r\n"):
        raise Unavailable(PORT, Fault.BROKEN, "proxy: more than its answer, before anything was asked of the service")
    if status in _PROXY_CANNOT_REACH:
        raise Unavailable(PORT, Fault.UNREACHABLE, f"proxy: status {status}")
    if 400 <= status < 500:  # noqa: PLR2004  the proxy refuses us: credentials, or its rules
        raise Unavailable(PORT, Fault.MISCONFIGURED, f"proxy: status {status}")
    if status != HTTPStatus.OK:
        raise Unavailable(PORT, Fault.BROKEN, f"proxy: status {status}")
