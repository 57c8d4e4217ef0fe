"""One-time codes of authenticator apps: HOTP (RFC 4226) and TOTP (RFC 6238), as plain functions of values.

A code is good once: whatever is accepted moves the token's counter, and nothing at or below it is accepted again.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field, replace
from enum import StrEnum

from starlingd.core.model import Check

MOST_DRIFT = 20
"""Steps by which an app's clock may have wandered off, a step or so at a time."""
_DYNAMIC_MASK = 0x7FFFFFFF


class Algorithm(StrEnum):
    """The hash inside the HMAC (RFC 6238, 1.2)."""

    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA512 = "sha512"


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


def hotp(secret: bytes, counter: int, algorithm: Algorithm = Algorithm.SHA1, digits: int = 6) -> str:
    """Make the code of a counter (RFC 4226, 5.3)."""
    mac = hmac.new(secret, counter.to_bytes(8), getattr(hashlib, algorithm)).digest()
    offset = mac[-1] & 0xF
    number = int.from_bytes(mac[offset : offset + 4]) & _DYNAMIC_MASK
    return str(number % 10**digits).zfill(digits)


def check(token: Token, secret: bytes, code: str, now: float, window: int) -> tuple[Check, Token]:
    """Check a code, and tell the token as it is afterwards; ``now`` is wall-clock time.

    ``window`` steps before and after the one that is expected are looked at, each of them whatever the others say.
    """
    present = int(now // token.step)
    expected = present + token.drift
    matching = [
        counter
        for counter in range(max(0, expected - window), expected + window + 1)
        if hmac.compare_digest(hotp(secret, counter, token.algorithm, token.digits).encode(), code.encode())
    ]
    fresh = [counter for counter in matching if counter > token.used]
    if not fresh:
        return (Check.REUSED if matching else Check.WRONG), token
    accepted = min(fresh)
    drift = max(-MOST_DRIFT, min(MOST_DRIFT, accepted - present))
    return Check.RIGHT, replace(token, used=accepted, drift=drift)
