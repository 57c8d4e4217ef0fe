"""How many answers one connection has used up (SEMANTICS §11, max_attempts), and which the service has refused.

sshd starts ``authenticate`` anew after each failure, so the count must outlive one call: it belongs to the connection.
The table is bounded: the connection that was quiet for the longest time makes room for a new one. Whoever could push
his own connection out of it that way could as well begin a new one, whose count starts at nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlingd.core.model import Login, Process

LIFETIME = 900.0
"""Seconds after its last use at which a connection is forgotten; sshd's LoginGraceTime is far shorter."""
MOST_CONNECTIONS = 50_000


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection: the process that lives as long as it does, and the addresses and ports where known."""

    process: Process
    addresses: str


def connection_of(login: Login) -> Connection:
    """Tell which connection a login belongs to.

    In keyboard-interactive the caller is a child that lives for one ``authenticate``, its parent is the monitor, and
    the module knows the connection. On sshd's password path and in ``login`` the caller itself lives on, and its
    parent may be shared with others.
    """
    if login.connection:
        return Connection(login.parent, login.connection)
    return Connection(login.caller, "")


def connections_of(login: Login) -> tuple[Connection, ...]:
    """Tell every connection that this call may belong to: in the account hook the caller may be the monitor itself."""
    return (
        Connection(login.parent, login.connection),
        Connection(login.caller, login.connection),
        Connection(login.caller, ""),
    )


@dataclass(slots=True)
class _Count:
    answers: int
    closed: bool
    used: float
    refused: frozenset[str] = field(default=frozenset(), repr=False)


class Attempts:
    """The connections seen lately. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._counts: dict[Connection, _Count] = {}

    def spent(self, connection: Connection, now: float) -> int:
        """Tell how many answers this connection has used up."""
        count = self._count(connection, now)
        return count.answers if count else 0

    def closed(self, connection: Connection, now: float) -> bool:
        """Tell whether this connection was told that it may not try again."""
        count = self._count(connection, now)
        return count is not None and count.closed

    def add_answer(self, connection: Connection, now: float) -> None:
        """Count one answer."""
        self._use(connection, now).answers += 1

    def refused(self, connection: Connection, now: float) -> frozenset[str]:
        """Tell the codes that the service has refused on this connection."""
        count = self._count(connection, now)
        return count.refused if count else frozenset()

    def add_refused(self, connection: Connection, code: str, now: float) -> None:
        """Note a code that the service has refused."""
        count = self._use(connection, now)
        count.refused |= {code}

    def close(self, connection: Connection, now: float) -> None:
        """Let nobody try again on this connection."""
        self._use(connection, now).closed = True

    def prune(self, now: float) -> None:
        """Forget connections that were not used for LIFETIME."""
        for connection in [key for key, count in self._counts.items() if now - count.used > LIFETIME]:
            del self._counts[connection]

    def _use(self, connection: Connection, now: float) -> _Count:
        """Find a connection's count or begin one, and put it last in the table."""
        count = self._count(connection, now) or _Count(0, closed=False, used=now)
        count.used = now
        self._counts.pop(connection, None)
        if len(self._counts) >= MOST_CONNECTIONS:
            del self._counts[next(iter(self._counts))]
        self._counts[connection] = count
        return count

    def _count(self, connection: Connection, now: float) -> _Count | None:
        count = self._counts.get(connection)
        if count is not None and now - count.used > LIFETIME:
            return None
        return count
