"""The people of the sandbox: who behaves how. This table is also what users.json is made of.

``push`` says what the phone does with a push; ``fault`` what the service does wrong, and ``calls`` to which calls.
"""

import base64
import hashlib
from dataclasses import dataclass

import pyotp

STEP = 60
"""Seconds for which the app shows a one-time password (seed)."""
DIGITS = 6
VERIFY, START, POLL = "verify", "start", "poll"
EVERY = frozenset({VERIFY, START, POLL})


@dataclass(frozen=True)
class Behaviour:
    """How one kind of user behaves; ``after`` is in seconds."""

    push: str = "manual"
    after: float = 0.0
    fault: str = ""
    calls: frozenset[str] = EVERY


BEHAVIOURS = {
    "manual": Behaviour(),  # a person, or a test, answers on the phone
    "approves": Behaviour("approve"),
    "approves-after-2": Behaviour("approve", after=2),
    "approves-after-5": Behaviour("approve", after=5),
    "denies": Behaviour("deny"),
    "never-answers": Behaviour("nothing"),
    "expires-at-once": Behaviour("expire"),
    "expires-by-402": Behaviour("nothing", fault="402", calls=frozenset({POLL})),
    "unknown": Behaviour(fault="404"),
    "unknown-60016": Behaviour(fault="60016"),
    "unknown-status": Behaviour("strange"),
    "500-then-ok": Behaviour("approve", fault="500 once", calls=frozenset({VERIFY, POLL})),
    "500": Behaviour("approve", fault="500"),
    "503-then-ok": Behaviour("approve", fault="503 once", calls=frozenset({VERIFY, POLL})),
    "503": Behaviour("approve", fault="503"),
    "malformed": Behaviour("approve", fault="malformed"),
    "html": Behaviour("approve", fault="html"),
    "429-seconds": Behaviour("approve", fault="429 seconds once"),
    "429-date": Behaviour("approve", fault="429 date once"),
    "429": Behaviour("approve", fault="429 for ever"),
    "slow": Behaviour("approve", fault="slow 2"),
    "black-hole": Behaviour("approve", fault="slow 3600"),
    "reset": Behaviour("approve", fault="reset"),
    "stale-token": Behaviour("approve", fault="revoke once", calls=frozenset({VERIFY, POLL})),
    "numeric-ids": Behaviour("approve", fault="numeric"),
}


@dataclass
class User:
    """One enrolled person."""

    name: str
    id: str
    secret: str
    behaviour: str

    @classmethod
    def make(cls, name: str, behaviour: str) -> "User":
        """Make a user whose id and secret follow from the name, so that two runs are alike."""
        digest = hashlib.sha256(name.encode()).digest()
        id_ = str(1_000_000 + int.from_bytes(digest[:6], "big") % 8_999_999_999)
        return cls(name, id_, base64.b32encode(digest[:20]).decode("ascii"), behaviour)

    @property
    def totp(self) -> pyotp.TOTP:
        """The app's generator."""
        return pyotp.TOTP(self.secret, digits=DIGITS, interval=STEP)
