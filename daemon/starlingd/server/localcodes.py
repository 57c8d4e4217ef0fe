"""This host's own codes: authenticator apps, recovery codes, helpdesk codes; checked and used up in one transaction.

Slow hashes are made in a pool of two threads, so that nobody's guesses keep the daemon busy. It must never let a code
or a secret into a log.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlingd.core import otp
from starlingd.core.localcodes import HELPDESK_DIGITS, RECOVERY_DIGITS, Passed, slow_hash
from starlingd.core.model import Check, Factor
from starlingd.core.rules import Fallback
from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from starlingd.core.grace import Moment
    from starlingd.core.otp import Token
    from starlingd.ports import Store, Vault
    from starlingd.server.workers import Workers

STORE_WAIT = 10.0
HASH_WAIT = 10.0


class LocalCodes:
    """What may be typed besides a code of the service. Everything raises Unavailable."""

    def __init__(self, store: Store, workers: Workers, hashing: Workers) -> None:
        self._store = store
        self._workers = workers
        self._hashing = hashing

    async def issued(self, user: str, code: str, now: Moment) -> Passed | None:
        """Use up a recovery or a helpdesk code of ``user``; None when it is none."""
        if len(code) == RECOVERY_DIGITS:
            return await self._recovery(user, code)
        if len(code) == HELPDESK_DIGITS:
            return await self._helpdesk(user, code, now)
        return None

    async def app(self, user: str, code: str, vault: Vault | None, window: int) -> Passed | Check:
        """Check a code of the user's authenticator app, and use it up."""
        if vault is None:
            raise Unavailable("totp", Fault.MISCONFIGURED, "[totp] key is not configured")

        def judge(token: Token) -> tuple[Check, Token]:
            return otp.check(token, vault.open(user, token.box), code, time.time(), window)

        check = await self._workers.run(STORE_WAIT, self._store.use_token, user, judge)
        return Passed(Factor.TOTP) if check is Check.RIGHT else check

    async def has_any(self, user: str, kinds: frozenset[Fallback]) -> bool:
        """Tell whether the user has an app or recovery codes, as far as ``kinds`` allows them."""
        if Fallback.TOTP in kinds and await self._workers.run(STORE_WAIT, self._store.token, user) is not None:
            return True
        kept = await self._workers.run(STORE_WAIT, self._store.recovery, user)
        return Fallback.RECOVERY in kinds and kept is not None

    async def _recovery(self, user: str, code: str) -> Passed | None:
        kept = await self._workers.run(STORE_WAIT, self._store.recovery, user)
        if kept is None:
            return None
        digest = await self._hashing.run(HASH_WAIT, slow_hash, code, kept.salt)
        left = await self._workers.run(STORE_WAIT, self._store.use_recovery, user, digest)
        return None if left is None else Passed(Factor.RECOVERY, left=left)

    async def _helpdesk(self, user: str, code: str, now: Moment) -> Passed | None:
        kept = await self._workers.run(STORE_WAIT, self._store.helpdesk_code, user)
        if kept is None or not kept.is_good(now):
            return None
        digest = await self._hashing.run(HASH_WAIT, slow_hash, code, kept.salt)
        used = await self._workers.run(STORE_WAIT, self._store.use_helpdesk_code, user, digest)
        if used is None or not used.is_good(now):
            return None
        return Passed(Factor.HELPDESK, issued_by=used.issued_by)
