"""One connection to one server, bound and ready: searches go in, entries come out.

ldap3 speaks the protocol; time, TLS, addresses and referrals are ours. Its SAFE_SYNC strategy returns each answer to
whoever asked instead of leaving it on the connection; one thread uses a link at a time all the same. It must never
follow a referral, take a part of an answer for the whole, or let out an exception or a text of ldap3 or the server:
they may hold what was asked, and by whom.
"""

from __future__ import annotations

import select
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

import ldap3
from ldap3.core import results
from ldap3.core.exceptions import LDAPInvalidFilterError, LDAPSessionTerminatedByServerError
from ldap3.strategy.safeSync import SafeSyncStrategy

from starlingd.adapters.ldap.budget import Budget, Outage, PlainSocket, Refusal, TlsSocket
from starlingd.core.rules import Tls
from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from starlingd.adapters.ldap.line import Address, Line
    from starlingd.core.rules import DirectoryPolicy

START_TLS = "1.3.6.1.4.1.1466.20037"
PAGED_RESULTS = "1.2.840.113556.1.4.319"
CHUNK = 64 * 1024
"""Bytes read at a time; ldap3's own 4 KiB make it copy a large group over and over."""

_NOT_HERE = frozenset({results.RESULT_BUSY, results.RESULT_UNAVAILABLE, results.RESULT_TIME_LIMIT_EXCEEDED})
_OUR_FAULT = frozenset(
    {
        results.RESULT_STRONGER_AUTH_REQUIRED,
        results.RESULT_REFERRAL,
        results.RESULT_ADMIN_LIMIT_EXCEEDED,
        results.RESULT_SIZE_LIMIT_EXCEEDED,
        results.RESULT_CONFIDENTIALITY_REQUIRED,
        results.RESULT_NO_SUCH_OBJECT,
        results.RESULT_INVALID_DN_SYNTAX,
        results.RESULT_INAPPROPRIATE_AUTHENTICATION,
        results.RESULT_INVALID_CREDENTIALS,
        results.RESULT_INSUFFICIENT_ACCESS_RIGHTS,
        results.RESULT_OPERATIONS_ERROR,
    },
)


class Entry(NamedTuple):
    """An entry as the server sent it; ``values`` by lower-cased attribute."""

    dn: str
    values: Mapping[str, tuple[bytes, ...]]

    def first(self, attribute: str) -> bytes | None:
        """Tell an attribute's first value."""
        return next(iter(self.values.get(attribute.lower(), ())), None)


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for. ``only`` looks at the entry ``base`` alone, which need not exist.

    More than ``most`` entries are a Refusal, if it is not 0.
    """

    base: str
    filter: str
    attributes: Sequence[str] = ()
    only: bool = False
    most: int = 0


class _Server(ldap3.Server):  # type: ignore[misc]  # ldap3 has no types
    """A server whose address is none of ldap3's business."""

    def candidate_addresses(self) -> list[list[Any]]:
        return [[0, 0, 0, "", ("", 0), None, None]]


class _Strategy(SafeSyncStrategy):  # type: ignore[misc]  # ldap3 has no types
    """SAFE_SYNC over a socket that we opened."""

    def __init__(self, connection: ldap3.Connection, sock: PlainSocket | TlsSocket) -> None:
        super().__init__(connection)
        self.socket_size = CHUNK
        self._ours = sock

    def _open_socket(self, address: object, use_ssl: bool = False, unix_socket: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  ldap3's signature
        self.connection.socket = self._ours
        self.connection.closed = False


class Link:
    """A bound connection; used by one thread at a time, within ``using``."""

    def __init__(self, address: Address, sock: PlainSocket | TlsSocket, policy: DirectoryPolicy) -> None:
        self.address = address
        self.broken = False
        """Whether the server or the line ended it."""
        self.last_used = 0.0
        self._connection = _connection(sock, address, policy)

    @contextmanager
    def using(self, budget: Budget) -> Iterator[None]:
        """Keep to ``budget`` meanwhile. A link that anything went wrong with is closed. Raises only Unavailable."""
        if self.broken:
            raise Outage("connection closed")
        self._connection.socket.budget = budget
        try:
            yield
        except BaseException as error:
            self.close()
            if isinstance(error, Unavailable) or not isinstance(error, Exception):
                raise
            failure = _not_ldap(error)
        else:
            return
        raise failure

    def secure(self, line: Line, budget: Budget) -> None:
        """Have the server start TLS, and start it."""
        _, result, _, _ = self._connection.extended(START_TLS)
        if result["type"] != "extendedResp" or result["result"] != results.RESULT_SUCCESS:
            raise Outage(f"{self.address}: StartTLS: {result['description']}", Fault.MISCONFIGURED)
        self._connection.socket = line.secure(self._connection.socket, self.address, budget)

    def bind(self) -> None:
        """Say who we are; raises Refusal when the directory does not believe it."""
        _, result, _, _ = self._connection.bind(read_server_info=False)
        _judge(result, "bindResponse", "bind")

    def search(self, search: Search) -> list[Entry]:
        """Find all entries; raises Refusal when the server does not tell all."""
        return self._search(search, None)[0]

    def page(self, search: Search, size: int, cookie: bytes) -> tuple[list[Entry], bytes]:
        """Find the next ``size`` entries and the cookie for the page after it, which is empty after the last."""
        entries, result = self._search(search, size, cookie)
        control = result.get("controls", {}).get(PAGED_RESULTS)
        if control is None:
            raise Refusal("the server does not know paged searches")
        return entries, bytes(control["value"]["cookie"])

    def _search(self, search: Search, size: int | None, cookie: bytes = b"") -> tuple[list[Entry], Mapping[str, Any]]:
        _, result, response, _ = self._connection.search(
            search.base,
            search.filter,
            search_scope=ldap3.BASE if search.only else ldap3.SUBTREE,
            dereference_aliases=ldap3.DEREF_NEVER,
            attributes=list(search.attributes),
            size_limit=search.most + 1 if search.most else 0,
            time_limit=ceil(self._connection.socket.budget.left()),
            paged_size=size,
            paged_criticality=True,
            paged_cookie=cookie or None,
        )
        entries = [_entry(found) for found in response or () if found["type"] == "searchResEntry"]
        if search.most and len(entries) > search.most:
            raise Refusal("more than one entry where one is meant")
        _judge(result, "searchResDone", "search", results.RESULT_NO_SUCH_OBJECT if search.only else 0)
        return entries, result

    def is_fresh(self) -> bool:
        """Tell whether the server has said nothing since: a farewell, or the end, is all it can have to say."""
        sock = self._connection.socket
        if sock is None:
            return False
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """End the connection, without ceremony."""
        self.broken = True
        sock, self._connection.socket = self._connection.socket, None
        if sock is not None:
            sock.close()


def open_link(address: Address, line: Line, policy: DirectoryPolicy, budget: Budget) -> Link:
    """Connect, secure and bind; raises Outage or Refusal."""
    if policy.bind_dn and not policy.bind_password:
        # A simple bind without a password succeeds as nobody (RFC 4513 §5.1.2).
        raise Refusal("bind_dn without bind_password", Fault.MISCONFIGURED)
    link = Link(address, line.open(address, budget), policy)
    with link.using(budget):
        if policy.tls is Tls.STARTTLS and address.scheme == "ldap":
            link.secure(line, budget)
        if policy.bind_dn or address.scheme == "ldapi":
            link.bind()
    return link


def _connection(sock: PlainSocket | TlsSocket, address: Address, policy: DirectoryPolicy) -> ldap3.Connection:
    external = address.scheme == "ldapi" and not policy.bind_dn
    connection = ldap3.Connection(
        _Server("of.no.concern", get_info=ldap3.NONE),
        user=policy.bind_dn or None,
        password=policy.bind_password or None,
        client_strategy=ldap3.SAFE_SYNC,
        authentication=ldap3.SASL if external else None,
        sasl_mechanism=ldap3.EXTERNAL if external else None,
        sasl_credentials="" if external else None,  # empty, not absent: then the server would ask for them
        auto_bind=ldap3.AUTO_BIND_NONE,
        auto_referrals=False,
        auto_range=False,
        auto_escape=False,
        auto_encode=False,
        check_names=False,
        read_only=True,
        return_empty_attributes=False,
    )
    strategy = _Strategy(connection, sock)
    connection.strategy = strategy
    for name in ("send", "open", "get_response", "post_send_single_response", "post_send_search"):
        setattr(connection, name, getattr(strategy, name))
    connection.open(read_server_info=False)
    return connection


def _judge(result: Mapping[str, Any], kind: str, doing: str, as_good: int = results.RESULT_SUCCESS) -> None:
    """Raise Outage or Refusal unless the server says that all went well, in an answer of the right kind.

    ``as_good`` is a code that is no failure either. ``description`` is a word of ldap3's.
    """
    code = result["result"]
    if result["type"] != kind:
        raise Outage(f"{doing}: an answer to another question")
    if code in {results.RESULT_SUCCESS, as_good}:
        return
    detail = f"{doing}: {result['description']} ({code})"
    if code in _NOT_HERE:
        raise Outage(detail)
    raise Refusal(detail, Fault.MISCONFIGURED if code in _OUR_FAULT else Fault.BROKEN)


def _entry(found: Mapping[str, Any]) -> Entry:
    values = {name.lower(): tuple(values) for name, values in found["raw_attributes"].items()}
    return Entry(bytes(found["raw_dn"]).decode(), values)


def _not_ldap(error: Exception) -> Unavailable:
    """Name what ldap3 raised, by its kind alone."""
    kind = type(error).__name__
    if isinstance(error, LDAPSessionTerminatedByServerError):
        return Outage("connection closed by the server")
    if isinstance(error, LDAPInvalidFilterError):
        return Refusal("a filter makes no sense", Fault.MISCONFIGURED)
    return Outage(f"not an answer: {kind}")
