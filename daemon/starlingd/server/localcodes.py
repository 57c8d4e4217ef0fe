"""This host's own codes: authenticator apps, recovery codes, helpdesk codes; checked and used up in one transaction.

Slow hashes are made in a pool of two threads, so that nobody's guesses keep the daemon busy. It must never let a code
or a secret into a log.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from starlingd.core import otp
from starlingd.core.localcodes import (
    HELPDESK_DIGITS,
    RECOVERY_CODES,
    RECOVERY_DIGITS,
    HelpdeskCode,
    Passed,
    Recovery,
    slow_hash,
)
from starlingd.core.model import Check, Factor
from starlingd.core.rules import Fallback
from starlingd.ports import Fault, Unavailable

if TYPE_CHECKING:
    from starlingd.core.grace import Moment
    from starlingd.core.rules import Apps
    from starlingd.ports import Store, Vault
    from starlingd.server.workers import Workers

SALT_BYTES = 16
MOST_ISSUED = 5
"""Helpdesk codes for one user in an hour, and ten times as many by one issuer."""
HOUR = 3600.0
STORE_WAIT = 10.0
HASH_WAIT = 10.0
AT_ONCE = 500
"""Apps that are sealed anew in one transaction: some 60 ms, which a login may wait."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An app that is about to be enrolled: nothing of it is kept yet."""

    token: otp.Token
    secret: bytes = field(repr=False)
    uri: str = field(repr=False)


class TooMany(Exception):  # noqa: N818  it says what it is
    """So many codes were issued lately that something must be wrong."""


class LocalCodes:
    """What may be typed besides a code of the service. Everything raises Unavailable."""

    def __init__(self, store: Store, workers: Workers, hashing: Workers) -> None:
        self._store = store
        self._workers = workers
        self._hashing = hashing
        self._issued: dict[str, deque[float]] = {}
        """When codes were issued lately, by who they are for and by who issued them."""

    async def issued(self, user: str, code: str, now: Moment) -> Passed | Check:
        """Use up a recovery or a helpdesk code of ``user``; NOT_ENROLLED when there is none to compare it with."""
        if len(code) == RECOVERY_DIGITS:
            return await self._recovery(user, code)
        if len(code) == HELPDESK_DIGITS:
            return await self._helpdesk(user, code, now)
        return Check.NOT_ENROLLED

    async def waste(self, code: str) -> None:
        """Take the time that ``issued`` takes: nobody must see who has such a code, or an account at all."""
        if len(code) in {RECOVERY_DIGITS, HELPDESK_DIGITS}:
            await self._hashing.run(HASH_WAIT, slow_hash, code, bytes(SALT_BYTES))

    async def app(self, user: str, code: str, vault: Vault | None, window: int) -> Passed | Check:
        """Check a code of the user's authenticator app, and use it up."""
        if vault is None:
            raise _no_key()

        def judge(token: otp.Token) -> tuple[Check, otp.Token]:
            return otp.check(token, vault.open(user, token.box), code, time.time(), window)

        check = await self._workers.run(STORE_WAIT, self._store.use_token, user, judge)
        return Passed(Factor.TOTP) if check is Check.RIGHT else check

    async def may_enrol(self, user: str) -> bool:
        """Tell whether somebody may enrol an app by themselves: who never had a second factor here."""
        return not await self._workers.run(STORE_WAIT, self._store.had_second_factor, user)

    def offer(self, user: str, host: str, apps: Apps) -> Offer:
        """Make a new secret for an app of ``user``."""
        token = otp.Token(user, b"", apps.algorithm, apps.digits, apps.step)
        secret = secrets.token_bytes(otp.secret_bytes(apps.algorithm))
        return Offer(token, secret, otp.uri(token, secret, host.partition(".")[0]))

    async def keep(self, offer: Offer, code: str, vault: Vault | None, window: int, over: otp.Over) -> Passed | Check:
        """Enrol an app that shows the right code; RIGHT becomes Passed, and REUSED says that there was one already."""
        check, token = otp.check(offer.token, offer.secret, code, time.time(), window)
        if check is not Check.RIGHT:
            return check
        kept = await self.add(token, offer.secret, vault, over)
        return Passed(Factor.TOTP) if kept else Check.REUSED

    async def add(self, token: otp.Token, secret: bytes, vault: Vault | None, over: otp.Over) -> bool:
        """Keep an app, sealed; False when there is already what it may not take the place of."""
        if vault is None:
            raise _no_key()
        if over is otp.Over.ANY:
            token = await self._as_far_used(token, secret, vault)
        sealed = replace(token, box=vault.seal(token.user, secret), made=time.time())
        kept: bool = await self._workers.run(STORE_WAIT, self._store.save_token, sealed, over)
        return kept

    async def _as_far_used(self, token: otp.Token, secret: bytes, vault: Vault) -> otp.Token:
        """Have an app that replaces itself go on where it was: used codes stay used, and all where nobody can tell."""
        try:
            old = await self._workers.run(STORE_WAIT, self._store.token, token.user)
            same = old is not None and old.step == token.step and vault.open(old.user, old.box) == secret
        except Unavailable:  # a damaged one, or of a key that is lost: all the more a reason to replace it
            return replace(token, used=max(token.used, int(time.time() // token.step)))
        return replace(token, used=max(old.used, token.used), drift=old.drift) if old and same else token

    async def reseal(self, vault: Vault | None) -> int:
        """Seal every secret with the first key, some at a time so that logins go on; tell how many there are.

        Once interrupted, it is begun anew: until it has come to its end both keys are needed.
        """
        if vault is None:
            raise _no_key()

        def seal(token: otp.Token) -> otp.Token:
            try:
                return replace(token, box=vault.seal(token.user, vault.open(token.user, token.box)))
            except Unavailable as why:
                raise Unavailable(why.port, why.fault, f"the app of {token.user}: {why.detail}") from None

        count, last = 0, [""]
        while last := await self._workers.run(STORE_WAIT, self._store.reseal_tokens, seal, last[-1], AT_ONCE):
            count += len(last)
        return count

    async def make_recovery_codes(self, user: str) -> list[str]:
        """Make recovery codes in place of the old ones; they are told this once."""
        codes = [_digits(RECOVERY_DIGITS) for _ in range(RECOVERY_CODES)]
        salt = secrets.token_bytes(SALT_BYTES)
        digests = [await self._hashing.run(HASH_WAIT, slow_hash, code, salt) for code in codes]
        await self._workers.run(STORE_WAIT, self._store.save_recovery, user, Recovery(salt, frozenset(digests)))
        return codes

    async def issue(self, user: str, by: str, valid: float, now: Moment) -> str:
        """Make a helpdesk code in place of an earlier one; it is told this once. Raises TooMany."""
        self._admit(f"for {user}", MOST_ISSUED)
        self._admit(f"by {by}", 10 * MOST_ISSUED)
        code, salt = _digits(HELPDESK_DIGITS), secrets.token_bytes(SALT_BYTES)
        digest = await self._hashing.run(HASH_WAIT, slow_hash, code, salt)
        kept = HelpdeskCode(user, salt, digest, by, now.boottime, now.boot, valid)
        await self._workers.run(STORE_WAIT, self._store.save_helpdesk_code, kept)
        return code

    def _admit(self, who: str, most: int) -> None:
        now = time.monotonic()
        for name, times in list(self._issued.items()):
            while times and now - times[0] > HOUR:
                times.popleft()
            if not times:
                del self._issued[name]
        lately = self._issued.setdefault(who, deque())
        if len(lately) >= most:
            raise TooMany(f"{most} codes were issued {who} in the last hour")
        lately.append(now)

    async def has_any(self, user: str, kinds: frozenset[Fallback]) -> bool:
        """Tell whether the user has an app or recovery codes, as far as ``kinds`` allows them."""
        if Fallback.TOTP in kinds and await self._workers.run(STORE_WAIT, self._store.token, user) is not None:
            return True
        kept = await self._workers.run(STORE_WAIT, self._store.recovery, user)
        return Fallback.RECOVERY in kinds and kept is not None

    async def _recovery(self, user: str, code: str) -> Passed | Check:
        kept = await self._workers.run(STORE_WAIT, self._store.recovery, user)
        if kept is None:
            await self.waste(code)
            return Check.NOT_ENROLLED
        digest = await self._hashing.run(HASH_WAIT, slow_hash, code, kept.salt)
        left = await self._workers.run(STORE_WAIT, self._store.use_recovery, user, digest)
        return Check.WRONG if left is None else Passed(Factor.RECOVERY, left=left)

    async def _helpdesk(self, user: str, code: str, now: Moment) -> Passed | Check:
        kept = await self._workers.run(STORE_WAIT, self._store.helpdesk_code, user)
        if kept is None or not kept.is_good(now):
            await self.waste(code)
            return Check.NOT_ENROLLED
        digest = await self._hashing.run(HASH_WAIT, slow_hash, code, kept.salt)
        used = await self._workers.run(STORE_WAIT, self._store.use_helpdesk_code, user, digest)
        if used is None or not used.is_good(now):
            return Check.WRONG
        return Passed(Factor.HELPDESK, issued_by=used.issued_by)


def _no_key() -> Unavailable:
    return Unavailable("totp", Fault.MISCONFIGURED, "[totp] key is not configured")


def _digits(number: int) -> str:
    return str(secrets.randbelow(10**number)).zfill(number)
