"""Parsers of single values: text to a typed value, or Unfit with what to write instead.

Parsers are pure. Their messages never repeat a scalar value: whatever was pasted into the wrong line may be a secret.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from starlingd.config.problems import nearest
from starlingd.config.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

Choice = TypeVar("Choice", bound=StrEnum)

_WORDS = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}", re.ASCII)
_TIME = re.compile(r"(?P<sign>-?)(?P<number>[0-9]{1,9}(?:\.[0-9]{1,6})?)\s?(?P<unit>[smhd]?)", re.ASCII)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_WORD = re.compile(_LABEL, re.ASCII)
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*", re.ASCII)
LONGEST_LINE = 500
"""Bytes of UTF-8 that a text may have: PAM applications cut what is longer (PAM_MAX_MSG_SIZE is 512)."""


class Unfit(ValueError):  # noqa: N818  the word this package uses
    """A value that cannot be used; its text completes the sentence "KEY …"."""


@dataclass(frozen=True, slots=True)
class Credential:
    """The two halves of what joining to Starling yields."""

    client_id: str
    client_secret: Secret


def boolean(value: str) -> bool:
    """Read yes or no, in the usual spellings."""
    try:
        return _WORDS[value.lower()]
    except KeyError:
        raise Unfit("must be yes or no") from None


def integer(minimum: int, maximum: int) -> Callable[[str], int]:
    """Make a parser of whole numbers in a range."""

    def parse(value: str) -> int:
        if not _NUMBER.fullmatch(value):
            raise Unfit(f"must be a whole number from {minimum} to {maximum}, in digits")
        return int(_within(int(value), minimum, maximum, ""))

    return parse


def seconds(minimum: int, maximum: int) -> Callable[[str], int]:
    """Make a parser of times in whole seconds: ``90``, ``15m``, ``12h``, ``2d``."""

    def parse(value: str) -> int:
        time = _time(value)
        if time != int(time):
            raise Unfit("must be whole seconds: write no fraction")
        return int(_within(time, minimum, maximum, " seconds"))

    return parse


def fraction(minimum: float, maximum: float) -> Callable[[str], float]:
    """Make a parser of times that may be parts of a second: ``2.5``."""
    return lambda value: _within(_time(value), minimum, maximum, " seconds")


def choice(kind: type[Choice]) -> Callable[[str], Choice]:
    """Make a parser of one of a few words, in any case."""

    def parse(value: str) -> Choice:
        try:
            return kind(value.lower())
        except ValueError:
            raise Unfit(f"must be {' or '.join(kind)}") from None

    return parse


def text(value: str) -> str:
    """Read a text for people, of one or more lines."""
    if not value:
        raise Unfit("must not be empty: write a text, or remove the line for the default")
    if len(value.encode()) > LONGEST_LINE:
        raise Unfit(f"must be at most {LONGEST_LINE} bytes long")
    return value


def line(value: str) -> str:
    """Read a text of one line."""
    if "\n" in value:
        raise Unfit("must be one line: indented lines that follow a key belong to its value")
    return text(value)


def template(*names: str) -> Callable[[str], str]:
    """Make a parser of a line that may hold ``{name}`` for each of these names, and no other pair of braces."""

    def parse(value: str) -> str:
        for found in re.findall(r"\{([^{}]*)\}", line(value)):
            if found not in names:
                meant = nearest(found, names)
                advice = f"did you mean {{{meant}}}?" if meant else "change what is in braces"
                raise Unfit(f"may hold {', '.join(f'{{{name}}}' for name in names)} only: {advice}")
        return value

    return parse


def identity(value: str) -> str:
    """Read an external identity; empty means none."""
    return line(value) if value else ""


def word(value: str) -> str:
    """Read a word that may be part of a host name; it is given in lower case."""
    if not _WORD.fullmatch(value):
        raise Unfit("must be one word of letters, digits and hyphens")
    return value.lower()


def words(value: str) -> tuple[str, ...]:
    """Read a list, separated by commas."""
    items = tuple(item for item in (part.strip() for part in value.split(",")) if item)
    if not items:
        raise Unfit("must not be empty: write names, separated by commas, or remove the line for the default")
    return items


def host(value: str) -> str:
    """Read a host name or an address; an IPv6 address may stand in brackets and is given in them."""
    try:
        address = ipaddress.IPv6Address(value.removeprefix("[").removesuffix("]"))
    except ValueError:
        address = None
    if address is not None and not address.scope_id:
        return f"[{address}]"
    if not _HOST.fullmatch(value):
        raise Unfit("must be a host name or an address alone, without scheme, port, user or path")
    return value.lower()


def https_origin(value: str) -> str:
    """Read ``https://host[:port]`` and give it in that form, without a slash at its end."""
    try:
        url = urlsplit(value)
        port = url.port
        name = host(url.hostname or "")
    except ValueError:
        raise Unfit("must be https://HOST or https://HOST:PORT") from None
    if url.scheme == "http":
        raise Unfit("must begin with https://: over http:// everybody on the way could read the credential")
    extra = "@" in url.netloc or url.path not in {"", "/"} or url.query or url.fragment or re.search(r"[\s?#]", value)
    if url.scheme != "https" or extra or port == 0:
        raise Unfit("must be https://HOST or https://HOST:PORT and nothing more: the paths are known")
    return f"https://{name}" if port is None else f"https://{name}:{port}"


def absolute_path(value: str) -> Path:
    """Read the path of a file."""
    path = Path(line(value))
    if not path.is_absolute():
        raise Unfit("must be a whole path, beginning with /")
    return path


def secret(value: str) -> Secret:
    """Read a secret."""
    if not value or "\n" in value:
        raise Unfit("must be one line that is not empty")
    return Secret(value)


def credential(value: str) -> Credential:
    """Read ``client_id:client_secret``."""
    client_id, _, client_secret = value.partition(":")
    if not client_id or not client_secret or re.search(r"\s", value):
        raise Unfit("must be client_id:client_secret, two parts joined by a colon and without blanks")
    return Credential(client_id, Secret(client_secret))


def _time(value: str) -> float:
    found = _TIME.fullmatch(value)
    if not found:
        raise Unfit("must be a time: seconds, or a number with its unit such as 90s, 15m, 12h or 2d")
    if found["sign"]:
        raise Unfit("must not be negative")
    return float(found["number"]) * _UNITS[found["unit"]]


def _within(number: float, minimum: float, maximum: float, unit: str) -> float:
    if not minimum <= number <= maximum:
        raise Unfit(f"must be from {minimum:.10g} to {maximum:.10g}{unit}")
    return number
