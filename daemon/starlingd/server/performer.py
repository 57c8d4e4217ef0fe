"""Performs the steps of one conversation: the daemon's hands, without a will of its own.

It decides nothing but how long a call may take. A step about nobody reaches no provider: ``Decoy`` takes its time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, TypeVar

from pam_starling.protocol import MAX_ANSWER
from starlingd.core import steps
from starlingd.core.model import Check, NotStarted, PushStatus, Started, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlingd.core.attempts import Connection
    from starlingd.core.model import Account, Login
    from starlingd.server.channel import Channel
    from starlingd.server.host import Current, Host

log = logging.getLogger("starlingd.performer")
T = TypeVar("T")

NSS_WAIT = 10.0
STORE_WAIT = 5.0
SHORTEST_CALL = 0.5
"""Seconds a provider call gets at least, so that the last poll before a deadline can still bring its answer."""


class Performer:
    """One login's steps, performed."""

    def __init__(self, host: Host, current: Current, channel: Channel, login: Login, connection: Connection) -> None:
        self._host = host
        self._current = current
        self._channel = channel
        self._login = login
        self._connection = connection
        self._account: Account | None = None

    def canonical(self, user: str) -> str:
        """Tell the account's own name if the conversation found one, else the name as given."""
        return self._account.name if self._account else user

    async def perform(self, step: steps.Step) -> Any:  # noqa: ANN401  each step's docstring names its answer
        """Perform one step. Raises Unavailable, or the Interrupted that the channel noticed."""
        match step:
            case steps.Say():
                self._channel.send("say", {"style": "info", "text": step.text})
            case steps.Ask():
                return await self._ask(step)
            case steps.LookUp():
                return await self._look_up(step.user)
            case steps.Verify():
                return await self._verify(step)
            case steps.StartPush():
                return await self._start_push(step)
            case steps.CheckPush():
                return await self._check_push(step)
            case steps.CancelPush():
                await self._push_failed(step.user, denied=False)
            case steps.Pause():
                await asyncio.sleep(step.seconds)
        return None

    async def _ask(self, step: steps.Ask) -> str:
        style = "echo_on" if step.echo else "echo_off"
        if not self._channel.send("ask", {"style": style, "text": step.text}):
            raise steps.HungUp
        op, fields = await self._channel.receive()
        answer = fields.get("text")
        if op != "answer" or answer is None or len(answer.encode()) > MAX_ANSWER:
            raise steps.Misbehaved
        self._host.attempts.add_answer(self._connection, time.monotonic())
        return answer

    async def _look_up(self, user: str) -> Account | None:
        self._account = await self._host.pools.accounts.run(NSS_WAIT, self._host.accounts.look_up, user)
        return self._account

    async def _verify(self, step: steps.Verify) -> Check:
        if step.identity is None:
            await self._host.decoy.replay("verify")
            return Check.WRONG
        with self._host.decoy.observe("verify"):
            return await self._call(self._current.provider.verify, step.identity, step.code)

    async def _start_push(self, step: steps.StartPush) -> Started | NotStarted:
        refusal = self._host.pushes.reserve(step.user, self._current.rules, time.monotonic())
        if refusal is not None:
            return refusal
        try:
            started = await self._send_push(step)
        except asyncio.CancelledError:
            # The push may have reached the phone: whoever hangs up early must not get more of them.
            self._host.pushes.fail(step.user, time.monotonic(), denied=False)
            raise
        except BaseException:
            self._host.pushes.release(step.user)
            raise
        if not isinstance(started, Started):
            self._host.pushes.release(step.user)
        return started

    async def _send_push(self, step: steps.StartPush) -> Started | NotStarted:
        if step.identity is None:
            await self._host.decoy.replay("start_push")
            return Started("")
        with self._host.decoy.observe("start_push"):
            return await self._call(self._current.provider.start_push, step.identity, step.push)

    async def _check_push(self, step: steps.CheckPush) -> PushStatus:
        if step.identity is None:
            await self._host.decoy.replay("check_push")
            return PushStatus.PENDING
        with self._host.decoy.observe("check_push"):
            status = await self._call(self._current.provider.check_push, step.request)
        if status is PushStatus.APPROVED:
            self._host.pushes.approve(step.user)
            await self._note(self._host.store.clear_push_failures, step.user)
        elif status in {PushStatus.DENIED, PushStatus.EXPIRED}:
            await self._push_failed(step.user, denied=status is PushStatus.DENIED)
        return status

    async def _push_failed(self, user: str, *, denied: bool) -> None:
        self._host.pushes.fail(user, time.monotonic(), denied=denied)
        if self._account is not None:  # what strangers do is kept in bounded memory, never on disk
            at = time.time()
            await self._note(lambda name: self._host.store.add_push_failure(name, at, denied=denied), user)

    async def _note(self, call: Callable[[str], None], user: str) -> None:
        """Have the store note what became of a push; one that cannot must not turn an answer into an outage."""
        try:
            await self._host.pools.store.run(STORE_WAIT, call, user)
        except Unavailable as outage:
            log.warning("a push of %s is not noted: %s", user, outage)

    async def _call(self, call: Callable[..., T], *args: object) -> T:
        left = max(SHORTEST_CALL, min(self._current.call_timeout, self._login.deadline - time.monotonic()))
        return await self._host.pools.provider.run(left + SHORTEST_CALL, call, *args, left)
