"""People and groups from LDAP or Active Directory, by ldap3 (SEMANTICS §7).

A directory that is slow, down or talks nonsense is an ``Unavailable`` within the time-out, never an answer: an outage
exempts nobody, maps nobody and enrols nobody. Nothing that a user typed gets into a filter unescaped, and nothing that
the directory holds gets out without having been checked to be text.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlingd.adapters.ldap import groups as groups_of
from starlingd.adapters.ldap.budget import Budget
from starlingd.adapters.ldap.line import Line, parse_uri, system_look_up
from starlingd.adapters.ldap.link import Entry, Link, Search
from starlingd.adapters.ldap.links import Links
from starlingd.adapters.ldap.schemas import SCHEMAS, compared, number, sid
from starlingd.adapters.ldap.words import escape, is_called, texts
from starlingd.core.directory import Membership, Person
from starlingd.core.rules import DirectorySchema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from starlingd.adapters.ldap.line import Resolver
    from starlingd.core.rules import DirectoryPolicy

__all__ = ["LdapDirectory"]

LONGEST_NAME = 1024
"""Characters of a user name; a longer one is nobody's."""


class LdapDirectory:
    """One directory, on one or more servers. Safe from any thread. ``clock`` tells Unix time, for expiry."""

    def __init__(
        self,
        policy: DirectoryPolicy,
        clock: Callable[[], float] = time.time,
        look_up: Callable[[str, int], Sequence[Resolver]] = system_look_up,
    ) -> None:
        self._policy = policy
        self._schema = SCHEMAS[policy.schema]
        self._clock = clock
        self._links = Links([parse_uri(uri) for uri in policy.uri], Line(policy.ca_file, look_up), policy)

    def person(self, user: str, attributes: Sequence[str], timeout: float) -> Person | None:
        """Find the one entry of ``user``, as Directory says."""
        if not 0 < len(user) <= LONGEST_NAME:
            return None
        try:
            search_filter = self._policy.user_filter.replace("{user}", escape(user))
        except UnicodeEncodeError:
            return None  # a directory's names are UTF-8
        named_by = compared(self._policy.user_filter, "user")
        search = Search(self._policy.base_dn, search_filter, self._attributes(*attributes, *named_by), most=1)
        found = self._links.ask(lambda link: link.search(search), self._budget(timeout))
        if not found or (named_by and not is_called(found[0], user, named_by)):
            return None
        return self._person(found[0], attributes, user)

    def membership(self, person: Person, groups: Sequence[str], timeout: float) -> Membership:
        """Tell which of ``groups`` the person is in, as Directory says."""

        def ask(link: Link) -> Membership:
            return groups_of.membership(link, self._policy, person, groups)

        return self._links.ask(ask, self._budget(timeout))

    def people(self, groups: Sequence[str], attributes: Sequence[str], page: int) -> Iterator[tuple[Person, ...]]:
        """Go through everybody in ``groups``, as Directory says."""

        def begin(link: Link) -> groups_of.Sieve:
            return groups_of.Sieve(link, self._policy, groups)

        with self._links.asking(begin, self._budget(self._policy.timeout)) as (sieve, link):
            search = Search(self._policy.base_dn, sieve.filter, self._attributes(*attributes))
            cookie = b""
            while True:
                with link.using(self._budget(self._policy.timeout)):
                    entries, cookie = link.page(search, page, cookie)
                people = tuple(self._person(entry, attributes) for entry in entries if sieve.takes(entry))
                yield people
                if not cookie:
                    return

    def close(self) -> None:
        """Close the connections; calls in progress come to their end first."""
        self._links.close()

    def _budget(self, timeout: float) -> Budget:
        budget = Budget(min(timeout, self._policy.timeout))
        budget.left()
        return budget

    def _attributes(self, *more: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self._schema.name, self._schema.primary, *self._schema.needed, *more)))

    def _person(self, entry: Entry, attributes: Sequence[str], user: str = "") -> Person:
        """Make a person of an entry. ``user`` is what they are called when the entry does not tell."""
        found, unusable = {}, set()
        for attribute in (each.lower() for each in attributes):
            usable, any_unusable = texts(entry.values.get(attribute, ()))
            found[attribute] = usable
            if any_unusable:
                unusable.add(attribute)
        return Person(
            name=_name(entry, self._schema.name, user),
            dn=entry.dn,
            standing=self._schema.standing(entry, self._clock()),
            attributes=found,
            unusable=frozenset(unusable),
            handles=self._handles(entry),
        )

    def _handles(self, entry: Entry) -> dict[str, str]:
        primary = number(entry, self._schema.primary)
        if self._policy.schema is not DirectorySchema.AD:
            return {} if primary is None else {groups_of.PRIMARY: str(primary)}
        own = sid(entry.first("objectSid"))
        if own is None or primary is None:
            return {}
        return {groups_of.PRIMARY: f"{own.rpartition('-')[0]}-{primary}"}


def _name(entry: Entry, attribute: str, user: str) -> str:
    """Tell the login name: of several, the one that was asked for."""
    names, _ = texts(entry.values.get(attribute.lower(), ()))
    return next((name for name in names if name.casefold() == user.casefold()), names[0] if names else user)
