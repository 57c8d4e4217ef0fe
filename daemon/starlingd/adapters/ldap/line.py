"""Opening a connection to one of the configured addresses, within the question's budget.

It must never let a name, an address or a handshake take longer than the budget, never go on without a certificate that
is good for the host where TLS is asked for, and never look at the environment (LDAPCONF, SSL_CERT_FILE, SSLKEYLOGFILE).
"""

from __future__ import annotations

import socket
import ssl
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from starlingd.adapters.ldap.budget import Budget, Outage, PlainSocket, Refusal, TlsSocket
from starlingd.ports import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SYSTEM_STORE = "/etc/ssl/certs/ca-certificates.crt"
"""Debian's trusted authorities, named outright: OpenSSL's own search obeys SSL_CERT_FILE."""

PORTS = {"ldap": 389, "ldaps": 636, "ldapi": 0}

Resolver = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
LookUp = "Callable[[str, int], Sequence[Resolver]]"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is: ``host`` and ``port``, or for ldapi the path of its socket in ``host``."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """Name it for the log."""
        return f"{self.scheme}://{self.host}" + (f":{self.port}" if self.port else "")


def parse_uri(uri: str) -> Address:
    """Take an LDAP URI apart; raises Refusal."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port if parts.scheme != "ldapi" else None
    except ValueError:
        raise Refusal("uri makes no sense", Fault.MISCONFIGURED) from None
    if parts.scheme == "ldapi":
        host = unquote(parts.netloc)
    if parts.scheme not in PORTS or not host:
        raise Refusal("uri is not ldap://, ldaps:// or ldapi://", Fault.MISCONFIGURED)
    return Address(parts.scheme, host, port or PORTS[parts.scheme])


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Make the context that trusts only ``ca_file``, or the system's store; raises Refusal."""
    # Not create_default_context: it obeys SSL_CERT_FILE and SSLKEYLOGFILE.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = TlsSocket
    # An end without TLS's own farewell may be an attacker's who cuts an answer short; Python overlooks it by default.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    try:
        context.load_verify_locations(ca_file or SYSTEM_STORE)
    except OSError as error:
        detail = f"certificate authorities {ca_file or SYSTEM_STORE}: {error.strerror or type(error).__name__}"
        raise Refusal(detail, Fault.MISCONFIGURED) from None
    return context


def system_look_up(host: str, port: int) -> Sequence[Resolver]:
    """Ask the system for the addresses of a host."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Names:
    """Look-ups of host names, each in a thread of its own, shared by all who want it: getaddrinfo has no time-out."""

    def __init__(self, look_up: Callable[[str, int], Sequence[Resolver]]) -> None:
        self._look_up = look_up
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], Future[Sequence[Resolver]]] = {}

    def addresses(self, host: str, port: int, budget: Budget) -> Sequence[Resolver]:
        """Tell a host's addresses; raises Outage when there are none or the budget does not suffice."""
        with suppress(OSError, UnicodeError):
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        with self._lock:
            running = self._running.get((host, port))
            if running is None or running.done():
                running = self._running[host, port] = self._start(host, port)
        try:
            return running.result(timeout=budget.left())
        except OSError as error:
            outage = budget.outage(error, f"look up {host}")
        except UnicodeError:
            outage = Outage(f"look up {host}: not a host name", Fault.MISCONFIGURED)
        raise outage

    def _start(self, host: str, port: int) -> Future[Sequence[Resolver]]:
        future: Future[Sequence[Resolver]] = Future()
        work = partial(_finish, future, partial(self._look_up, host, port))
        # A daemon thread: a resolver that hangs must not keep the process from stopping.
        threading.Thread(target=work, name=f"directory look-up of {host}", daemon=True).start()
        return future


def _finish(future: Future[Sequence[Resolver]], work: Callable[[], Sequence[Resolver]]) -> None:
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001  handed to everyone who waits
        future.set_exception(error)
    else:
        future.set_result(result)


class Line:
    """The way to the servers. Safe from any thread."""

    def __init__(self, ca_file: str, look_up: Callable[[str, int], Sequence[Resolver]] = system_look_up) -> None:
        self._ca_file = ca_file
        self._names = Names(look_up)
        self._context: ssl.SSLContext | None = None

    def open(self, address: Address, budget: Budget) -> PlainSocket | TlsSocket:
        """Connect, with TLS for ldaps; raises Outage or Refusal."""
        if address.scheme == "ldapi":
            return _connect_all([(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", address.host)], address, budget)
        found = self._names.addresses(address.host, address.port, budget)
        sock = _connect_all(found, address, budget)
        return self.secure(sock, address, budget) if address.scheme == "ldaps" else sock

    def secure(self, sock: PlainSocket | TlsSocket, address: Address, budget: Budget) -> TlsSocket:
        """Start TLS on a connection and check the certificate; the plain socket is used up, whatever happens."""
        try:
            if self._context is None:
                self._context = tls_context(self._ca_file)
            sock.settimeout(budget.left())
            secured = self._context.wrap_socket(sock, server_hostname=address.host, suppress_ragged_eofs=False)
        except OSError as error:
            outage = budget.outage(error, f"TLS handshake with {address}")
        except ValueError:
            outage = Outage(f"TLS handshake with {address}: not a host name", Fault.MISCONFIGURED)
        else:
            if not isinstance(secured, TlsSocket):
                raise TypeError("the TLS context made a socket of another kind")
            secured.budget = budget
            return secured
        finally:
            sock.close()  # nothing is left in it when the handshake succeeded
        raise outage


def _connect_all(found: Sequence[Resolver], address: Address, budget: Budget) -> PlainSocket:
    """Connect to the first address that answers; each gets its share of the time that is left."""
    outage = Outage(f"look up {address.host}: no address")
    for index, each in enumerate(found):
        share = budget.left() / (len(found) - index)
        try:
            return _connect(each, share, budget)
        except OSError as error:
            outage = budget.outage(error, f"connect to {address}")
    raise outage


def _connect(where: Resolver, seconds: float, budget: Budget) -> PlainSocket:
    family, kind, protocol, _, place = where
    sock = PlainSocket(family, kind, protocol)
    sock.budget = budget
    try:
        sock.settimeout(seconds)
        sock.connect(place)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock
