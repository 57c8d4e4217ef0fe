"""Starling 2FA by a subscription key, the service before joining (STARLING-API §2), as a SecondFactor.

A 401 says "wrong code" and "wrong key" alike: only an answer that names the code, or a key that is good for something
else, makes it a wrong code. It must never let a code or the key into a log, an exception or a repr, take anything for a
success that is not documented as one, or wait on its own.
"""

from __future__ import annotations

import logging
import re
import time
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import phonenumbers

from starlingd.core.model import Check, NotStarted, PushStatus, Started
from starlingd.ports import Fault, Unavailable
from starlingd.web import replies
from starlingd.web.budget import PORT, Budget
from starlingd.web.flights import Flights
from starlingd.web.https import Ask, Https
from starlingd.web.statuses import Statuses
from starlingd.web.urls import base, encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from starlingd.core.enrolment import Contact
    from starlingd.core.model import Push
    from starlingd.web.replies import Reply

__all__ = ["Subscription"]

_log = logging.getLogger("starlingd.starling")

_USERS = "/protected/json/users/new"
_USER = "/protected/json/users/{id}/status"
_VERIFY = "/protected/json/verify/{code}/{id}?force=true"
_PUSH = "/onetouch/json/users/{id}/approval_requests"
_STATUS = "/onetouch/json/approval_requests/{id}"

_ID = re.compile(r"[0-9]{1,32}", re.ASCII)
_CODE = re.compile(r"[0-9]{6,12}", re.ASCII)
_NOBODY = "0"
_YES = ("true", True)
LONGEST_MESSAGE = 200
USER_DOES_NOT_EXIST = "60016"


class Subscription:
    """The subscription-key service. Safe from any thread; nothing is sent before the first call.

    ``api_url`` is scheme, host and port; the other parameters and the errors are those of ``Starling``.
    """

    def __init__(
        self,
        *,
        api_key: str,
        api_url: str,
        ca_file: Path | None = None,
        http_timeout: float = 10.0,
        proxy: str | None = None,
        pool_size: int = 64,
        user_agent: str = "pam-starling",
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = base(api_url)
        self._headers = {"Accept": "application/json", "User-Agent": user_agent, "X-Authy-API-Key": api_key}
        self._http_timeout = http_timeout
        self._wall_clock = wall_clock
        self._flights = Flights()
        self._https = Https(ca_file, proxy, self._flights, pool_size)
        self._statuses = Statuses()

    def verify(self, identity: str, code: str, timeout: float) -> Check:
        """Check a code; it is sent again only over a dead connection. Raises Unavailable, also for 429."""
        budget = self._budget(timeout)
        if not _ID.fullmatch(identity):
            return Check.NOT_ENROLLED
        if not _CODE.fullmatch(code):
            return Check.WRONG
        reply = self._get(_VERIFY, budget, id=identity, code=code)
        if _is_unknown(reply):
            return Check.NOT_ENROLLED
        if _has_succeeded(reply) and reply.fields.get("token") == "is valid":
            return Check.RIGHT
        if reply.status == HTTPStatus.UNAUTHORIZED:
            return self._refused(reply, budget)
        raise self._failure(reply)

    def start_push(self, identity: str, push: Push, timeout: float) -> Started | NotStarted:
        """Send a push, once; the message is cut to what the service takes. Raises Unavailable, also for 429."""
        budget = self._budget(timeout)
        if not _ID.fullmatch(identity):
            return NotStarted.NOT_ENROLLED
        content = {"message": _shortened(push.message), "seconds_to_expire": str(push.lifetime)}
        content |= {f"details[{label}]": text for label, text in push.details}
        reply = self._post(_PUSH, budget, content, id=identity)
        if _is_unknown(reply):
            return NotStarted.NOT_ENROLLED
        if _has_succeeded(reply):
            return Started(reply.within("approval_request").text("uuid"))
        raise self._failure(reply)

    def check_push(self, request: str, timeout: float) -> PushStatus:
        """Ask how a push stands; one that the service does not know is over. Raises Unavailable, also for 429."""
        reply = self._get(_STATUS, self._budget(timeout), id=request)
        if reply.status == HTTPStatus.NOT_FOUND:
            return PushStatus.EXPIRED
        if _has_succeeded(reply):
            return self._statuses.read(reply.within("approval_request").text("status"))
        raise self._failure(reply)

    def enrol(self, contact: Contact, timeout: float) -> str | None:
        """Create a user, or find the one with this number and address; None when the service takes neither.

        The service sends a new user a message with a link to the app.
        """
        budget = self._budget(timeout)
        try:
            number = phonenumbers.parse(contact.phone)
        except phonenumbers.NumberParseException:
            return None
        content = {
            "user[email]": contact.email,
            "user[cellphone]": phonenumbers.national_significant_number(number),
            "user[country_code]": str(number.country_code),
            "send_install_link_via_sms": "true",
        }
        reply = self._post(_USERS, budget, content)
        if _has_succeeded(reply):
            return reply.within("user").text("id")
        if reply.status == HTTPStatus.BAD_REQUEST:
            return None
        raise self._failure(reply)

    def probe_token(self, timeout: float) -> None:
        """Make a call that no login caused; there are no tokens here. Raises Unavailable if it fails."""
        self._prove_key(self._budget(timeout))

    def close(self) -> None:
        """Wait for the requests of this object's own threads and close the kept connections."""
        self._flights.close()
        self._https.close()

    def _refused(self, reply: Reply, budget: Budget) -> Check:
        """Tell a wrong code from a key that the service does not take."""
        if not reply.within("errors").fields.get("token"):
            try:
                self._prove_key(budget)
            except Unavailable as known:
                # Somebody who types a wrong code must not make the service look unreachable.
                fault = Fault.BROKEN if known.fault is Fault.UNREACHABLE else known.fault
                outage = Unavailable(PORT, fault, f"status 401, then {known.detail}", known.retry_after)
            else:
                return Check.WRONG
            raise outage
        return Check.WRONG

    def _prove_key(self, budget: Budget) -> None:
        """Ask about nobody: whatever the service says of that user, it has taken the key."""
        reply = self._get(_USER, budget, id=_NOBODY)
        if not (_has_succeeded(reply) or _is_unknown(reply) or reply.status == HTTPStatus.BAD_REQUEST):
            raise self._failure(reply)

    def _budget(self, timeout: float) -> Budget:
        budget = Budget(min(timeout, self._http_timeout), own=timeout < self._http_timeout)
        budget.left()
        return budget

    def _get(self, path: str, budget: Budget, **parts: str) -> Reply:
        return self._exchange("GET", path, budget, parts, None)

    def _post(self, path: str, budget: Budget, content: Mapping[str, str], **parts: str) -> Reply:
        return self._exchange("POST", path, budget, parts, urlencode(content).encode())

    def _exchange(self, method: str, path: str, budget: Budget, parts: Mapping[str, str], body: bytes | None) -> Reply:
        """Call the service; ``path``, which has no id and no code in it, is what the log calls it."""
        url = self._url + path.format(**{name: encoded(text) for name, text in parts.items()})
        content = {} if body is None else {"Content-Type": "application/x-www-form-urlencoded"}
        began = time.monotonic()
        outcome = "no answer"
        try:
            answer = self._https.exchange(Ask(method, url, {**self._headers, **content}, body), budget)
            outcome = f"status {answer.status}"
        finally:
            _log.debug("%s %s: %s after %.0f ms", method, path, outcome, (time.monotonic() - began) * 1000)
        return replies.read(answer)

    def _failure(self, reply: Reply) -> Unavailable:
        if reply.status == HTTPStatus.UNAUTHORIZED:
            return Unavailable(PORT, Fault.MISCONFIGURED, "status 401: the api_key is not taken")
        return replies.failure(reply, _error_code(reply), self._wall_clock())


def _has_succeeded(reply: Reply) -> bool:
    """Tell whether an answer is a success and says so itself: a network's sign-in page has status 200, too."""
    return reply.status == HTTPStatus.OK and reply.fields.get("success") in _YES and not reply.fields.get("errors")


def _is_unknown(reply: Reply) -> bool:
    """Tell whether the service does not know the user; the error code counts before the status."""
    return _error_code(reply) == USER_DOES_NOT_EXIST or reply.status == HTTPStatus.NOT_FOUND


def _error_code(reply: Reply) -> str:
    code = reply.fields.get("error_code")
    return code if isinstance(code, str) else ""


def _shortened(message: str) -> str:
    return message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 1] + "…"
