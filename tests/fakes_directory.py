"""A directory in memory, which keeps the port's contract: the fake beside LDAP in tests/contract/test_directory.py."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlingd.core.directory import Membership, Person
from starlingd.core.rules import DirectoryPolicy, DirectorySchema, Tls
from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

POLICY = DirectoryPolicy("d", ("ldaps://x",), "dc=x", DirectorySchema.RFC2307, Tls.LDAPS, "(uid={user})", "")
"""A policy for tests to which it does not matter what a directory is reached by."""


@dataclass(frozen=True)
class FakeGroup:
    """A group: the names of its people and the DNs of the groups in it."""

    name: str
    dn: str
    people: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()


@dataclass
class FakeDirectory:
    """A Directory that knows ``everybody`` and ``groups``. Safe from any thread.

    ``calls`` tells what was asked: ``("person", user)``, ``("membership", name, group, …)``, ``("people", group, …)``.
    ``outage`` makes every call fail; a call without time left does anyway. ``found_by`` is the attribute that a user
    is looked up by, their name when empty. ``everybody`` and ``groups`` may be changed between calls.
    """

    everybody: Sequence[Person] = ()
    groups: Sequence[FakeGroup] = ()
    outage: Unavailable | None = None
    found_by: str = ""
    calls: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def person(self, user: str, attributes: Sequence[str], timeout: float) -> Person | None:
        """Find by name, upper and lower case alike."""
        self._called(("person", user), timeout)
        found = [person for person in self.everybody if user.casefold() in self._names(person)]
        if len(found) > 1:
            raise _broken("more than one entry where one is meant")
        return _with(found[0], attributes) if found else None

    def membership(self, person: Person, groups: Sequence[str], timeout: float) -> Membership:
        """Follow the groups."""
        self._called(("membership", person.name, *groups), timeout)
        found = [(group, self._find(group)) for group in groups]
        inside = [group for group, it in found if it is not None and person.name in self._people_in(it)]
        return Membership(inside[0] if inside else None, tuple(group for group, it in found if it is None))

    def people(self, groups: Sequence[str], attributes: Sequence[str], page: int) -> Iterator[tuple[Person, ...]]:
        """Go through the people of the groups."""
        self._called(("people", *groups), 1.0)
        names: set[str] = set()
        for group in groups:
            found = self._find(group)
            if found is None:
                raise _broken(f"there is no group {group!r}", Fault.MISCONFIGURED)
            names |= self._people_in(found)
        members = [_with(person, attributes) for person in self.everybody if person.name in names]
        for at in range(0, max(1, len(members)), page):
            if self.outage:
                raise self.outage
            yield tuple(members[at : at + page])

    def _names(self, person: Person) -> set[str]:
        names = person.values(self.found_by) if self.found_by else (person.name,)
        return {name.casefold() for name in names}

    def _find(self, group: str) -> FakeGroup | None:
        wanted = group.casefold()
        found = [each for each in self.groups if wanted == (each.dn if "=" in group else each.name).casefold()]
        if len(found) > 1:
            raise _broken("more than one entry where one is meant")
        return found[0] if found else None

    def _people_in(self, group: FakeGroup) -> frozenset[str]:
        by_dn: Mapping[str, FakeGroup] = {each.dn: each for each in self.groups}
        seen: set[str] = set()
        level = {group.dn}
        while level:
            seen |= level
            level = {inner for dn in level for inner in by_dn[dn].groups} - seen
        return frozenset(name for dn in seen for name in by_dn[dn].people)

    def _called(self, call: tuple[str, ...], timeout: float) -> None:
        with self._lock:
            self.calls.append(call)
        if timeout <= 0:
            raise _broken("no time left")
        if self.outage:
            raise self.outage


def _broken(detail: str, fault: Fault = Fault.BROKEN) -> Unavailable:
    return Unavailable("directory", fault, detail)


def _with(person: Person, attributes: Sequence[str]) -> Person:
    """Hand out no more than was asked for."""
    wanted = [attribute.lower() for attribute in attributes]
    found = {name: person.attributes.get(name, ()) for name in wanted}
    return Person(person.name, person.dn, person.standing, found, person.unusable & set(wanted))
