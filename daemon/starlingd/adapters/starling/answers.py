"""From an HTTP answer to the core's words: the statuses, error codes and bodies of STARLING-API §1, and nothing else.

Pure but for the log. It must never take anything for a success that is not documented as one, never trust the type of
a field, and never let the service's text travel further than the log's debug level.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlingd.adapters.starling.budget import PORT
from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from starlingd.adapters.starling.https import Answer

USER_DOES_NOT_EXIST = "60016"

SUCCESS = frozenset({200, 201})
UNREACHABLE = frozenset({502, 503, 504})

DEFAULT_RETRY_AFTER = 5.0
"""Seconds to wait after a 429 that does not say, or not readably, for how long."""
LEAST_RETRY_AFTER, MOST_RETRY_AFTER = 1.0, 3600.0

MAX_TEXT = 8192
"""Longest text that is taken from a field, in characters; it has to fit a header or a path."""

_STRUCTURED = (b"{", b"[", b"<")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read as far as it can be read. ``fields`` is empty when the body is no JSON object.

    Numbers in ``fields`` are their decimal text, so that an id never passes through a float or loses a digit.
    ``sound`` is false for a body that is too long, or begins like JSON or a web page and is no JSON.
    """

    status: int
    retry_after: str
    sound: bool
    fields: dict[str, Any] = field(repr=False)

    @property
    def error_code(self) -> str:
        """The service's error code, or empty."""
        error = self.fields.get("errorMessage")
        code = error.get("errorCode") if isinstance(error, dict) else None
        return code if isinstance(code, str) else ""

    @property
    def succeeded(self) -> bool:
        """Whether the answer is a success and its body does not contradict that (a gateway's page, an error)."""
        return self.status in SUCCESS and self.sound and not self.fields.get("errorMessage")

    @property
    def unknown_user(self) -> bool:
        """Whether the service does not know the user; the error code counts before the status."""
        return self.error_code == USER_DOES_NOT_EXIST or self.status == HTTPStatus.NOT_FOUND

    def text(self, key: str) -> str:
        """Take the string, or the number's decimal text, under ``key``; never empty. Raises Unavailable(BROKEN)."""
        value = self.fields.get(key)
        if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
            raise Unavailable(PORT, Fault.BROKEN, f"status {self.status} without a usable {key}")
        return value


def read(answer: Answer) -> Reply:
    """Read an answer; whatever its body is, this does not fail."""
    body = answer.body
    if body is None:
        return Reply(answer.status, answer.retry_after, sound=False, fields={})
    try:
        value = json.loads(body, parse_int=str, parse_float=_nothing, parse_constant=_nothing)
    except (ValueError, RecursionError):
        return Reply(answer.status, answer.retry_after, sound=not body.lstrip().startswith(_STRUCTURED), fields={})
    return Reply(answer.status, answer.retry_after, sound=True, fields=value if isinstance(value, dict) else {})


def _nothing(_: str) -> None:
    """Stand for a number that is no integer: no field of ours may be one."""


def failure(reply: Reply, now: float) -> Unavailable:
    """Make the outage that an answer means which is neither a success nor a denial; ``now`` is wall-clock time."""
    detail = f"status {reply.status}"
    if reply.error_code.isascii() and reply.error_code.isdigit():
        detail += f", error {reply.error_code[:10]}"
    if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
        return Unavailable(PORT, Fault.RATE_LIMITED, detail, seconds_to_wait(reply.retry_after, now))
    return Unavailable(PORT, Fault.UNREACHABLE if reply.status in UNREACHABLE else Fault.BROKEN, detail)


def seconds_to_wait(retry_after: str, now: float) -> float:
    """Read a Retry-After header, seconds or a date, within reason; ``now`` is wall-clock time."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        seconds = float(int(text[:10]))
    else:
        try:
            date = parsedate_to_datetime(text)
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, TypeError, IndexError, OverflowError):
            return DEFAULT_RETRY_AFTER
    return min(max(seconds, LEAST_RETRY_AFTER), MOST_RETRY_AFTER)
