"""Codes that the bastion itself made: recovery codes, each good for one login, and helpdesk codes, good for a while.

Only slow hashes of them are kept. They are told from one another, and from an app's codes, by their length.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlingd.core.grace import Moment
    from starlingd.core.model import Factor

RECOVERY_DIGITS = 10
RECOVERY_CODES = 10
"""How many there are of one user."""
HELPDESK_DIGITS = 12
LONGEST_HELPDESK = 86400.0
"""Seconds for which a helpdesk code may be good at most."""
_COST, _BLOCK, _PARALLEL = 2**14, 8, 1
"""scrypt (RFC 7914): 16 MiB and some 50 ms for each guess."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A code that was checked here was right. ``left`` is how many recovery codes are left, where one was used."""

    factor: Factor
    left: int | None = None
    issued_by: str = ""
    """Who issued a helpdesk code."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What is kept of a user's recovery codes."""

    salt: bytes = field(repr=False)
    digests: frozenset[bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class HelpdeskCode:
    """What is kept of a code that ``issued_by`` issued for ``user``, good for ``valid`` seconds from ``made``."""

    user: str
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    issued_by: str
    made: float
    """Boot-time seconds, of the boot ``boot``: no change of the wall clock lengthens it, and a reboot ends it."""
    boot: str
    valid: float

    def is_good(self, now: Moment) -> bool:
        """Tell whether it still lets somebody in."""
        return self.boot == now.boot and 0 <= now.boottime - self.made <= self.valid


def slow_hash(code: str, salt: bytes) -> bytes:
    """Hash a code so that trying all of them takes long. Blocks for some 50 ms."""
    return hashlib.scrypt(code.encode(), salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL, dklen=32)
