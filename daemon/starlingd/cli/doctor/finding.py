"""A finding: what an administrator should know, how bad it is, and what to type."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is: errors let people past the second factor or keep everybody out; notes need no action."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. ``id`` is stable, ``reason`` says what is so and why it matters, ``advice`` what to type."""

    id: str
    severity: Severity
    reason: str
    advice: str = ""


def error(name: str, reason: str, advice: str = "") -> Finding:
    """Make a finding that lets people past the second factor, or keeps everybody out."""
    return Finding(name, Severity.ERROR, reason, advice)


def warning(name: str, reason: str, advice: str = "") -> Finding:
    """Make a finding that weakens it, or will break it."""
    return Finding(name, Severity.WARNING, reason, advice)


def note(name: str, reason: str, advice: str = "") -> Finding:
    """Make a finding that is good to know."""
    return Finding(name, Severity.NOTE, reason, advice)
