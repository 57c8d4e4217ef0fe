"""Who is in which group: a rule of the server's own for AD, a walk for the others.

Whatever is not certain is a failure and never "not a member": a list may exempt everybody *except* a group's members.
The walk ends at a depth and a number of groups, and loops cost it nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlingd.adapters.ldap.budget import Refusal
from starlingd.adapters.ldap.link import Entry, Search
from starlingd.adapters.ldap.schemas import SCHEMAS, compared, sid
from starlingd.adapters.ldap.words import escape, is_called, same_dn, text
from starlingd.core.directory import Membership, Person
from starlingd.core.rules import DirectorySchema
from starlingd.ports import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from starlingd.adapters.ldap.link import Link
    from starlingd.core.rules import DirectoryPolicy

DEEPEST = 64
"""Levels of groups within groups."""
MOST_GROUPS = 5000
"""Groups that one person may be found in."""
AT_ONCE = 50
"""Groups in one filter of the walk."""
GROUP_PAGE = 500

IN_CHAIN = "memberOf:1.2.840.113556.1.4.1941:"
PRIMARY = "primary"
"""The handle of a person's primary group: its SID in AD, its gidNumber elsewhere."""


def membership(link: Link, policy: DirectoryPolicy, person: Person, groups: Sequence[str]) -> Membership:
    """Tell which of ``groups`` the person is in; raises Unavailable."""
    found = [(group, _find(link, policy, group)) for group in groups]
    missing = tuple(group for group, entry in found if entry is None)
    wanted = [(group, entry) for group, entry in found if entry is not None]
    inside = _chain(link, policy, person, wanted) if _is_ad(policy) else _walk(link, policy, person, wanted)
    return Membership(next((group for group, entry in wanted if entry.dn in inside), None), missing)


def _is_ad(policy: DirectoryPolicy) -> bool:
    return policy.schema is DirectorySchema.AD


def _find(link: Link, policy: DirectoryPolicy, group: str) -> Entry | None:
    """Find the one group of this name or DN; None when there is none. Raises Refusal when there are several."""
    schema = SCHEMAS[policy.schema]
    wanted = ("cn", "objectSid") if _is_ad(policy) else ("cn", "gidNumber", *_listing(policy))
    if "=" in group:
        search = Search(group, schema.group_class, wanted, only=True, most=1)
    else:
        search = Search(policy.base_dn, f"(&{schema.group_class}(cn={escape(group)}))", wanted, most=1)
    found = link.search(search)
    if not found or ("=" not in group and not is_called(found[0], group, ("cn",))):
        return None
    if not _is_ad(policy) and not _is_below(found[0].dn, policy.base_dn):
        raise Refusal(f"group {group!r} is not below base_dn", Fault.MISCONFIGURED)
    return found[0]


def _is_below(dn: str, base: str) -> bool:
    return same_dn(dn).endswith("," + same_dn(base)) or not base


def _listing(policy: DirectoryPolicy) -> tuple[str, ...]:
    """Tell the attributes of a group that list its members."""
    return compared(policy.group_filter, "dn") + compared(policy.group_filter, "user")


def _filled(search_filter: str, user: str, dn: str) -> str:
    return search_filter.replace("{user}", escape(user)).replace("{dn}", escape(dn))


def _chain(link: Link, policy: DirectoryPolicy, person: Person, wanted: Sequence[tuple[str, Entry]]) -> set[str]:
    """Ask the server about each group until one contains the person, or the person's primary group."""
    filters = [_filled(policy.group_filter, person.name, person.dn)]
    primary = []
    if PRIMARY in person.handles:
        primary = link.search(Search(f"<SID={person.handles[PRIMARY]}>", "(objectClass=*)", only=True, most=1))
    if not primary:
        raise Refusal("the person's primary group cannot be found")
    filters.append(_filled(policy.group_filter, primary[0].dn, primary[0].dn))
    for _, group in wanted:
        if group.dn == primary[0].dn:
            return {group.dn}
        if link.search(Search(group.dn, f"(|{''.join(filters)})", only=True, most=1)):
            return {group.dn}
    return set()


def _walk(link: Link, policy: DirectoryPolicy, person: Person, wanted: Sequence[tuple[str, Entry]]) -> set[str]:
    """Go from the person to their groups, to the groups of those, and so on, until a wanted one is met or all are."""
    goal = {entry.dn for _, entry in wanted}
    filters = [_filled(policy.group_filter, person.name, person.dn)]
    if gid := person.handles.get(PRIMARY):
        filters.append(f"(&(objectClass=posixGroup)(gidNumber={escape(gid)}))")
    seen: set[str] = set()
    for _ in range(DEEPEST):
        if not goal or not filters or goal & seen:
            return seen
        new = {entry.dn for entry in _any_of(link, policy, filters)} - seen
        seen |= new
        if len(seen) > MOST_GROUPS:
            raise Refusal(f"in more than {MOST_GROUPS} groups")
        # A group is in another by its DN alone: memberUid may name a person who is called like the group.
        filters = [_filled(policy.group_filter, dn, dn) for dn in new] if "{dn}" in policy.group_filter else []
    raise Refusal(f"groups within groups more than {DEEPEST} levels deep")


def _any_of(link: Link, policy: DirectoryPolicy, filters: Sequence[str]) -> Iterator[Entry]:
    for at in range(0, len(filters), AT_ONCE):
        yield from link.search(Search(policy.base_dn, f"(|{''.join(filters[at : at + AT_ONCE])})"))


class Sieve:
    """Tells who is in some groups or in groups within them, for going through everybody page by page.

    ``filter`` is what the server can do of it; ``takes`` is the rest. It holds the members' names, not their entries.
    """

    def __init__(self, link: Link, policy: DirectoryPolicy, groups: Sequence[str]) -> None:
        self._policy = policy
        found = [(group, _find(link, policy, group)) for group in groups]
        for group, entry in found:
            if entry is None:
                raise Refusal(f"there is no group {group!r}", Fault.MISCONFIGURED)
        entries = [entry for _, entry in found if entry is not None]
        everybody = policy.user_filter.replace("{user}", "*")
        self._names: set[bytes] = set()
        self._dns: set[str] = set()
        self._gids: set[bytes] = set()
        if _is_ad(policy):
            self.filter = f"(&{everybody}(|{''.join(_ad_members(link, policy, entries))}))"
        else:
            self.filter = everybody
            self._gather(link, entries)

    def takes(self, entry: Entry) -> bool:
        """Tell whether a person is in one of the groups."""
        if _is_ad(self._policy):
            return True
        schema = SCHEMAS[self._policy.schema]
        return (
            entry.first(schema.name) in self._names
            or entry.first(schema.primary) in self._gids
            or (bool(self._dns) and same_dn(entry.dn) in self._dns)
        )

    def _gather(self, link: Link, groups: Sequence[Entry]) -> None:
        """Collect the members of the groups and of all groups within them."""
        by_dn, by_name = compared(self._policy.group_filter, "dn"), compared(self._policy.group_filter, "user")
        if not by_dn and not by_name:
            raise Refusal("group_filter does not show which attribute lists members", Fault.MISCONFIGURED)
        known = _all_groups(link, self._policy) if by_dn else {}
        level, seen = list(groups), {entry.dn for entry in groups}
        for _ in range(DEEPEST):
            inner: set[str] = set()
            for group in level:
                self._gids.update(group.values.get("gidnumber", ()))
                self._names.update(_listed(group, by_name))
                members = {same_dn(dn) for dn in map(text, _listed(group, by_dn)) if dn is not None}
                inner.update(known[dn] for dn in members if dn in known)
                self._dns |= members
            level = [entry for dn in inner - seen for entry in _read(link, self._policy, dn)]
            seen |= inner
            if not level:
                return
        raise Refusal(f"groups within groups more than {DEEPEST} levels deep")


def _listed(group: Entry, attributes: Iterable[str]) -> Iterator[bytes]:
    for attribute in attributes:
        yield from group.values.get(attribute.lower(), ())


def _read(link: Link, policy: DirectoryPolicy, dn: str) -> list[Entry]:
    return link.search(Search(dn, "(objectClass=*)", ("gidNumber", *_listing(policy)), only=True, most=1))


def _all_groups(link: Link, policy: DirectoryPolicy) -> dict[str, str]:
    """Tell the DN of every group by its comparable form."""
    search = Search(policy.base_dn, SCHEMAS[policy.schema].group_class)
    found: dict[str, str] = {}
    cookie = b""
    while True:
        entries, cookie = link.page(search, GROUP_PAGE, cookie)
        found.update((same_dn(entry.dn), entry.dn) for entry in entries)
        if not cookie:
            return found


def _ad_members(link: Link, policy: DirectoryPolicy, groups: Iterable[Entry]) -> Iterator[str]:
    """Make filters for the members of the groups: listed ones, and those whose primary group is one or is within."""
    for group in groups:
        within = f"({IN_CHAIN}={escape(group.dn)})"
        yield within
        search = Search(policy.base_dn, f"(&(objectCategory=group){within})", ("objectSid",))
        for each in (group, *link.search(search)):
            identifier = sid(each.first("objectSid"))
            if identifier is None:
                raise Refusal("a group without objectSid")
            yield f"(primaryGroupID={identifier.rpartition('-')[2]})"
