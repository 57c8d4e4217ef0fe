"""HTTPS exchanges by requests, each bounded in time and size, over connections that are kept.

It must never look at the environment (proxies, netrc, certificate bundles, key logs), follow a redirect, keep a cookie,
or let out an exception of requests or urllib3: their texts hold the URL, and the URL may hold a code.

Why an ``HTTPAdapter`` and no ``Session``: a Session is not safe to share between threads and is what reads the
environment, follows redirects and keeps cookies. The adapter below it is a pool of connections, which urllib3 makes for
sharing, so that 64 threads use and keep alive as few connections as they need. Why our own way to connect: requests
gives every address of a name, the proxy and the TLS handshake a time-out each, and tells their failures apart only in
the texts of nested exceptions.
"""

from __future__ import annotations

import logging
import ssl
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPSConnectionPool
from urllib3.connection import HTTPSConnection

from starlingd.ports import Fault, Unavailable
from starlingd.web.budget import PORT, Budget, TlsSocket, spending
from starlingd.web.line import Line

if TYPE_CHECKING:
    from pathlib import Path

    from starlingd.web.flights import Flights

SYSTEM_STORE = "/etc/ssl/certs/ca-certificates.crt"
"""Debian's trusted authorities, named outright: OpenSSL's own search obeys SSL_CERT_FILE."""

MAX_BODY = 64 * 1024
"""Longest body that is looked at, in bytes."""

MAX_IDLE = 30.0
"""Seconds after which a kept connection is not trusted any more: firewalls forget quiet ones without a word."""


def hush_libraries() -> None:
    """Silence the loggers of the HTTP libraries for good: they log whole URLs, some of them as warnings."""
    for name in ("urllib3", "requests"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False
        logger.addHandler(logging.NullHandler())


hush_libraries()


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to send."""

    method: str
    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service answered. ``body`` is None when it is longer than MAX_BODY."""

    status: int
    retry_after: str
    body: bytes | None = field(repr=False)


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Make the context that trusts only ``ca_file``, or the system's store; raises Unavailable(MISCONFIGURED)."""
    # Not create_default_context: it obeys SSL_CERT_FILE and SSLKEYLOGFILE.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    context.sslsocket_class = TlsSocket
    # An end without TLS's own farewell may be an attacker's who cuts an answer short; Python overlooks it by default.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    try:
        context.load_verify_locations(ca_file or SYSTEM_STORE)
    except OSError as error:
        detail = f"certificate authorities {ca_file or SYSTEM_STORE}: {error.strerror or type(error).__name__}"
        raise Unavailable(PORT, Fault.MISCONFIGURED, detail) from None
    return context


class Https:
    """Exchanges with HTTPS services over kept connections. Safe from any thread."""

    def __init__(self, ca_file: Path | None, proxy: str | None, flights: Flights, pool_size: int) -> None:
        self._adapter = _Adapter(Line(tls_context(ca_file), proxy, flights), pool_size)

    def exchange(self, ask: Ask, budget: Budget) -> Answer:
        """Send a request and read its answer within ``budget``. Raises Unavailable when there is none.

        A GET that finds its kept connection dead is sent once more; nothing else is, so no phone rings twice.
        """
        try:
            return self._bounded(ask, budget)
        except Unavailable as first:
            if ask.method != "GET" or budget.connected or budget.received:
                raise
            sent = first.sent
        try:
            return self._bounded(ask, budget)
        except Unavailable as second:
            second.sent = second.sent or sent
            raise

    def close(self) -> None:
        """Close the kept connections."""
        self._adapter.close()  # type: ignore[no-untyped-call]  # the stub has no annotation

    def _bounded(self, ask: Ask, budget: Budget) -> Answer:
        budget.next_exchange()
        try:
            with spending(budget):
                return _read(self._adapter.send(_prepared(ask), timeout=budget.left()))
        except Unavailable as known:
            outage = Unavailable(known.port, known.fault, known.detail)
        except Exception as error:  # noqa: BLE001  the text of whatever requests raises may hold the URL
            outage = _not_http(error, budget)
        outage.sent = budget.sent
        raise outage


def _prepared(ask: Ask) -> PreparedRequest:
    """Make requests' form of it by hand: prepare() would decode %2E, and ".." is an identity like any other."""
    request = PreparedRequest()
    request.method, request.url, request.body = ask.method, ask.url, ask.body
    request.headers = CaseInsensitiveDict(ask.headers)
    if ask.body is not None:
        request.headers["Content-Length"] = str(len(ask.body))
    return request


def _not_http(error: Exception, budget: Budget) -> Unavailable:
    """Name an exception of the HTTP libraries: what goes wrong on the line was named by the sockets already."""
    if budget.ended:
        return Unavailable(PORT, Fault.UNREACHABLE, "read: connection closed before the answer was complete")
    return Unavailable(PORT, Fault.BROKEN, f"not an HTTP answer ({type(error).__name__})")


def _read(response: Response) -> Answer:
    raw = response.raw
    try:
        body = raw.read(MAX_BODY + 1, decode_content=False)
        too_long = len(body) > MAX_BODY
        if raw.length_remaining and not too_long:
            raise Unavailable(PORT, Fault.UNREACHABLE, "read: connection closed before the answer was complete")
        return Answer(response.status_code, raw.headers.get("Retry-After", ""), None if too_long else body)
    finally:
        if raw.length_remaining != 0 and not raw.isclosed():
            raw.close()
        raw.release_conn()


class _Connection(HTTPSConnection):
    """A connection that is opened by our own Line."""

    def __init__(self, line: Line, **options: Any) -> None:  # noqa: ANN401  urllib3's, not looked at
        super().__init__(**options)
        self._line = line
        self._used = 0.0

    def connect(self) -> None:
        self.sock = self._line.open(self.host, self.port)
        self.is_verified = True
        self._used = time.monotonic()

    def request(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  urllib3's, passed on
        """Send a request, on a new connection when the kept one was idle for long."""
        if self.sock is not None and time.monotonic() - self._used > MAX_IDLE:
            self.close()
        super().request(*args, **options)
        self._used = time.monotonic()


class _Pool(HTTPSConnectionPool):
    """A pool that makes such connections."""

    def __init__(self, *args: Any, line: Line, **options: Any) -> None:  # noqa: ANN401  urllib3's, passed on
        super().__init__(*args, **options)
        self.ConnectionCls = partial(_Connection, line)  # type: ignore[misc,assignment]  # urllib3 only calls it


class _Adapter(HTTPAdapter):
    """requests' adapter over such pools; it speaks https only."""

    def __init__(self, line: Line, pool_size: int) -> None:
        self._line = line
        super().__init__(pool_connections=4, pool_maxsize=pool_size)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  requests', passed on
        super().init_poolmanager(*args, **options)  # type: ignore[no-untyped-call]  # the stub has no annotation
        self.poolmanager.pool_classes_by_scheme = {"https": partial(_Pool, line=self._line)}

    def cert_verify(self, *args: object) -> None:
        """Leave the certificates to the Line's context, which always asks for a good one."""

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:  # noqa: ANN401  urllib3's response
        """Make a response without the parts that are never used here, cookies first of all."""
        response = Response()
        response.request, response.raw, response.status_code = req, resp, resp.status
        return response
