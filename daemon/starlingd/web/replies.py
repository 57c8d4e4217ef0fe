"""An HTTP answer's JSON, read as far as it can be read, and what an answer means that is of no use.

Pure. It must never trust the type of a field, nor let a service's text into an outage.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlingd.ports import Fault, Unavailable
from starlingd.web.budget import PORT

if TYPE_CHECKING:
    from starlingd.web.https import Answer

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

    def text(self, key: str) -> str:
        """Take the string, or the number's decimal text, under ``key``; never empty. Raises Unavailable(BROKEN)."""
        value = self.fields.get(key)
        if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
            raise Unavailable(PORT, Fault.BROKEN, f"status {self.status} without a usable {key}")
        return value

    def within(self, key: str) -> Reply:
        """Look at the object under ``key`` as if it were the whole body; it is empty when there is none."""
        value = self.fields.get(key)
        return Reply(self.status, self.retry_after, self.sound, value if isinstance(value, dict) else {})


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


def failure(reply: Reply, error_code: str, now: float) -> Unavailable:
    """Make the outage that an answer means which is neither a success nor a denial; ``now`` is wall-clock time."""
    detail = f"status {reply.status}"
    if error_code.isascii() and error_code.isdigit():
        detail += f", error {error_code[:10]}"
    if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
        return Unavailable(PORT, Fault.RATE_LIMITED, detail, seconds_to_wait(reply.retry_after, now))
    return Unavailable(PORT, Fault.UNREACHABLE if reply.status in UNREACHABLE else Fault.BROKEN, detail)


def seconds_to_wait(retry_after: str, now: float) -> float:
    """Read a Retry-After header, seconds or a date, within reason; ``now`` is wall-clock time."""
    stripped = retry_after.strip()
    if stripped.isascii() and stripped.isdigit():
        seconds = float(int(stripped[:10]))
    else:
        try:
            date = parsedate_to_datetime(stripped)
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, TypeError, IndexError, OverflowError):
            return DEFAULT_RETRY_AFTER
    return min(max(seconds, LEAST_RETRY_AFTER), MOST_RETRY_AFTER)
