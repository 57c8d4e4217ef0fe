"""From the file's sections and raw values to the values that a definition asks for.

Whatever the file holds becomes a value or a problem; nothing is passed over. Rules that look at several keys are not
made here.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlingd.config.ini import split_option
from starlingd.config.problems import nearest
from starlingd.config.schema import Values
from starlingd.config.secrets import SecretMissingError
from starlingd.config.values import Unfit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlingd.config.ini import Document, Entry
    from starlingd.config.problems import Notes
    from starlingd.config.schema import Key, Section
    from starlingd.config.secrets import SecretSource

DEFAULT_SECTION = "DEFAULT"
ELSEWHERE = "$"
"""A value that is kept elsewhere (SEMANTICS §2)."""
_LITERAL = {"$$": "$"}


def read(document: Document, definition: Sequence[Section[Any]], secrets: SecretSource | None, notes: Notes) -> Values:
    """Read every section; what is wrong goes to ``notes``. Without ``secrets`` no ``$`` is looked up."""
    single: dict[str, object] = {section.name: section.form() for section in definition if not section.many}
    named: dict[str, dict[str, object]] = {section.name: {} for section in definition if section.many}
    notes.problems.extend(document.problems)
    taken: dict[tuple[str, str], str] = {}
    for heading, entries in document.sections.items():
        section = _owner(heading, definition)
        place = section.place(heading) if section else heading
        notes.lines.setdefault((place, ""), document.lines[heading])
        if not entries:
            continue  # such a section counts as absent: the vendor's sample is full of them
        if section is None:
            _refuse_section(heading, entries, definition, notes)
        elif (first := taken.setdefault((section.name, section.name_in(heading)), heading)) != heading:
            notes.problem(heading, "", f"is another spelling of [{first}]: keep one of the two")
        else:
            form = _SectionReader(section, heading, definition, secrets, notes).read(entries)
            where, name = (named[section.name], section.name_in(heading)) if section.many else (single, section.name)
            where[name] = form
    return Values(single, named)


def holds_secret(document: Document, definition: Sequence[Section[Any]]) -> bool:
    """Tell whether the text itself holds a secret."""
    return any(
        key.secret and entry.value not in {"", ELSEWHERE}
        for heading, entries in document.sections.items()
        for section in definition
        if section.owns(heading)
        for written, entry in entries.items()
        if (key := section.find(written))
    )


class _WithheldError(Exception):
    """The value is a secret, and secrets are not looked at."""


@dataclass(frozen=True, slots=True)
class _SectionReader:
    section: Section[Any]
    heading: str
    definition: Sequence[Section[Any]]
    secrets: SecretSource | None
    notes: Notes

    def read(self, entries: Mapping[str, Entry]) -> object:
        """Make the section's form of all values that can be used."""
        values: dict[str, Any] = {}
        others: dict[str, Any] = {}
        for written, entry in entries.items():
            key = self.section.find(written)
            self.notes.lines[self._place, written] = entry.line
            if key is None:
                self.notes.problem(self._place, written, self._unknown(written))
            elif key.rest:
                self._read_one(key, written, entry, others)
            elif self._is_first(key, written, entries):
                self._read_one(key, key.name, entry, values)
        values |= {key.name: tuple(others.items()) for key in self.section.definitions() if key.rest}
        fields = {key.field: values[key.name] for key in self.section.definitions() if key.name in values}
        return self.section.form(**fields)

    @property
    def _place(self) -> str:
        return self.section.place(self.heading)

    def _is_first(self, key: Key, written: str, entries: Mapping[str, Entry]) -> bool:
        """Tell whether no other spelling of this key stands before; the newer name is advised in place of an older."""
        spellings = [name for name in entries if name in {key.name, *key.aliases}]
        if written != key.name:
            self.notes.lines[self._place, key.name] = entries[written].line
            self.notes.warn(self._place, written, f"is called {key.name} here: rename it")
        if written != spellings[0]:
            self.notes.problem(self._place, written, f"is another name of {spellings[0]}: keep one of the two")
        return written == spellings[0]

    def _read_one(self, key: Key, name: str, entry: Entry, values: dict[str, Any]) -> None:
        try:
            values[name] = key.parse(self._text(name, entry))
        except Unfit as unfit:
            self.notes.refuse(self._place, name, str(unfit))
        except SecretMissingError as missing:
            self.notes.refuse(self._place, name, str(missing))
        except _WithheldError:
            self.notes.doubtful.add((self._place, name))

    def _text(self, name: str, entry: Entry) -> str:
        self._refuse_swallowed(entry)
        value = entry.value
        if value == ELSEWHERE and self.secrets is None:
            raise _WithheldError
        if value == ELSEWHERE and self.secrets is not None:
            value = self.secrets.find(self._place if self.section.many else self.heading, name)
        else:
            value = _LITERAL.get(value, value)
        if any(unicodedata.category(char) in {"Cc", "Cs"} and char not in "\n\t" for char in value):
            raise Unfit("holds a control character: remove it")
        return value

    def _refuse_swallowed(self, entry: Entry) -> None:
        """Refuse a value that an indented key or section has fallen into."""
        for number, text in entry.continued:
            option = split_option(text)
            if (option and self.section.defines(option[0])) or _owner(text.strip("[]"), self.definition):
                raise Unfit(f"goes on in line {number}, which is indented: remove the blanks before that line")

    def _unknown(self, written: str) -> str:
        known = [name for key in self.section.definitions() for name in (key.name, *key.aliases)]
        if homes := _homes(written, self.definition):
            return f"is unknown here: it belongs in {homes}"
        if meant := nearest(written, known):
            return f"is unknown: did you mean {meant}?"
        return f"is unknown: known here are {', '.join(known)}"


def _owner(heading: str, definition: Sequence[Section[Any]]) -> Section[Any] | None:
    return next((section for section in definition if section.owns(heading)), None)


def _refuse_section(
    heading: str, entries: Mapping[str, Entry], definition: Sequence[Section[Any]], notes: Notes
) -> None:
    known = [name for section in definition for name in (section.title, *section.aliases)]
    if heading == DEFAULT_SECTION:
        for written, entry in entries.items():
            notes.lines[heading, written] = entry.line
            homes = _homes(written, definition) or "the section it is for"
            notes.problem(heading, written, f"a [DEFAULT] section is not used: write this key in {homes}")
    elif meant := nearest(heading, known) or next((name for name in known if name.startswith(f"{heading} ")), None):
        notes.problem(heading, "", f"is unknown: did you mean [{meant}]?")
    else:
        notes.problem(heading, "", f"is unknown: known are {', '.join(f'[{name}]' for name in known)}")


def _homes(written: str, definition: Sequence[Section[Any]]) -> str:
    return " or ".join(f"[{section.title}]" for section in definition if section.defines(written))
