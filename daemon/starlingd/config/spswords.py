"""Values that the vendor's plugin writes in another way than starling.conf. Pure; no message repeats a value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlingd.config.values import LONGEST_LINE

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVELS = {"10": "debug", "20": "info", "30": "warning", "40": "error", "50": "critical"}
NOT_OURS = frozenset({"rdp", "telnet", "mssql"})
"""Protocols of the vendor's gateway that no PAM service here speaks."""
SSH, SSHD = "ssh", "sshd"
_REFERENCE = re.compile(r"%%|%\((?P<name>[^()]*)\)s|%")


class Untranslatable(ValueError):  # noqa: N818  like Unfit, which completes the same sentence
    """A value that cannot be written down here; its text completes the sentence "KEY …"."""


def service(protocol: str) -> str:
    """Tell the PAM service that a protocol of the gateway is here; empty when there is none."""
    lowered = protocol.lower()
    return "" if lowered in NOT_OURS else SSHD if lowered == SSH else protocol


def interpolate(value: str, others: Mapping[str, str]) -> str:
    """Fill in ``%(key)s`` and ``%%`` as the gateway does; there, a ``%`` alone ends every session."""

    def fill(found: re.Match[str]) -> str:
        name = found["name"]
        if name is None:
            return "%"
        other = others.get(name.lower(), "%")
        if "%" in other or len(other) > LONGEST_LINE:
            raise Untranslatable("refers to an option that its section does not have: write the value itself")
        return other

    return _REFERENCE.sub(fill, value)


def protocols(value: str) -> tuple[str, str]:
    """Write the gateway's protocols as PAM services."""
    names = [name.strip() for name in value.split(",")]
    ours = list(filter(None, map(service, names)))
    if not ours:
        return value, ""  # nobody can be asked: the new file's own warning says so
    said = "ssh is the service sshd here" if SSHD in ours else ""
    foreign = ", ".join(name.lower() for name in names if name.lower() in NOT_OURS)
    return ",".join(ours), "; ".join(filter(None, (said, f"{foreign}: not applicable here" if foreign else "")))


def level(value: str) -> tuple[str, str]:
    """Write a log level as a word."""
    return LEVELS.get(value, value), "levels are words here" if value in LEVELS else ""


def domain(value: str) -> tuple[str, str]:
    """Take the quotes from a domain, which the gateway would append too."""
    bare = value.strip('"')
    return bare, "written without quotes" if bare != value else ""


def user_filter(value: str) -> str:
    """Write a filter's ``{}`` as the field it stands for."""
    return value.replace("{}", "{user}")
