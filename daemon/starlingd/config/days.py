"""Parsers of rules that hold until a day; a day lasts to its end in UTC."""

from __future__ import annotations

import calendar
import datetime as dt
import re

from starlingd.config.values import Unfit
from starlingd.core.rules import NotEnrolled, Unenrolled

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_DAY_LENGTH = 86400


def unenrolled(value: str) -> Unenrolled:
    """Read ``deny``, ``enrol`` or ``allow_until YYYY-MM-DD``."""
    action, _, day = value.lower().partition(" ")
    until = _end_of(day.strip())
    if action == NotEnrolled.ALLOW_UNTIL and until is not None:
        return Unenrolled(NotEnrolled.ALLOW_UNTIL, until)
    if action in {NotEnrolled.DENY, NotEnrolled.ENROL} and not day:
        return Unenrolled(NotEnrolled(action))
    raise Unfit("must be deny, enrol, or allow_until and a day such as 2030-12-31")


def enforcement(value: str) -> float:
    """Read ``yes``, or ``observe until YYYY-MM-DD``: the end of that day in Unix seconds; 0 is yes."""
    said = " ".join(value.lower().split())
    if said == "yes":
        return 0.0
    until = _end_of(said.removeprefix("observe until "))
    if until is None or not said.startswith("observe until "):
        raise Unfit("must be yes, or observe until and a day such as 2030-12-31")
    return until


def _end_of(day: str) -> float | None:
    if not _DAY.fullmatch(day):
        return None
    try:
        return float(calendar.timegm(dt.date.fromisoformat(day).timetuple()) + _DAY_LENGTH)
    except ValueError:  # such as the 31st of February
        return None
