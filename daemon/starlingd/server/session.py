"""Serves one connection of a module: one PAM operation, from its first packet to ``done``.

It drives the conversation, keeps the record of who is let in before saying so, and turns every interruption, outage
and bug into a refusal: ``serve`` is the one guard of each session. It must never let in whom no Verdict lets in.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from dataclasses import replace
from functools import partial
from random import SystemRandom
from typing import TYPE_CHECKING

from pam_starling.protocol import VERSION, ProtocolError
from starlingd.core import policy
from starlingd.core.attempts import connection_of, connections_of
from starlingd.core.conversation import confirm, converse
from starlingd.core.grace import Key
from starlingd.core.model import Outcome, Reason, Result, Unavailable, Verdict
from starlingd.core.records import Claim, Record
from starlingd.core.secondfactor import Facts
from starlingd.core.sentences import TOO_MANY_SESSIONS
from starlingd.core.steps import Interrupted, ShuttingDown, TimeUp
from starlingd.core.verdicts import reason_of, refuse
from starlingd.server import trials
from starlingd.server.channel import Channel
from starlingd.server.logins import Full, emergency
from starlingd.server.performer import Performer
from starlingd.server.requests import parse_login

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from starlingd.core.attempts import Connection
    from starlingd.core.model import Account, Login
    from starlingd.core.rules import Rules
    from starlingd.core.steps import Conversation, Step
    from starlingd.server.host import Current, Host
    from starlingd.server.trials import Trial

FIRST_PACKET = 10.0
"""Seconds a module may take to say what it wants."""
NSS_WAIT = 10.0
STORE_WAIT = 10.0
LOGIN_VARIABLE = "env.PAM_STARLING_LOGIN"

log = logging.getLogger("starlingd.session")
_random = SystemRandom()

REFUSALS = {
    "authenticate": Result.AUTH_ERR,
    "account": Result.ACCT_DENIED,
    "open_session": Result.SESSION_ERR,
}
"""What each operation is answered when nothing better can be said."""
AT_ONCE = frozenset({"open_session", "close_session"})
"""Operations that wait for nobody."""


class Session:
    """One connection. ``interrupt`` may be called at any time, from the event loop's thread."""

    def __init__(self, host: Host, sock: socket.socket, pid: int) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._channel = Channel(self._loop, sock, self.interrupt)
        self._pid = pid
        self._why: Interrupted | None = None
        self._task: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._operation = ""
        self._login: Login | None = None
        self._trial: Trial | None = None
        self._performer: Performer | None = None
        self._login_id = str(uuid.uuid4())
        self._observing = False

    def stop(self) -> None:
        """End, since the daemon does. Sessions that open or close come to their end, which takes no time."""
        if self._operation not in AT_ONCE:
            self.interrupt(ShuttingDown())

    def interrupt(self, why: Interrupted) -> None:
        """End the conversation from outside; only the first reason counts."""
        if self._why is None and self._task is not None:
            self._why = why
            self._task.cancel()

    async def serve(self) -> None:
        """Serve the connection to its end, whatever happens. This is the guard that denies on a bug."""
        self._task = asyncio.current_task()
        try:
            await self._serve()
        except (Interrupted, ProtocolError, TimeoutError) as end:
            log.warning("a module's connection ended without a verdict: %s", type(end).__name__)
            self._end_without_verdict(Reason.PROTOCOL_ERROR)
        except asyncio.CancelledError:
            if self._why is None:
                raise
            self._end_without_verdict(self._why.reason)
        except Exception:
            log.exception("a bug ended a session; the login is refused")
            self._end_without_verdict(Reason.INTERNAL_ERROR)
        finally:
            if self._deadline is not None:
                self._deadline.cancel()
            self._channel.close()

    async def _serve(self) -> None:
        self._channel.send("hello", {"v": str(VERSION)})
        async with asyncio.timeout(FIRST_PACKET):
            self._operation, fields = await self._channel.receive()
        operations: dict[str, Callable[[Login, Current], Awaitable[None]]] = {
            "authenticate": self._authenticate,
            "account": self._account,
            "open_session": self._open_session,
            "close_session": self._close_session,
        }
        perform = operations.get(self._operation)
        if perform is None:
            self._channel.send("error", {"reason": Reason.PROTOCOL_ERROR})
            return
        login = self._login = self._mark(parse_login(fields, self._pid, self._loop.time()))
        self._deadline = self._loop.call_at(login.deadline, self.interrupt, TimeUp())
        current = self._host.current
        self._observing = current is not None and time.time() < current.rules.observe_until
        if current is None:
            self._refuse_all(login, Reason.MISCONFIGURED)
        elif not self._host.recovered and login.user not in current.rules.break_glass:
            self._refuse_all(login, Reason.STORE_UNAVAILABLE)
        elif self._is_of_a_lost_trial(login):
            self._refuse_all(login, Reason.NO_RECORD)
        else:
            await perform(login, current)

    def _mark(self, login: Login) -> Login:
        """Mark what only tries the stack out; who that is was said over the control socket."""
        self._trial = self._host.trials.of(login.caller)
        if self._trial is not None:
            self._login_id = trials.PREFIX + self._login_id
        return replace(login, is_test=self._trial is not None)

    def _is_of_a_lost_trial(self, login: Login) -> bool:
        """Tell whether an earlier daemon took this for a trial: it must not become a login because of a restart."""
        return self._trial is None and self._operation not in AT_ONCE and login.login_id.startswith(trials.PREFIX)

    def _write_down(self, login: Login, user: str, login_id: str, verdict: Verdict) -> None:
        if self._trial is not None:
            self._trial.note(self._operation, login, login_id, verdict)
        self._host.audit.login(login, user, login_id, verdict, observing=self._observing)

    def _end_without_verdict(self, reason: Reason) -> None:
        """Refuse a call that was cut short: say so, write it down, and give back what it may have taken."""
        if self._leaves_it_to_the_next():
            self._host.logins.drop(self._login_id)
            return
        result, login = REFUSALS.get(self._operation, Result.AUTH_ERR), self._login
        self._done(result, reason)
        if login is None or self._operation == "close_session":
            return
        if self._operation == "open_session":
            self._host.audit.session("session_open", login.user, login.service, None, reason)
        else:
            self._host.logins.drop(self._login_id)
            self._write_down(login, login.user, self._login_id, refuse(reason, result))

    def _refuse_all(self, login: Login, reason: Reason) -> None:
        result = REFUSALS.get(self._operation)
        if result is None:
            self._done(Result.SUCCESS, reason)  # close_session: there is nothing left to refuse
            return
        verdict = refuse(reason, result)
        self._write_down(login, login.user, self._login_id, verdict)
        self._done(result, verdict.reason, verdict.sentence)

    async def _authenticate(self, login: Login, current: Current) -> None:
        connection = connection_of(login)
        attempts = self._host.attempts
        now = self._loop.time()
        spent, refused = attempts.spent(connection, now), attempts.refused(connection, now)
        facts = self._facts(spent, refused, closed=attempts.closed(connection, now))
        performer = self._perform_for(login, connection, current)
        verdict = await self._drive(converse(login, facts, current.rules), performer)
        if verdict.result is Result.MAXTRIES:
            attempts.close(connection, self._loop.time())
        await self._conclude(login, performer, verdict, current.rules)

    async def _account(self, login: Login, current: Current) -> None:
        passed = self._trial.passed(login) if self._trial is not None else None
        if passed is not None:
            self._done(Result.SUCCESS, passed)
            return
        record = await self._find(login)
        if record is not None:
            self._confirm(login, record, current.rules)
            return
        now = self._loop.time()
        closed = any(self._host.attempts.closed(connection, now) for connection in connections_of(login))
        performer = self._perform_for(login, connection_of(login), current)
        verdict = await self._drive(confirm(login, self._facts(closed=closed), current.rules), performer)
        await self._conclude(login, performer, verdict, current.rules)

    def _confirm(self, login: Login, record: Record, rules: Rules) -> None:
        """Let on a login whose decision is on record, if it still has its slot or can have one again."""
        try:
            self._host.logins.renew(record, _limit(record.reason, rules))
        except Full as full:
            self._login_id = record.login_id
            verdict = _too_many(full, Result.ACCT_DENIED)
            self._write_down(login, record.user, record.login_id, verdict)
            self._done(verdict.result, verdict.reason, verdict.sentence)
        else:
            self._done(Result.SUCCESS, record.reason)

    async def _open_session(self, login: Login, current: Current) -> None:
        user, record, sentence = login.user, None, ""
        if login.is_test:  # it has no record, and whatever else its process did, it opens nothing
            self._host.audit.session("session_open", user, login.service, None, Reason.NO_RECORD)
            self._done(Result.SESSION_ERR, Reason.NO_RECORD)
            return
        try:
            claim = await self._claim(login)
            user = claim.user
            found = self._host.logins.find(claim)
            limit = _limit(found.reason, current.rules) if found else 0
            record = await self._host.logins.open(claim, limit)
            reason = record.reason if record else Reason.NO_RECORD
        except Full as full:
            reason, sentence = Reason.CONNECTION_LIMIT, TOO_MANY_SESSIONS.format(open=full.open)
        except Unavailable as outage:
            log.warning("%s", outage)
            reason = reason_of(outage)
        self._host.audit.session("session_open", user, login.service, record, reason)
        self._done(Result.SUCCESS if record else Result.SESSION_ERR, reason, sentence)

    async def _close_session(self, login: Login, _: Current) -> None:
        lease = self._host.logins.close(login.caller)
        if lease is not None:
            self._host.audit.session("session_close", lease.user, lease.service, lease, lease.reason)
        self._done(Result.SUCCESS, lease.reason if lease else Reason.NO_RECORD)

    def _perform_for(self, login: Login, connection: Connection, current: Current) -> Performer:
        self._performer = Performer(self._host, current, self._channel, login, connection, self._login_id)
        return self._performer

    def _leaves_it_to_the_next(self) -> bool:
        """Tell whether a daemon that stops says nothing: the module then asks the next one, as after a crash.

        Only where nobody has been asked anything, and no phone has rung; the next one knows nothing of a trial.
        """
        engaged = self._performer is not None and self._performer.engaged
        return isinstance(self._why, ShuttingDown) and not engaged and self._trial is None

    def _facts(self, spent: int = 0, refused: frozenset[str] = frozenset(), *, closed: bool = False) -> Facts:
        number = f"{_random.randrange(100):02}"
        return Facts(self._host.gateway, number, spent, refused, closed=closed, observing=self._observing)

    async def _find(self, login: Login) -> Record | None:
        """Find the login's record; without a login id, or with NSS down, there is none to be found."""
        if not login.login_id:
            return None
        try:
            return self._host.logins.find(await self._claim(login))
        except Unavailable as outage:
            log.warning("%s", outage)
            return None

    async def _claim(self, login: Login) -> Claim:
        account: Account | None = await self._host.pools.accounts.run(NSS_WAIT, self._host.accounts.look_up, login.user)
        return Claim(login.login_id, account.name if account else "", login.service, login.caller)

    async def _conclude(self, login: Login, performer: Performer, verdict: Verdict, rules: Rules) -> None:
        """Keep the record of who is let in, then say so, then write it down; what cannot be kept is refused."""
        if self._leaves_it_to_the_next():
            self._host.logins.drop(self._login_id)
            return
        user = performer.account.name if performer.account else login.user
        if verdict.lets_in and not login.is_test:
            verdict = await self._keep(self._record(login, performer.account, verdict, rules), verdict, rules)
            if self._leaves_it_to_the_next():
                self._host.logins.drop(self._login_id)
                return
        sent = self._done(verdict.result, verdict.reason, verdict.sentence, verdict)
        if verdict.lets_in and not sent:
            verdict = refuse(Reason.HUNG_UP, REFUSALS[self._operation])
            self._host.logins.drop(self._login_id)
        elif performer.reused and (login.is_test or not verdict.lets_in):
            self._host.logins.drop(self._login_id)  # which gives the reuse back
        self._write_down(login, user, self._login_id, verdict)

    async def _keep(self, record: Record, verdict: Verdict, rules: Rules) -> Verdict:
        """Remember who is about to be let in; whoever cannot be remembered, or finds no slot, is refused."""
        if not self._host.recovered and verdict.reason is not Reason.BREAK_GLASS:
            return refuse(Reason.STORE_UNAVAILABLE, REFUSALS[self._operation])
        try:
            if verdict.reason in policy.EXEMPTIONS and rules.grace.reuse_limit:
                # Once exempt, an authentication from before counts no more (SEMANTICS §4).
                with emergency(record):
                    await self._host.pools.store.run(STORE_WAIT, self._host.store.forget_grace_of, record.user)
            await self._host.logins.add(record, _limit(verdict.reason, rules))
        except Full as full:
            return _too_many(full, REFUSALS[self._operation])
        except Unavailable as outage:
            log.warning("%s", outage)
            return refuse(reason_of(outage), REFUSALS[self._operation])
        except asyncio.CancelledError:
            return refuse(self._interruption().reason, REFUSALS[self._operation])
        return verdict

    def _record(self, login: Login, account: Account | None, verdict: Verdict, rules: Rules) -> Record:
        if account is None:
            raise ValueError("nobody has no record")
        key, now = policy.grace_key(login, account, rules), self._host.moment()
        return Record(
            login_id=self._login_id,
            user=account.name,
            service=login.service,
            caller=login.caller,
            parent=login.parent,
            client_ip=login.client_ip,
            tty=login.tty,
            auth_info=login.auth_info,
            factor=verdict.factor,
            reason=verdict.reason,
            boot=now.boot,
            made=now.boottime,
            wall=now.wall,
            key=key if isinstance(key, Key) else None,
            basis=policy.basis_of(login, account, rules),
        )

    def _done(self, result: Result, reason: Reason, sentence: str = "", verdict: Verdict | None = None) -> bool:
        """Send the last words; False when they cannot have arrived. A verdict that lets in hands out the login id."""
        if self._deadline is not None:
            self._deadline.cancel()
        if sentence:
            self._channel.send("say", {"style": "error", "text": sentence})
        fields = {"result": str(result), "reason": str(reason)}
        if verdict is not None and verdict.lets_in:
            fields[LOGIN_VARIABLE] = self._login_id
            fields |= {f"env.{name}": value for name, value in verdict.exports.items()}
        return self._channel.send("done", fields)

    async def _drive(self, conversation: Conversation, performer: Performer) -> Verdict:
        """Perform the conversation's steps until it returns its verdict."""
        advance: Callable[[], Step] = partial(next, conversation)
        while True:
            try:
                step = advance()
            except StopIteration as end:
                verdict: Verdict = end.value
                return verdict
            advance = await self._perform(conversation, performer, step)

    async def _perform(self, conversation: Conversation, performer: Performer, step: Step) -> Callable[[], Step]:
        """Perform one step; return how the conversation is to go on."""
        try:
            answer = await performer.perform(step)
        except asyncio.CancelledError:
            return partial(conversation.throw, self._interruption())
        except Interrupted as why:
            self._why = self._why or why
            return partial(conversation.throw, why)
        except Unavailable as outage:
            log.info("%s", outage)
            return partial(conversation.throw, outage)
        return partial(conversation.send, (answer, time.monotonic()))

    def _interruption(self) -> Interrupted:
        """Tell why this session's task was cancelled; a cancellation that is not ours goes on."""
        if self._why is None or self._task is None:
            raise asyncio.CancelledError
        self._task.uncancel()
        return self._why


def _limit(reason: Reason, rules: Rules) -> int:
    """Tell the connection limit of a login; break-glass stands before no full house, and observing refuses nobody."""
    return 0 if reason in {Reason.BREAK_GLASS, Reason.OBSERVED} else rules.connection_limit


def _too_many(full: Full, result: Result) -> Verdict:
    sentence = TOO_MANY_SESSIONS.format(open=full.open)
    return Verdict(Outcome.DENY, result, Reason.CONNECTION_LIMIT, rule=policy.LIMIT_RULE, sentence=sentence)
