"""LDIF as slapadd and Samba read it (RFC 2849)."""

from __future__ import annotations

import base64

Value = str | bytes


def entry(dn: str, *pairs: tuple[str, Value]) -> str:
    """Write one entry, everything in base64."""
    lines = [f"dn:: {_base64(dn)}", *(f"{name}:: {_base64(value)}" for name, value in pairs)]
    return "\n".join([*lines, ""])


def change(dn: str, kind: str, attribute: str, *values: Value) -> str:
    """Write the change of one attribute: add or replace."""
    lines = [f"dn:: {_base64(dn)}", "changetype: modify", f"{kind}: {attribute}"]
    return "\n".join([*lines, *(f"{attribute}:: {_base64(value)}" for value in values), "-", ""])


def escaped(value: str) -> str:
    """Write a value for a DN."""
    return "".join(f"\\{each}" if each in ',+"\\<>;#' else each for each in value)


def _base64(value: Value) -> str:
    return base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()
