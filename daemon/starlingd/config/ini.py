"""The line format of starling.conf: text to sections, keys and raw values, each with its line.

The format is that of Python's configparser (which the vendor's gateway uses), read here because configparser stops at
the first duplicate and forgets the lines. Nothing here may know which sections exist, and no line is ever dropped
silently: it is a value, or a comment, or a problem.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from starlingd.config.problems import Problem

_HEADING = re.compile(r"\[(?P<name>.+)\](?P<rest>.*)", re.DOTALL)
_OPTION = re.compile(r"(?P<key>[^=:]*)[=:](?P<value>.*)", re.DOTALL)


@dataclass(slots=True)
class Entry:
    """A key's raw value: its lines, stripped, and the number of the first one."""

    line: int
    text: list[str]
    continued: list[tuple[int, str]] = field(default_factory=list)
    """The indented lines that were taken as parts of the value, with their numbers."""

    @property
    def value(self) -> str:
        """The value as configparser gives it."""
        return "\n".join(self.text).rstrip()


@dataclass(slots=True)
class Document:
    """What the text holds. Section names are literal, keys are in lower case."""

    sections: dict[str, dict[str, Entry]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    """Where each section begins."""
    problems: list[Problem] = field(default_factory=list)


def parse(text: str) -> Document:
    """Read the text to its end, whatever it holds."""
    reader = _Reader()
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        reader.feed(number, line)
    return reader.document


def split_option(text: str) -> tuple[str, str] | None:
    """Split a line into key (in lower case) and value at the first ``=`` or ``:``; None when there is no key."""
    found = _OPTION.fullmatch(text)
    key = found["key"].strip().lower() if found else ""
    return (key, found["value"].strip()) if found and key else None


class _Reader:
    def __init__(self) -> None:
        self.document = Document()
        self._name = ""
        self._section: dict[str, Entry] | None = None
        self._entry: Entry | None = None
        """The value that an indented line continues."""
        self._indent = 0

    def feed(self, number: int, line: str) -> None:
        text = line.strip()
        if text.startswith(("#", ";")):
            return
        if not text:
            if self._entry is not None:
                self._entry.text.append("")
            return
        indent = len(line) - len(line.lstrip())
        if self._entry is not None and indent > self._indent:
            self._entry.text.append(text)
            self._entry.continued.append((number, text))
            return
        self._indent = indent
        self._entry = None
        if text.startswith("["):
            self._start_section(number, text)
        else:
            self._add_option(number, text)

    def _start_section(self, number: int, text: str) -> None:
        found = _HEADING.fullmatch(text)
        self._name = found["name"] if found else text.strip("[]")
        if not found:
            self._problem(number, "", "a section's line is its name in brackets: write [name]")
        elif found["rest"]:
            self._problem(number, "", "nothing may follow the ] of a section's line: a comment has a line of its own")
        if not self._name:
            self._section = {}  # its keys belong nowhere, which has been said
            return
        first = self.document.lines.setdefault(self._name, number)
        if first != number:
            self._problem(number, "", f"is here a second time: put its keys under the first one, line {first}")
        self._section = self.document.sections.setdefault(self._name, {})

    def _add_option(self, number: int, text: str) -> None:
        option = split_option(text)
        if option is None:
            self._problem(number, "", 'this is no section, key or comment: write "key = value", or begin it with #')
            return
        key, value = option
        self._entry = Entry(number, [value])
        if self._section is None:
            self._problem(number, key, "stands before the first section: put it under a line such as [auth]")
        elif key in self._section:
            first = self._section[key].line
            self._problem(number, key, f"is here a second time: keep this line or line {first}, not both")
        else:
            self._section[key] = self._entry

    def _problem(self, number: int, key: str, message: str) -> None:
        self.document.problems.append(Problem(self._name, key, message, number))
