"""Parsers of single values: text to a typed value, or Unfit with what to write instead.

Parsers are pure. Their messages never repeat a scalar value: whatever was pasted into the wrong line may be a secret.

A long file, because it is a list: each kind of value is some ten lines, and none needs another.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import warnings
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import regex

from starlingd.config.problems import nearest
from starlingd.config.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Choice = TypeVar("Choice", bound=StrEnum)

VAULT_KEY_BYTES = 32

_WORDS = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}", re.ASCII)
_TIME = re.compile(r"(?P<sign>-?)(?P<number>[0-9]{1,9}(?:\.[0-9]{1,6})?)\s?(?P<unit>[smhd]?)", re.ASCII)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_WORD = re.compile(_LABEL, re.ASCII)
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*", re.ASCII)
_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}|[0-9]+(?:\.[0-9]+){1,30}", re.ASCII)
_RDN = r"\s*[A-Za-z0-9.-]+\s*=\s*(?:[^,\\\s]|\\.)(?:[^,\\]|\\.)*"
_DN = re.compile(rf"{_RDN}(?:,{_RDN})*", re.ASCII)
_GROUP = re.compile(r'[^\S\n]*(?:"(?P<dn>[^"\n]*)"[^\S\n]*|(?P<name>[^",\n]*))(?:[,\n]|\Z)')
_DOMAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})", re.ASCII)
_ANSWER_KEY = re.compile(r"[A-Za-z0-9_]{1,32}", re.ASCII)
_REGION = re.compile(r"[A-Za-z]{2}", re.ASCII)
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
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


def among(*numbers: int) -> Callable[[str], int]:
    """Make a parser of one of a few numbers."""
    either = " or ".join(map(str, numbers))

    def parse(value: str) -> int:
        if value not in map(str, numbers):
            raise Unfit(f"must be {either}")
        return int(value)

    return parse


def choices(kind: type[Choice]) -> Callable[[str], frozenset[Choice]]:
    """Make a parser of a list of such words."""
    one = choice(kind)
    return lambda value: frozenset(one(item) for item in words(value))


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
    """Read a list, separated by commas or line ends."""
    items = names(value)
    if not items:
        raise Unfit("must not be empty: write names, separated by commas, or remove the line for the default")
    return items


def names(value: str) -> tuple[str, ...]:
    """Read a list that may be empty."""
    return tuple(item for item in (part.strip() for part in re.split(r"[,\n]", value)) if item)


def networks(value: str) -> tuple[Network, ...]:
    """Read a list of networks in CIDR notation, which may be empty; IPv4-mapped ones are given as IPv4."""
    return tuple(_network(number, item) for number, item in enumerate(names(value), start=1))


def groups(value: str) -> tuple[str, ...]:
    """Read a list of groups, which may be empty: names, and DNs in double quotes."""
    found: list[str] = []
    place = 0
    while place < len(value):
        item = _GROUP.match(value, place)
        if item is None:
            raise Unfit("has a quote out of place: put each whole DN into double quotes, and commas between them")
        found.append(_group(item["name"], item["dn"]))
        place = item.end()
    return tuple(group for group in found if group)


def attribute(value: str) -> str:
    """Read the name of a directory's attribute."""
    if not _ATTRIBUTE.fullmatch(value):
        raise Unfit("must be the name of one attribute, such as mail")
    return value


def dn(value: str) -> str:
    """Read a distinguished name."""
    if not _DN.fullmatch(line(value)):
        raise Unfit("must be a distinguished name, such as dc=example,dc=org")
    return value


def search_filter(*fields: str) -> Callable[[str], str]:
    """Make a parser of a directory's search filter that holds one of these fields, and no other."""
    fill = template(*fields)

    def parse(value: str) -> str:
        found = fill(value)
        if not any(f"{{{name}}}" in found for name in fields):
            raise Unfit(
                f"must hold {' or '.join(f'{{{name}}}' for name in fields)}, or it finds the same for everybody"
            )
        if not _is_balanced(found):
            raise Unfit("must be one filter in parentheses, each of them closed")
        return found

    return parse


def directory_uris(value: str) -> tuple[str, ...]:
    """Read ``ldap://``, ``ldaps://`` and ``ldapi://`` addresses."""
    return tuple(_directory_uri(item) for item in words(value))


def domain(value: str) -> str:
    """Read what is appended behind an ``@``; empty means nothing."""
    if "@" in value:
        raise Unfit("must not contain @: it is put between")
    if value and not _DOMAIN.fullmatch(value):
        raise Unfit("must be a domain alone, of letters, digits, dots and hyphens, without quotes")
    return value


def answer_key(value: str) -> str:
    """Read the name under which an answer is kept."""
    if not _ANSWER_KEY.fullmatch(value):
        raise Unfit("must be of letters, digits and _, at most 32 of them")
    if value.lower() == "otp":
        raise Unfit("must not be otp, which stands for the one-time password")
    return value


def pattern(value: str) -> str:
    """Read a regular expression."""
    written = line(value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a set that may mean something else one day
            regex.compile(written, regex.VERSION0)
    except (regex.error, FutureWarning, OverflowError, RecursionError, ValueError):
        raise Unfit("is no regular expression that can be used") from None
    return written


def region(value: str) -> str:
    """Read a country's code of two letters (ISO 3166); it is given in upper case."""
    if not _REGION.fullmatch(value):
        raise Unfit("must be a country's code of two letters, such as DE")
    return value.upper()


def listen(value: str) -> str:
    """Read a local address with a port, ``127.0.0.1:9109`` or ``[::1]:9109``, or the path of a Unix socket."""
    if value.startswith("/"):
        return value
    address, _, port = value.rpartition(":")
    try:
        local = ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        local = False
    if not local or not port.isascii() or not port.isdigit() or not 1 <= int(port[:6]) <= 65535:  # noqa: PLR2004
        raise Unfit("must be a loopback address with a port, such as 127.0.0.1:9109, or the path of a socket")
    return value


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


def api_key(value: str) -> Secret:
    """Read a key that is sent in a header."""
    if not re.fullmatch(r"[!-~]+", value):
        raise Unfit("must be one word of printable ASCII characters")
    return Secret(value)


def vault_key(value: str) -> Secret:
    """Read the keys that seal secrets: 32 bytes in base64 each, apart by blanks."""
    for word in value.split() or [""]:
        try:
            is_key = len(base64.b64decode(word, validate=True)) == VAULT_KEY_BYTES
        except ValueError:
            is_key = False
        if not is_key:
            raise Unfit("must be 32 random bytes in base64: starlingctl totp make-key makes and keeps them")
    return Secret(value)


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


def _network(number: int, item: str) -> Network:
    try:
        network = ipaddress.ip_network(item) if "%" not in item else None
    except ValueError:
        network = None
    if network is None:
        raise Unfit(
            f"has as item {number} what is no network: write such as 192.0.2.0/24, with nothing behind the prefix"
        )
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        address = network.network_address.ipv4_mapped
        return ipaddress.IPv4Network((int(address or 0), network.prefixlen - _MAPPED.prefixlen))
    return network


def _group(name: str | None, quoted: str | None) -> str:
    if quoted is not None:
        return dn(quoted) if "=" in quoted else quoted.strip()
    if "=" in (name or ""):
        raise Unfit("holds a DN without quotes, whose commas cannot be told from the list's: put it into double quotes")
    return (name or "").strip()


def _is_balanced(value: str) -> bool:
    depth = 0
    for place, char in enumerate(value, start=1):
        depth += (char == "(") - (char == ")")
        if depth <= 0 and place < len(value):
            return False
    return depth == 0 and value.startswith("(")


def _directory_uri(value: str) -> str:
    try:
        url = urlsplit(value)
        port = url.port if url.scheme != "ldapi" else None
        name = url.netloc if url.scheme == "ldapi" and url.netloc else host(url.hostname or "")
    except ValueError:
        raise Unfit("must be ldap://HOST, ldaps://HOST or ldapi://%2FSOCKET, separated by commas") from None
    extra = "@" in url.netloc or url.path not in {"", "/"} or url.query or url.fragment or re.search(r"[\s?#]", value)
    if url.scheme not in {"ldap", "ldaps", "ldapi"} or extra or port == 0:
        raise Unfit("must be ldap://HOST, ldaps://HOST or ldapi://%2FSOCKET, with a port at most behind it")
    return f"{url.scheme}://{name}" if port is None else f"{url.scheme}://{name}:{port}"
