"""The access token: got by client credentials, kept until shortly before it expires, renewed by one thread at a time.

It must never show the token or the credential in a text, nor hold a lock while it waits for the service.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlingd.adapters.starling import answers
from starlingd.ports import Fault, Unavailable
from starlingd.web.budget import PORT, Budget

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlingd.adapters.starling.answers import Reply
    from starlingd.web.flights import Flights

PATH = "/auth/realms/StarlingClients/protocol/openid-connect/token"

MARGIN = 10.0
"""Seconds before its expiry at which a token is no longer used."""
DEFAULT_LIFETIME = 60.0
"""Seconds for which a token is kept when the service does not say."""
LONGEST_LIFETIME = 86400.0

_BEARER = re.compile(r"[!-~]+")


@dataclass(frozen=True, eq=False)
class Token:
    """An access token; ``usable_until`` is a time of the clock given to Tokens."""

    bearer: str = field(repr=False)
    usable_until: float


def basic_authorization(client_id: str, client_secret: str) -> str:
    """Make the Authorization header of a token request."""
    return "Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()


def from_reply(reply: Reply, now: float, wall: float) -> Token:
    """Read the answer to a token request; raises Unavailable. ``now`` is the clock's time, ``wall`` wall-clock time."""
    if not reply.succeeded:
        raise _refused(reply, wall)
    bearer = reply.text("access_token")
    if not _BEARER.fullmatch(bearer):
        raise Unavailable(PORT, Fault.BROKEN, "an access token with characters that no header can hold")
    return Token(bearer, now + _lifetime(reply) - MARGIN)


def _refused(reply: Reply, wall: float) -> Unavailable:
    outage = answers.failure(reply, wall)
    ours = 400 <= reply.status < 500 and outage.fault is Fault.BROKEN  # noqa: PLR2004  a class of statuses
    fault = Fault.MISCONFIGURED if ours else outage.fault
    return Unavailable(PORT, fault, f"token request: {outage.detail}", outage.retry_after)


def _lifetime(reply: Reply) -> float:
    if reply.fields.get("expires_in") is None:
        return DEFAULT_LIFETIME
    seconds = reply.text("expires_in")
    if not (seconds.isascii() and seconds.isdigit()):
        raise Unavailable(PORT, Fault.BROKEN, "token request: an expires_in that is no number of seconds")
    return min(float(int(seconds[:10])), LONGEST_LIFETIME)


class Tokens:
    """The current token. Safe from any thread."""

    def __init__(self, fetch: Callable[[], Token], flights: Flights, clock: Callable[[], float]) -> None:
        self._fetch = fetch
        self._flights = flights
        self._clock = clock
        self._current: Token | None = None

    def get(self, budget: Budget, refused: Token | None = None) -> Token:
        """Give a token that is not ``refused``, new if need be; raises Unavailable."""
        usable = self._usable(refused)
        if usable is not None:
            return usable
        try:
            token: Token = self._flights.share("token", lambda: self._renew(refused), budget.left())
        except TimeoutError:
            outage = budget.spent()
        except Unavailable as known:
            outage = Unavailable(known.port, known.fault, known.detail, known.retry_after)
        else:
            return token
        raise outage

    def _usable(self, refused: Token | None) -> Token | None:
        current = self._current
        return current if current and current is not refused and self._clock() < current.usable_until else None

    def _renew(self, refused: Token | None) -> Token:
        """Fetch a token, unless another thread did between our look and our turn."""
        token = self._usable(refused)
        if token is None:
            token = self._current = self._fetch()
        return token
