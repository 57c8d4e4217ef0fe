"""What differs between the kinds of directories: names of attributes, whose account has ended, what a group is.

Facts only; nothing here asks anything. Who adds a schema adds a ``Schema`` and, if its groups are found another way, a
branch in ``groups``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlingd.core.directory import Standing
from starlingd.core.rules import DirectorySchema

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlingd.adapters.ldap.link import Entry

ACCOUNT_DISABLED = 0x2
"""ADS_UF_ACCOUNTDISABLE in userAccountControl."""
NEVER = frozenset({0, 0x7FFFFFFFFFFFFFFF})
"""accountExpires of an account that does not."""
FILETIME_EPOCH = 11644473600
"""Seconds from 1601, where FILETIME begins, to 1970."""
DAY = 86400

_WHOLE_VALUE = re.compile(r"\(([A-Za-z][A-Za-z0-9.;-]*)=\{(user|dn)\}\)")
_NUMBER = re.compile(rb"-?[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Schema:
    """One kind of directory: where a login name stands, what tells the standing, which entries are groups.

    ``primary`` is the attribute of a person that names the group they are in without being listed there.
    """

    name: str
    primary: str
    needed: tuple[str, ...]
    standing: Callable[[Entry, float], Standing]
    group_class: str


def _ad_standing(entry: Entry, now: float) -> Standing:
    control, expires = number(entry, "userAccountControl"), number(entry, "accountExpires", absent=0)
    if control is None or expires is None:
        return Standing.UNCLEAR
    if control & ACCOUNT_DISABLED:
        return Standing.DISABLED
    if expires not in NEVER and expires / 10_000_000 - FILETIME_EPOCH <= now:
        return Standing.EXPIRED
    return Standing.ACTIVE


def _posix_standing(entry: Entry, now: float) -> Standing:
    day = number(entry, "shadowExpire", absent=-1)
    if day is None:
        return Standing.UNCLEAR
    return Standing.EXPIRED if day >= 0 and day * DAY <= now else Standing.ACTIVE


_POSIX_GROUPS = "".join(
    f"(objectClass={kind})" for kind in ("posixGroup", "groupOfNames", "groupOfUniqueNames", "groupOfMembers")
)

SCHEMAS = {
    DirectorySchema.AD: Schema(
        "sAMAccountName",
        "primaryGroupID",
        ("userAccountControl", "accountExpires", "objectSid"),
        _ad_standing,
        "(objectCategory=group)",
    ),
    DirectorySchema.RFC2307: Schema("uid", "gidNumber", ("shadowExpire",), _posix_standing, "(objectClass=posixGroup)"),
    DirectorySchema.RFC2307BIS: Schema("uid", "gidNumber", ("shadowExpire",), _posix_standing, f"(|{_POSIX_GROUPS})"),
}


def number(entry: Entry, attribute: str, absent: int | None = None) -> int | None:
    """Read an attribute's number; ``absent`` when there is no value, None when it is no number."""
    value = entry.first(attribute)
    if value is None:
        return absent
    return int(value) if _NUMBER.fullmatch(value) else None


def compared(search_filter: str, field: str) -> tuple[str, ...]:
    """Tell which attributes a filter compares with the whole of ``{user}`` or ``{dn}``."""
    return tuple(attribute for attribute, found in _WHOLE_VALUE.findall(search_filter) if found == field)


def sid(value: bytes | None) -> str | None:
    """Write a security identifier as S-1-…; None when it is none (MS-DTYP 2.4.2)."""
    if value is None or len(value) < 8 or len(value) != 8 + 4 * value[1]:  # noqa: PLR2004  head, count of parts, parts
        return None
    parts = [str(int.from_bytes(value[at : at + 4], "little")) for at in range(8, len(value), 4)]
    return "-".join(["S", str(value[0]), str(int.from_bytes(value[2:8], "big")), *parts])
