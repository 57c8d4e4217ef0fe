"""From an HTTP answer to the core's words: the statuses and error codes of STARLING-API §1, and nothing else.

Pure. It must never take anything for a success that is not documented as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlingd.web import replies

if TYPE_CHECKING:
    from starlingd.ports import Unavailable
    from starlingd.web.https import Answer

USER_DOES_NOT_EXIST = "60016"

SUCCESS = frozenset({200, 201})


@dataclass(frozen=True, slots=True)
class Reply(replies.Reply):
    """An answer of the joined service."""

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


def read(answer: Answer) -> Reply:
    """Read an answer; whatever its body is, this does not fail."""
    made = replies.read(answer)
    return Reply(made.status, made.retry_after, made.sound, made.fields)


def failure(reply: Reply, now: float) -> Unavailable:
    """Make the outage that an answer means which is neither a success nor a denial; ``now`` is wall-clock time."""
    return replies.failure(reply, reply.error_code, now)
