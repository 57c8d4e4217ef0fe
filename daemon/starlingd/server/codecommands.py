"""What starlingctl totp, recovery and code ask of the daemon; ``control`` says who may.

A secret or a code is told once, to the terminal of whoever may ask for it, and never written anywhere.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from starlingd.core import otp
from starlingd.core.localcodes import LONGEST_HELPDESK, Passed
from starlingd.core.model import Check
from starlingd.server.control import Refused, Right, text_of
from starlingd.server.localcodes import Offer, TooMany

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlingd.core.model import Account
    from starlingd.core.rules import Apps
    from starlingd.server.control import Command, Peer, Request
    from starlingd.server.host import Current, Host

PATIENCE = 10.0
THERE_IS_ONE = "has an app already: --replace puts another one in its place"


class CodeCommands:
    """The commands by name, each with the right that it needs."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def all(self) -> Mapping[str, tuple[Right, Command]]:
        """Tell the commands."""
        return {
            "totp begin": (Right.OPERATE, self._begin),
            "totp confirm": (Right.OPERATE, self._confirm),
            "totp add": (Right.OPERATE, self._add),
            "totp list": (Right.READ, self._list),
            "totp remove": (Right.OPERATE, self._remove),
            "totp reseal": (Right.OPERATE, self._reseal),
            "recovery make": (Right.OPERATE, self._make_recovery),
            "recovery show": (Right.READ, self._show_recovery),
            "recovery remove": (Right.OPERATE, self._remove_recovery),
            "code issue": (Right.HELP, self._issue),
            "code revoke": (Right.HELP, self._revoke),
        }

    async def _begin(self, request: Request, peer: Peer) -> object:
        """Tell a new secret; nothing is kept until a code of it is confirmed."""
        current, user = self._ready(), await self._account(request, peer)
        if not request.get("replace") and await self._store(self._host.store.token, user) is not None:
            raise Refused(f"{user} {THERE_IS_ONE}")
        offer = self._host.local.offer(user, self._host.gateway, current.rules.apps)
        return {"user": user, "secret": otp.secret_text(offer.secret), "uri": offer.uri}

    async def _confirm(self, request: Request, peer: Peer) -> object:
        current, user = self._ready(), await self._account(request, peer)
        offer = Offer(_token(user, current.rules.apps), _secret(request), "")
        vault, window = current.vault, current.rules.apps.window
        kept = await self._host.local.keep(offer, text_of(request, "code"), vault, window, _over(request))
        if kept is Check.REUSED:
            raise Refused(f"{user} {THERE_IS_ONE}")
        if not isinstance(kept, Passed):
            raise Refused("that is not the code of this app now: is its clock right?")
        self._host.audit.app(user, await self._who(peer), "an app was enrolled")
        return {"user": user}

    async def _add(self, request: Request, peer: Peer) -> object:
        """Keep an app that is in use somewhere else already; nobody types a code."""
        current, user = self._ready(), await self._account(request, peer)
        apps = current.rules.apps
        try:
            token = otp.Token(
                user,
                b"",
                otp.Algorithm(str(request.get("algorithm", apps.algorithm))),
                _number(request, "digits", (6, 8)),
                _number(request, "step", (30, 60)),
            )
        except ValueError as error:
            raise Refused(str(error)) from None
        if not await self._host.local.add(token, _secret(request), current.vault, _over(request)):
            raise Refused(f"{user} {THERE_IS_ONE}")
        self._host.audit.app(user, await self._who(peer), "an app was imported")
        return {"user": user}

    async def _list(self, _: Request, __: Peer) -> object:
        tokens = await self._store(self._host.store.tokens)
        return [
            {
                "user": token.user,
                "algorithm": token.algorithm,
                "digits": token.digits,
                "step": token.step,
                "made": token.made,
                "used": max(0, (token.used - token.drift) * token.step),
                "drift": token.drift * token.step,
            }
            for token in tokens
        ]

    async def _remove(self, request: Request, peer: Peer) -> object:
        return await self._forgotten(request, peer, self._host.store.forget_token, "app")

    async def _reseal(self, _: Request, __: Peer) -> object:
        return {"count": await self._host.local.reseal(self._ready().vault)}

    async def _make_recovery(self, request: Request, peer: Peer) -> object:
        user = await self._account(request, peer)
        codes = await self._host.local.make_recovery_codes(user)
        self._host.audit.app(user, await self._who(peer), "recovery codes were made")
        return {"user": user, "codes": codes}

    async def _show_recovery(self, request: Request, _: Peer) -> object:
        user = text_of(request, "user")
        kept = await self._store(self._host.store.recovery, user)
        return {"user": user, "left": len(kept.digests) if kept else 0}

    async def _remove_recovery(self, request: Request, peer: Peer) -> object:
        return await self._forgotten(request, peer, self._host.store.forget_recovery, "recovery codes")

    async def _revoke(self, request: Request, peer: Peer) -> object:
        return await self._forgotten(request, peer, self._host.store.forget_helpdesk_code, "helpdesk code")

    async def _forgotten(self, request: Request, peer: Peer, forget: Callable[[str], bool], what: str) -> object:
        """Have the store forget something of a user, whose account may be gone."""
        user = text_of(request, "user")
        account = await self._look_up(user)
        if account is not None:
            _see_root(account, peer)
            user = account.name
        if not await self._store(forget, user):
            raise Refused(f"{user!a} has no {what}")
        self._host.audit.app(user, await self._who(peer), f"{what} removed")
        return {"user": user}

    async def _issue(self, request: Request, peer: Peer) -> object:
        user, valid = await self._account(request, peer, for_oneself=False), request.get("valid")
        if isinstance(valid, bool) or not isinstance(valid, (int, float)) or not math.isfinite(valid):
            raise Refused("for how long?")
        if not 1 <= valid <= LONGEST_HELPDESK:
            raise Refused(f"a code is good for 1 second to {LONGEST_HELPDESK / 3600:.0f} hours")
        try:
            code = await self._host.local.issue(user, await self._who(peer), float(valid), self._host.moment())
        except TooMany as why:
            raise Refused(str(why)) from None
        self._host.audit.code_issued(user, await self._who(peer), valid)
        return {"user": user, "code": code, "valid": valid}

    def _ready(self) -> Current:
        current = self._host.current
        if current is None or current.vault is None:
            raise Refused("[totp] key is not configured: see starlingctl totp make-key")
        return current

    async def _account(self, request: Request, peer: Peer, *, for_oneself: bool = True) -> str:
        """Tell the canonical name of the account that is meant."""
        name = text_of(request, "user")
        account = await self._look_up(name)
        if account is None:
            raise Refused(f"there is no account {name!a}")
        _see_root(account, peer)
        if account.uid == peer.uid != 0 and not for_oneself:
            raise Refused("nobody issues a code for themselves: it is there so that two people know of it")
        return account.name

    async def _look_up(self, name: str) -> Account | None:
        return await self._host.pools.accounts.run(PATIENCE, self._host.accounts.look_up, name)

    async def _who(self, peer: Peer) -> str:
        """Tell who asks, for the audit log."""
        name = await self._host.pools.accounts.run(PATIENCE, peer.look_up_name)
        return f"{name} (uid {peer.uid})"

    async def _store(self, call: Any, *arguments: object) -> Any:  # noqa: ANN401  as the call says
        return await self._host.pools.store.run(PATIENCE, call, *arguments)


def _see_root(account: Account, peer: Peer) -> None:
    """See that nobody but root meddles with root's second factor. Raises Refused."""
    if account.uid == 0 and peer.uid != 0:
        raise Refused("only root may do that for uid 0")


def _token(user: str, apps: Apps) -> otp.Token:
    return otp.Token(user, b"", apps.algorithm, apps.digits, apps.step)


def _over(request: Request) -> otp.Over:
    return otp.Over.ANY if request.get("replace") is True else otp.Over.NO_APP


def _secret(request: Request) -> bytes:
    try:
        return otp.secret_of(text_of(request, "secret"))
    except ValueError as error:
        raise Refused(str(error)) from None


def _number(request: Request, name: str, allowed: tuple[int, ...]) -> int:
    number = request.get(name)
    if type(number) is not int or number not in allowed:
        raise ValueError(f"{name} must be {' or '.join(map(str, allowed))}")
    return number
