"""One-time codes of authenticator apps: HOTP (RFC 4226) and TOTP (RFC 6238), as plain functions of values.

A code is good once: whatever is accepted moves the token's counter, and nothing at or below it is accepted again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from urllib.parse import quote

from starlingd.core.model import Check

MOST_DRIFT = 20
"""Steps by which an app's clock may have wandered off, a step or so at a time."""
LONGEST_URI = 78
"""Bytes of an otpauth URI that fit a QR code of 37 by 19 characters, quiet zone included."""
SHORTEST_SECRET = 10
"""Bytes; RFC 4226 wants 16, the older apps of google-authenticator have 10."""
_DYNAMIC_MASK = 0x7FFFFFFF
_SAFE = "@"


class Algorithm(StrEnum):
    """The hash inside the HMAC (RFC 6238, 1.2)."""

    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA512 = "sha512"


class Over(Enum):
    """In whose place an app may come."""

    ANY = "any"
    NO_APP = "no app"
    NOTHING = "nothing"
    """Only for whoever never had a second factor here."""


@dataclass(frozen=True, slots=True)
class Token:
    """Somebody's authenticator app. ``box`` is its secret, sealed; ``step`` and ``made`` are in seconds.

    ``used`` is the counter of the last code that was taken, and ``drift`` by how many steps the app's clock was ahead.
    """

    user: str
    box: bytes = field(repr=False)
    algorithm: Algorithm = Algorithm.SHA1
    digits: int = 6
    step: int = 30
    made: float = 0.0
    used: int = -1
    drift: int = 0


def secret_bytes(algorithm: Algorithm) -> int:
    """Tell how long a new secret is: as long as the hash (RFC 6238, 5.1)."""
    return hashlib.new(algorithm).digest_size


def secret_text(secret: bytes) -> str:
    """Write a secret as apps take it: base32, without padding."""
    return base64.b32encode(secret).decode().rstrip("=")


def in_groups(secret: bytes) -> str:
    """Write a secret in groups of four, to be typed."""
    text = secret_text(secret)
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def secret_of(text: str) -> bytes:
    """Read a secret in base32, whatever its case, blanks and padding; raises ValueError."""
    plain = "".join(text.split()).replace("-", "").rstrip("=").upper()
    try:
        secret = base64.b32decode(plain + "=" * (-len(plain) % 8))
    except binascii.Error:
        raise ValueError("the secret is not base32") from None
    if len(secret) < SHORTEST_SECRET:
        raise ValueError(f"the secret is shorter than {SHORTEST_SECRET} bytes")
    return secret


def uri(token: Token, secret: bytes, host: str) -> str:
    """Write what the QR code says (otpauth). The label gives way, so that the default kind of app fits a small code."""
    said = {"algorithm": token.algorithm.upper(), "digits": str(token.digits), "period": str(token.step)}
    default = {"algorithm": "SHA1", "digits": "6", "period": "30"}
    others = "".join(f"&{name}={value}" for name, value in said.items() if value != default[name])
    query = f"?secret={secret_text(secret)}{others}"
    room = max(1, LONGEST_URI - len("otpauth://totp/") - len(query))
    label = next((text for text in (f"{token.user}@{host}", token.user) if len(quote(text, safe=_SAFE)) <= room), None)
    return f"otpauth://totp/{quote(label, safe=_SAFE) if label else _cut(token.user, room)}{query}"


def _cut(name: str, room: int) -> str:
    """Shorten a label, without cutting an escape in two."""
    while len(quote(name, safe=_SAFE)) > room and len(name) > 1:
        name = name[:-1]
    return quote(name, safe=_SAFE)


def hotp(secret: bytes, counter: int, algorithm: Algorithm = Algorithm.SHA1, digits: int = 6) -> str:
    """Make the code of a counter (RFC 4226, 5.3)."""
    mac = hmac.new(secret, counter.to_bytes(8), getattr(hashlib, algorithm)).digest()
    offset = mac[-1] & 0xF
    number = int.from_bytes(mac[offset : offset + 4]) & _DYNAMIC_MASK
    return str(number % 10**digits).zfill(digits)


def _near(counter: int, window: int) -> set[int]:
    return set(range(max(0, counter - window), counter + window + 1))


def check(token: Token, secret: bytes, code: str, now: float, window: int) -> tuple[Check, Token]:
    """Check a code, and tell the token as it is afterwards; ``now`` is wall-clock time.

    ``window`` steps before and after the one that is expected are looked at, and around the present one, should the
    app's clock have been put right; each of them whatever the others say.
    """
    present = int(now // token.step)
    matching = [
        counter
        for counter in sorted(_near(present, window) | _near(present + token.drift, window))
        if hmac.compare_digest(hotp(secret, counter, token.algorithm, token.digits).encode(), code.encode())
    ]
    fresh = [counter for counter in matching if counter > token.used]
    if not fresh:
        return (Check.REUSED if matching else Check.WRONG), token
    accepted = min(fresh)
    drift = max(-MOST_DRIFT, min(MOST_DRIFT, accepted - present))
    return Check.RIGHT, replace(token, used=accepted, drift=drift)
