"""What a directory says of people and groups, as the core needs it.

Everything here is an immutable value without any trace of LDAP's wire. What a directory holds was written by many
hands: text in here is UTF-8 without control characters and not long, and what was not is left out and said to be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Standing(StrEnum):
    """Whether an account of the directory may be used at all."""

    ACTIVE = "active"
    DISABLED = "disabled"
    """AD: userAccountControl has ACCOUNTDISABLE."""
    EXPIRED = "expired"
    """AD: accountExpires has passed; others: shadowExpire has."""
    UNCLEAR = "unclear"
    """What the directory says about it is missing or makes no sense: to be refused as well."""


@dataclass(frozen=True, slots=True)
class Person:
    """One person's entry. ``name`` is their login name there, ``dn`` the entry's name as the server writes it.

    ``attributes`` holds what was asked for and found, by lower-cased name, in the server's order; ``unusable`` names
    the attributes, lower-cased, that have a value which was left out: no UTF-8, control characters, or too long.
    """

    name: str
    dn: str
    standing: Standing = Standing.ACTIVE
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    unusable: frozenset[str] = frozenset()
    handles: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """What the adapter needs to find this person's groups again; nobody else's business."""

    @property
    def may_log_in(self) -> bool:
        """Whether nothing of the directory speaks against this account."""
        return self.standing is Standing.ACTIVE

    def values(self, attribute: str) -> tuple[str, ...]:
        """Tell an attribute's usable values that are not blank."""
        return tuple(value for value in self.attributes.get(attribute.lower(), ()) if value.strip())

    def first(self, attribute: str) -> str:
        """Tell an attribute's first value; empty when there is none, or when any of its values is unusable."""
        values = self.values(attribute)
        return values[0] if values and attribute.lower() not in self.unusable else ""


@dataclass(frozen=True, slots=True)
class Membership:
    """Which of the groups asked about a person belongs to, directly or through others.

    ``group`` is the first such one, as it was written in the question. ``missing`` are those that do not exist: with
    any of them nobody is exempt the ``all_users`` way (SEMANTICS §7).
    """

    group: str | None = None
    missing: tuple[str, ...] = ()
