"""The words for how a push stands, which both of Starling's services use."""

from __future__ import annotations

import logging
import re

from starlingd.core.model import PushStatus

_log = logging.getLogger("starlingd.starling")

_KNOWN = {
    "pending": PushStatus.PENDING,
    "approved": PushStatus.APPROVED,
    "denied": PushStatus.DENIED,
    "expired": PushStatus.EXPIRED,
}
_WORD = re.compile(r"[A-Za-z_-]{1,40}")
_MAX_STRANGE = 16
"""Most different unknown words that are logged, each once."""


class Statuses:
    """Reads the words; one that nobody documented is logged once, and waited for."""

    def __init__(self) -> None:
        self._strange: set[str] = set()

    def read(self, text: str) -> PushStatus:
        """Tell how a push stands."""
        status = _KNOWN.get(text)
        if status is not None:
            return status
        # Only a plain word is repeated: whatever else the service sends is its own affair, not the log's.
        shown = text if _WORD.fullmatch(text) else "(not a word)"
        if shown not in self._strange and len(self._strange) < _MAX_STRANGE:
            self._strange.add(shown)
            _log.warning("push status %s is not documented; waiting for another one", shown)
        return PushStatus.UNKNOWN
