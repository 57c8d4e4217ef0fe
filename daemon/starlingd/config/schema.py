"""How a section is defined as data.

A section's form is a frozen dataclass whose fields are made by ``key`` or ``rest``: the one place that holds a key's
name, parser, default and meaning. Nothing here may know which sections there are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")
_METADATA = "key"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Key:
    """What is known about one key.

    ``name`` is that of the form's ``field``, without the ``_`` that one like ``except_`` needs. With ``rest`` it stands
    for every key that has no definition of its own, and ``rest`` is what the documentation calls such a key. ``secret``
    values must not be readable by others.
    """

    field: str
    parse: Callable[[str], object]
    meaning: str
    secret: bool = False
    aliases: tuple[str, ...] = ()
    rest: str = ""

    @property
    def name(self) -> str:
        """What the file calls it."""
        return self.field.removesuffix("_")


@dataclass(frozen=True, slots=True)
class Section(Generic[T]):
    """A section of the file; ``form`` is the class of its values.

    ``named`` makes it one that may occur many times, as ``[name NAME]``, ``numbered`` one that does as ``[name_N]``. An
    alias is another spelling of its name.
    """

    name: str
    form: type[T]
    meaning: str
    aliases: tuple[str, ...] = ()
    named: bool = False
    numbered: bool = False

    @property
    def many(self) -> bool:
        """Whether it may occur many times."""
        return self.named or self.numbered

    @property
    def title(self) -> str:
        """What the documentation calls this section."""
        return f"{self.name}{' NAME' if self.named else '_N' if self.numbered else ''}"

    def definitions(self) -> Iterator[Key]:
        """Tell the definition of each key."""
        for each in fields(cast("Any", self.form)):
            make: Callable[[str], Key] = each.metadata[_METADATA]
            yield make(each.name)

    def find(self, written: str) -> Key | None:
        """Find the definition of a key of the file, by its name, an alias, or as one of the rest."""
        keys = tuple(self.definitions())
        exact = (each for each in keys if not each.rest and written in {each.name, *each.aliases})
        return next(exact, None) or next((each for each in keys if each.rest), None)

    def defines(self, written: str) -> bool:
        """Tell whether a key of this name, and not merely the rest, is defined here."""
        found = self.find(written)
        return found is not None and not found.rest

    def owns(self, heading: str) -> bool:
        """Tell whether a line ``[heading]`` begins this section."""
        return bool(self.name_in(heading)) if self.many else heading in {self.name, *self.aliases}

    def name_in(self, heading: str) -> str:
        """Tell the NAME in ``[name NAME]``, or the N in ``[name_N]``; empty when there is none."""
        if self.numbered:
            number = heading.removeprefix(f"{self.name}_")
            return number if number != heading and _NUMBER.fullmatch(number) else ""
        first, _, name = heading.partition(" ")
        return name.strip() if self.named and first == self.name else ""

    def place(self, heading: str) -> str:
        """Tell the one spelling of ``heading`` that problems and secrets go by."""
        between = "_" if self.numbered else " "
        return f"{self.name}{between}{self.name_in(heading)}" if self.many else self.name


@dataclass(frozen=True, slots=True)
class Values:
    """The values of every section that is defined; what the file leaves out has its default."""

    single: Mapping[str, object]
    named: Mapping[str, Mapping[str, object]]

    def __getitem__(self, section: Section[T]) -> T:
        return cast("T", self.single[section.name])

    def each(self, section: Section[T]) -> Mapping[str, T]:
        """Give the values of a section that may occur many times, by name or number."""
        return cast("Mapping[str, T]", self.named[section.name])


def key(
    parse: Callable[[str], T], default: T, meaning: str, *, secret: bool = False, aliases: tuple[str, ...] = ()
) -> T:
    """Define a key of a form, named as its field is; ``meaning`` says what it is for, and its unit."""

    def make(name: str) -> Key:
        return Key(name, parse, meaning, secret, aliases)

    made: T = field(default=default, metadata={_METADATA: make})
    return made


def rest(parse: Callable[[str], T], title: str, meaning: str) -> tuple[tuple[str, T], ...]:
    """Define what keys without a definition of their own mean; the field holds them as (key, value)."""

    def make(name: str) -> Key:
        return Key(name, parse, meaning, rest=title)

    return cast("tuple[tuple[str, T], ...]", field(default=(), metadata={_METADATA: make}))
