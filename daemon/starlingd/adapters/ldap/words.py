"""Text that goes into filters and text that comes out of a directory.

Nothing may get into a filter unescaped, and nothing that could harm a terminal, a log or a comparison may come out: a
value is text when it is UTF-8, has no control characters and nothing that turns the direction of writing, and is not
longer than a person's attribute can sensibly be.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlingd.adapters.ldap.link import Entry

LONGEST_VALUE = 1024
"""Bytes of a value; a longer one is unusable."""

_HEX = re.compile(r"(?:\\[0-9A-Fa-f]{2})+")
_ESCAPED = re.compile(rf"{_HEX.pattern}|\\.", re.DOTALL)
_MEANING = frozenset(',+=;"<>#\\')
_SHELTER = 0xF0000
"""Where Unicode has room for private use: no directory's text is there, see ``text``."""

_HARMFUL = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def escape(value: str) -> str:
    r"""Write a value for a filter: every byte but ASCII letters and digits as ``\xx`` (RFC 4515).

    Raises UnicodeEncodeError for what is no text: no directory holds it.
    """
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\{byte:02x}" for byte in value.encode())  # noqa: PLR2004


def text(value: bytes) -> str | None:
    """Read a value; None when it is unusable."""
    if len(value) > LONGEST_VALUE:
        return None
    try:
        read = value.decode()
    except UnicodeDecodeError:
        return None
    if any(character in _TURNING or unicodedata.category(character) in _HARMFUL for character in read):
        return None
    return read


def texts(values: Iterable[bytes]) -> tuple[tuple[str, ...], bool]:
    """Read an attribute's values: those that are usable, and whether any is not."""
    read = [text(value) for value in values]
    return tuple(each for each in read if each is not None), None in read


def is_called(entry: Entry, name: str, attributes: Iterable[str]) -> bool:
    """Tell whether an entry has this name by our own comparison too.

    A server's may be looser: AD takes é for e and cuts at NUL, and stringprep folds look-alikes.
    """
    values = [value for attribute in attributes for value in entry.values.get(attribute.lower(), ())]
    return name.casefold() in {read.casefold() for read in map(text, values) if read is not None}


def same_dn(dn: str) -> str:
    """Write a DN so that two spellings of it compare equal, as far as that can be told without a schema."""
    plain = _ESCAPED.sub(_shelter, dn)
    return ",".join("+".join(sorted(_same_pair(pair) for pair in rdn.split("+"))) for rdn in plain.split(","))


def _same_pair(pair: str) -> str:
    name, _, value = pair.partition("=")
    return f"{name.strip().casefold()}={' '.join(value.casefold().split())}"


def _shelter(escaped: re.Match[str]) -> str:
    """Undo one run of RFC 4514's escapes, and keep what has a meaning in DNs apart from its unescaped like."""
    found = escaped[0]
    hexadecimal = _HEX.fullmatch(found)
    plain = bytes.fromhex(found.replace("\\", "")).decode("utf-8", "backslashreplace") if hexadecimal else found[1:]
    return "".join(chr(_SHELTER + ord(each)) if each in _MEANING else each for each in plain)
