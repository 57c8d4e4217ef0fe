"""Words of the tests of this host's own codes: a bastion with a vault, the app's codes, logins with answers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from starlingd.adapters.vault import Vault, new_key
from starlingd.core import otp
from starlingd.core.rules import (
    Fallback,
    NotEnrolled,
    Provider,
    Rules,
    Unenrolled,
)
from starlingd.ports import Fault, Unavailable
from tests.daemon_under_test import Bastion, Connection, Module, on_bastion

NUMBERS = itertools.count()
SECRET = b"12345678901234567890"
ALONE = Rules(provider=Provider.TOTP, prompt="Code:")
BOTH = frozenset(Fallback)
BRIDGED = Rules(fallback=BOTH)
KEY_SHOWN = {"authinfo": "publickey ssh-ed25519 AAAA\n"}
ENROLLING = replace(ALONE, not_enrolled=Unenrolled(NotEnrolled.ENROL))
DOWN = Unavailable("starling", Fault.UNREACHABLE, "no route")


def run(test: Callable[[Bastion], Awaitable[None]], rules: Rules = ALONE, *, app: bool = True) -> None:
    """Run a test on a bastion with a vault, where alice has an app unless told otherwise."""

    async def prepared(bastion: Bastion) -> None:
        assert bastion.host.current
        vault = Vault(new_key())
        bastion.host.current = replace(bastion.host.current, vault=vault)
        if app:
            assert await bastion.host.local.add(otp.Token("alice", b""), SECRET, vault, otp.Over.NO_APP)
        await test(bastion)

    on_bastion(prepared, rules)


def code(steps: int = 0, secret: bytes = SECRET) -> str:
    """Make the code of the app, some steps from now."""
    return otp.hotp(secret, int(time.time() // 30) + steps)


def wrong() -> str:
    """Make a code that no window holds."""
    near = {code(steps) for steps in range(-3, 4)}
    return next(each for each in map("{:06}".format, range(10)) if each not in near)


async def connect(bastion: Bastion, **fields: str) -> Module:
    """Make a connection of its own, and begin to authenticate."""
    number = next(NUMBERS)
    return await Connection(bastion, number, **fields).begin()


async def told(bastion: Bastion, *answers: str, user: str = "alice", **fields: str) -> dict[str, str]:
    """Log in with these answers."""
    module = await connect(bastion, user=user, **fields)
    for answer in answers:
        await module.answer(answer)
    return await module.done()


async def prompts(bastion: Bastion, *answers: str, user: str = "alice", **fields: str) -> list[str]:
    """Tell what is asked, and how it ended."""
    module = await connect(bastion, user=user, **fields)
    asked = [await module.answer(answer) for answer in answers]
    return [*asked, (await module.done())["reason"]]
