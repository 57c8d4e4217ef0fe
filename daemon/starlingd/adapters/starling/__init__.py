"""Starling 2FA, the joined cloud service (STARLING-API §1), as a SecondFactor.

Nothing about the service is assumed that is not documented: an answer that is not known is an outage, and an outage is
never a success. It must never let a code, a token or the credential into a log, an exception or a repr, and it never
waits on its own: a service that asks to wait is an ``Unavailable`` whose ``retry_after`` the conversation obeys.
"""

from __future__ import annotations

import json
import logging
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlingd.adapters.starling import answers, tokens
from starlingd.adapters.starling.tokens import Token, Tokens
from starlingd.core.model import Check, NotStarted, PushStatus, Started
from starlingd.ports import Fault, Unavailable
from starlingd.web.budget import PORT, Budget
from starlingd.web.flights import Flights
from starlingd.web.https import Ask, Https
from starlingd.web.statuses import Statuses
from starlingd.web.urls import base, encoded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlingd.adapters.starling.answers import Reply
    from starlingd.core.enrolment import Contact
    from starlingd.core.model import Push

__all__ = ["Starling"]

_log = logging.getLogger("starlingd.starling")

_VERIFY = "/v1/Users/{id}/verify"
_USERS = "/v1/Users"
_PUSH = "/v1/Users/{id}/approvalrequests"
_STATUS = "/v1/ApprovalRequests/{id}"


class Starling:
    """The joined Starling service. Safe from any thread; nothing is sent before the first call.

    ``service_url`` and ``token_url`` are scheme, host and port. ``http_timeout``, in seconds, bounds each call as a
    whole (token, request and, after a 401, both once more), as does the caller's ``timeout`` if it is shorter; running
    out of the former is UNREACHABLE, of the latter BROKEN. ``proxy`` is ``http://[user:password@]host:port``; the
    environment's is never used. Raises Unavailable(MISCONFIGURED) for certificate authorities or a proxy that cannot be
    used. The clocks are monotonic and wall-clock seconds.
    """

    def __init__(
        self,
        *,
        client_id: str,
        client_secret: str,
        service_url: str,
        token_url: str,
        ca_file: Path | None = None,
        http_timeout: float = 10.0,
        proxy: str | None = None,
        pool_size: int = 64,
        user_agent: str = "pam-starling",
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._service_url = base(service_url)
        self._token_url = base(token_url) + tokens.PATH
        self._credential = tokens.basic_authorization(client_id, client_secret)
        self._http_timeout = http_timeout
        self._headers = {"Accept": "application/json", "User-Agent": user_agent}
        self._clock = clock
        self._wall_clock = wall_clock
        self._flights = Flights()
        self._https = Https(ca_file, proxy, self._flights, pool_size)
        self._tokens = Tokens(lambda: self._fetch_token(self._budget(http_timeout)), self._flights, clock)
        self._statuses = Statuses()

    def verify(self, identity: str, code: str, timeout: float) -> Check:
        """Check a code; it is sent again only after a 401 or a dead connection. Raises Unavailable, also for 429."""
        if not identity:
            return Check.NOT_ENROLLED
        reply = self._call("GET", _VERIFY, identity, timeout, query="?tokenResponse=" + encoded(code))
        if reply.unknown_user:
            return Check.NOT_ENROLLED
        if reply.succeeded:
            return Check.RIGHT
        if reply.status == HTTPStatus.UNAUTHORIZED:
            return Check.WRONG
        raise self._failure(reply)

    def start_push(self, identity: str, push: Push, timeout: float) -> Started | NotStarted:
        """Send a push; it is sent again only after a 401. Raises Unavailable, also for 429."""
        if not identity:
            return NotStarted.NOT_ENROLLED
        content = {"message": push.message, "secondsToExpire": push.lifetime, "details": dict(push.details)}
        reply = self._call("POST", _PUSH, identity, timeout, body=json.dumps(content).encode())
        if reply.unknown_user:
            return NotStarted.NOT_ENROLLED
        if reply.succeeded:
            return Started(reply.text("id"))
        raise self._failure(reply)

    def check_push(self, request: str, timeout: float) -> PushStatus:
        """Ask how a push stands. Raises Unavailable, also for 429."""
        reply = self._call("GET", _STATUS, request, timeout)
        if reply.status == HTTPStatus.PAYMENT_REQUIRED:
            return PushStatus.EXPIRED
        if reply.succeeded:
            return self._statuses.read(reply.text("status"))
        raise self._failure(reply)

    def enrol(self, contact: Contact, timeout: float) -> str | None:
        """Create a user, or find the one with this number and address; None when the service takes neither."""
        content = {"phone": contact.phone, "email": contact.email, "displayName": contact.display_name}
        reply = self._call("POST", _USERS, "", timeout, body=json.dumps(content).encode())
        if reply.succeeded:
            return reply.text("id")
        if reply.status == HTTPStatus.BAD_REQUEST:
            return None
        raise self._failure(reply)

    def probe_token(self, timeout: float) -> None:
        """Make a token request that no login caused and forget the token; raises Unavailable if it fails."""
        self._fetch_token(self._budget(timeout))

    def close(self) -> None:
        """Wait for the requests of this object's own threads and close the kept connections."""
        self._flights.close()
        self._https.close()

    def _budget(self, timeout: float) -> Budget:
        return Budget(min(timeout, self._http_timeout), own=timeout < self._http_timeout)

    def _call(
        self, method: str, path: str, an_id: str, timeout: float, query: str = "", body: bytes | None = None
    ) -> Reply:
        """Call the API; a 401 may be about the token, however young it is, so it is renewed and the call repeated."""
        budget = self._budget(timeout)
        url = self._service_url + path.replace("{id}", encoded(an_id)) + query
        token = self._tokens.get(budget)
        reply = self._exchange(path, Ask(method, url, self._headers_with(token, body), body), budget)
        if reply.status != HTTPStatus.UNAUTHORIZED or reply.unknown_user:
            return reply
        token = self._renewed(token, budget)
        return self._exchange(path, Ask(method, url, self._headers_with(token, body), body), budget)

    def _headers_with(self, token: Token, body: bytes | None) -> dict[str, str]:
        content = {} if body is None else {"Content-Type": "application/json"}
        return {**self._headers, **content, "Authorization": f"Bearer {token.bearer}"}

    def _renewed(self, refused: Token, budget: Budget) -> Token:
        try:
            return self._tokens.get(budget, refused)
        except Unavailable as known:
            # A wrong code led here, perhaps: somebody who types one must not make the service look unreachable.
            fault = Fault.BROKEN if known.fault is Fault.UNREACHABLE else known.fault
            outage = Unavailable(PORT, fault, f"status 401, then {known.detail}", known.retry_after)
        raise outage

    def _fetch_token(self, budget: Budget) -> Token:
        headers = {"Authorization": self._credential, "Content-Type": "application/x-www-form-urlencoded"}
        ask = Ask("POST", self._token_url, self._headers | headers, b"grant_type=client_credentials")
        return tokens.from_reply(self._exchange(tokens.PATH, ask, budget), self._clock(), self._wall_clock())

    def _exchange(self, path: str, ask: Ask, budget: Budget) -> Reply:
        """Send ``ask``; ``path``, which has no id in it, is what the log calls it."""
        began = time.monotonic()
        outcome = "no answer"
        try:
            answer = self._https.exchange(ask, budget)
            outcome = f"status {answer.status}"
        finally:
            _log.debug("%s %s: %s after %.0f ms", ask.method, path, outcome, (time.monotonic() - began) * 1000)
        return answers.read(answer)

    def _failure(self, reply: Reply) -> Unavailable:
        if reply.status == HTTPStatus.UNAUTHORIZED:
            # The token service takes our credential and the API does not take its token: the subscription is wrong.
            return Unavailable(PORT, Fault.MISCONFIGURED, "status 401 with a new token")
        return answers.failure(reply, self._wall_clock())
