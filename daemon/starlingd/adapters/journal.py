"""Audit events to systemd's journal as structured fields; to stderr, a line each, where there is no journal.

It must not raise, and must not let a value's control characters reach a terminal or make a second line.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from systemd import journal

if TYPE_CHECKING:
    from collections.abc import Mapping

SOCKET = Path("/run/systemd/journal/socket")
LONGEST_VALUE = 1024
"""Characters of one value; a user name of a packet's length would otherwise fill the log."""
IDENTIFIER = "starlingd"


class JournalAuditLog:
    """The audit log of this host."""

    def write(self, message: str, fields: Mapping[str, str], *, warning: bool = False) -> None:
        """Write one event; what cannot be written goes to stderr."""
        clean = {name: _clean(value) for name, value in fields.items()}
        try:
            if not SOCKET.exists():
                self._to_stderr(message, clean)
                return
            priority = journal.LOG_WARNING if warning else journal.LOG_INFO
            journal.send(_clean(message), PRIORITY=priority, SYSLOG_IDENTIFIER=IDENTIFIER, **clean)
        except Exception as error:  # noqa: BLE001  an audit log that fails must not decide a login
            logging.getLogger("starlingd.audit").error("the journal took no event: %s", type(error).__name__)  # noqa: TRY400
            self._to_stderr(message, clean)

    @staticmethod
    def _to_stderr(message: str, fields: Mapping[str, str]) -> None:
        values = " ".join(f"{name}={value!a}" for name, value in fields.items())
        sys.stderr.write(f"audit: {_clean(message)} {values}\n")


def _clean(value: str) -> str:
    """Escape whatever is not printable, and cut what is too long."""
    cut = value if len(value) <= LONGEST_VALUE else value[:LONGEST_VALUE] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode("ascii") for c in cut)
