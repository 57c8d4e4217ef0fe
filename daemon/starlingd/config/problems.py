"""What is wrong with a configuration: each problem with its place and what to write instead.

A message must never repeat a value that could be a secret, and what is shown never holds a control character: problems
are read on terminals, in the journal and in systemd's status line.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to change, or, among the warnings, one thing to know.

    ``section`` and ``key`` are empty where the whole file, or the whole section, is meant; ``line`` counts from 1.
    """

    section: str
    key: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line is not None else ""
        section = f"[{_short(self.section)}] " if self.section else ""
        key = f"{_short(self.key)}: " if self.key else ""
        return printable(place + section + key + self.message)


class ConfigError(Exception):
    """A configuration that cannot be used: every problem at once, in the order of the file, and the warnings."""

    def __init__(self, problems: Iterable[Problem], warnings: Iterable[Problem] = ()) -> None:
        self.problems = tuple(problems)
        self.warnings = tuple(warnings)
        super().__init__("; ".join(map(str, self.problems)))


@dataclass(slots=True)
class Notes:
    """Collects what is found while a configuration is read.

    A key whose value was refused (or withheld) is doubtful: nothing more is said about it, nor about what depends on
    it, since its real value is not known.
    """

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    lines: dict[tuple[str, str], int] = field(default_factory=dict)
    """Where each (section, key) stands."""
    doubtful: set[tuple[str, str]] = field(default_factory=set)

    def refuse(self, section: str, key: str, message: str) -> None:
        """Note that a key's value cannot be used."""
        self.problem(section, key, message)
        self.doubtful.add((section, key))

    def problem(self, section: str, key: str, message: str, *, depends_on: Iterable[tuple[str, str]] = ()) -> None:
        """Note a problem, unless one of the keys it depends on is doubtful."""
        if not self._in_doubt(section, key, depends_on):
            self.problems.append(self._make(section, key, message))

    def warn(self, section: str, key: str, message: str, *, depends_on: Iterable[tuple[str, str]] = ()) -> None:
        """Note something that works but should be known, unless one of the keys it depends on is doubtful."""
        if not self._in_doubt(section, key, depends_on):
            self.warnings.append(self._make(section, key, message))

    def given(self, section: str, key: str) -> bool:
        """Tell whether the file sets this key."""
        return (section, key) in self.lines

    def error(self) -> ConfigError:
        """Make the error of all problems so far."""
        return ConfigError(sorted(self.problems, key=_by_line), sorted(self.warnings, key=_by_line))

    def _in_doubt(self, section: str, key: str, depends_on: Iterable[tuple[str, str]]) -> bool:
        return not self.doubtful.isdisjoint({(section, key), *depends_on})

    def _make(self, section: str, key: str, message: str) -> Problem:
        line = self.lines.get((section, key)) or self.lines.get((section, ""))
        return Problem(section, key, message, line)


def printable(text: str) -> str:
    """Escape whatever could move a cursor, end a line or turn the reading direction."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that was probably meant."""
    spellings = {each.casefold(): each for each in known}
    found = difflib.get_close_matches(name[:LONGEST_NAME].casefold(), spellings, n=1)
    return spellings[found[0]] if found else None


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _by_line(problem: Problem) -> float:
    return float("inf") if problem.line is None else problem.line
