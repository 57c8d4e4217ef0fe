"""Regular expressions with a time-out, by python3-regex: Python's own ``re`` can be kept busy for ever by one text."""

from __future__ import annotations

import logging

import regex

TIMEOUT = 0.2
"""Seconds one match may take."""

log = logging.getLogger("starlingd.patterns")


class RegexPatterns:
    """``ports.Patterns``. Safe from any thread."""

    def matches(self, pattern: str, text: str) -> bool:
        """Match the whole text; a pattern that is none, or takes too long, matches nothing."""
        try:
            return regex.fullmatch(pattern, text, timeout=TIMEOUT, concurrent=True) is not None
        except TimeoutError:
            log.warning("a question's pattern took longer than %s s; taken as no match", TIMEOUT)
        except regex.error:
            log.warning("a question's pattern cannot be compiled; taken as no match")
        return False
