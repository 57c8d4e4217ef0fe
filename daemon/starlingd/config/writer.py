"""The text of a starling.conf: the inverse of ini.py, for the translator.

What is written here is read back and checked by whoever uses it; nothing here may hold a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlingd.config.sections import DEFINITION

if TYPE_CHECKING:
    from collections.abc import Mapping


def text(sections: Mapping[str, Mapping[str, str]], remarks: Mapping[str, str]) -> str:
    """Write sections in the order of the definition, each with its remark above it."""
    places = [place for each in DEFINITION for place in sections if each.owns(place)]
    return "\n".join(_section(place, sections[place], remarks.get(place, "")) for place in places)


def _section(place: str, keys: Mapping[str, str], remark: str) -> str:
    lines = [f"# {remark}" if remark else "", f"[{place}]", *(_option(key, value) for key, value in keys.items())]
    return "\n".join(filter(None, lines)) + "\n"


def _option(key: str, value: str) -> str:
    first, *others = value.split("\n")
    return "\n".join([f"{key} = {first}".rstrip(), *(f"    {line}".rstrip() for line in others)])
