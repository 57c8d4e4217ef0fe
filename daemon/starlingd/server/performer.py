"""Performs the steps of one conversation: the daemon's hands, without a will of its own.

It decides nothing but how long a call may take. A step about nobody reaches no provider: ``Decoy`` takes its time.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING, Any, TypeVar

from pam_starling.protocol import MAX_ANSWER
from starlingd.core import otp, steps
from starlingd.core.enrolment import NO_SAY
from starlingd.core.failures import DAY
from starlingd.core.localcodes import Passed
from starlingd.core.model import Check, NotStarted, PushStatus, Started, Unavailable
from starlingd.core.policy import place_of
from starlingd.core.rules import Fallback, NotEnrolled, Provider
from starlingd.server.enrolments import Service
from starlingd.server.lookups import Lookups

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlingd.core.attempts import Connection
    from starlingd.core.enrolment import Enrolled
    from starlingd.core.grace import Entry, Miss
    from starlingd.core.model import Account, Login
    from starlingd.core.policy import Groups, Mapped
    from starlingd.server.channel import Channel
    from starlingd.server.host import Current, Host
    from starlingd.server.localcodes import Offer

log = logging.getLogger("starlingd.performer")
T = TypeVar("T")

NSS_WAIT = 10.0
STORE_WAIT = 5.0
MATCH_WAIT = 2.0
SHORTEST_CALL = 0.5
"""Seconds a provider call gets at least, so that the last poll before a deadline can still bring its answer."""


class Performer:
    """The steps of the login ``login_id``, performed.

    Afterwards ``account`` is the one that was found, and ``reused`` tells whether a grace entry may have been used.
    """

    def __init__(  # the parts of one login
        self, host: Host, current: Current, channel: Channel, login: Login, connection: Connection, login_id: str
    ) -> None:
        self._host = host
        self._current = current
        self._channel = channel
        self._login = login
        self._connection = connection
        self._login_id = login_id
        self._lookups = Lookups(
            current.directory, host.pools.directory, current.rules, login.deadline, host.directory_calls
        )
        self.account: Account | None = None
        self.reused = False
        self.engaged = False
        """Whether somebody was asked something, or a phone may have rung."""
        self._provisioned = ""
        self._offer: Offer | None = None
        self._push_waits = False
        """Whether this login's own push has no answer yet: only then is the user's place this login's to give back."""
        self._performers: dict[type[steps.Step], Callable[[Any], Awaitable[Any]]] = {
            steps.Say: self._say,
            steps.Ask: self._ask,
            steps.LookUp: self._look_up,
            steps.FindGroups: self._find_groups,
            steps.FindIdentity: self._find_identity,
            steps.Enrol: self._enrol,
            steps.Defer: self._defer,
            steps.CountSessions: self._count_sessions,
            steps.Reuse: self._reuse,
            steps.Peek: self._peek,
            steps.Inquire: self._inquire,
            steps.Match: self._match,
            steps.Probe: self._probe,
            steps.Verify: self._verify,
            steps.HasLocalCode: self._has_local_code,
            steps.MayEnrol: self._may_enrol,
            steps.OfferApp: self._offer_app,
            steps.KeepApp: self._keep_app,
            steps.StartPush: self._start_push,
            steps.CheckPush: self._check_push,
            steps.CancelPush: self._cancel_push,
            steps.Pause: self._pause,
        }

    async def perform(self, step: steps.Step) -> Any:  # noqa: ANN401  each step's docstring names its answer
        """Perform one step. Raises Unavailable, or the Interrupted that the channel noticed."""
        return await self._performers[type(step)](step)

    async def _say(self, step: steps.Say) -> None:
        self._channel.send("say", {"style": "info", "text": step.text})

    async def _pause(self, step: steps.Pause) -> None:
        await asyncio.sleep(step.seconds)

    async def _find_groups(self, step: steps.FindGroups) -> Groups:
        return await self._lookups.groups(step.names, step.groups)

    async def _find_identity(self, step: steps.FindIdentity) -> Mapped:
        return await self._lookups.identity(step.user, step.attribute)

    async def _enrol(self, step: steps.Enrol) -> Enrolled:
        rule = self._current.rules.provisioning
        if rule is None:
            return NO_SAY
        person = await self._lookups.person(step.name)
        if step.only_look:
            return await self._host.enrolments.look(step.user, person, rule)
        service = Service(self._current.provider, self._host.pools.provider, self._seconds())
        enrolled = await self._host.enrolments.of(step.user, person, rule, service)
        self._provisioned = enrolled.identity
        return enrolled

    async def _defer(self, step: steps.Defer) -> int:
        """Tell the days left; whoever ever had an id or a second factor here has none."""
        left = self._current.rules.not_enrolled.until - time.time()
        store, workers = self._host.store, self._host.pools.store
        if left <= 0 or await workers.run(STORE_WAIT, store.had_second_factor, step.user):
            return 0
        return math.ceil(left / DAY)

    async def _count_sessions(self, step: steps.CountSessions) -> int:
        return self._host.logins.count(step.user, step.place)

    async def _reuse(self, step: steps.Reuse) -> Entry | Miss:
        self.reused = True
        take, rule = self._host.store.reuse, self._current.rules.grace
        arguments = (self._login_id, step.key, step.basis, rule, self._host.moment())
        return await self._host.pools.store.run(STORE_WAIT, take, *arguments)

    async def _peek(self, step: steps.Peek) -> Entry | Miss:
        return await self._host.peek(step, self._current.rules.grace, self._host.moment(), STORE_WAIT)

    async def _match(self, step: steps.Match) -> bool:
        return await self._host.pools.patterns.run(MATCH_WAIT, self._host.patterns.matches, step.pattern, step.text)

    async def _probe(self, _: steps.Probe) -> bool:
        provider, seconds = self._current.provider, self._current.call_timeout
        return await self._host.probe.is_unreachable(self._host.pools.provider, provider, seconds)

    async def _ask(self, step: steps.Ask) -> str:
        answer = await self._inquire(step)
        self._host.attempts.add_answer(self._connection, time.monotonic())
        return answer

    async def _inquire(self, step: steps.Ask | steps.Inquire) -> str:
        self.engaged = True
        if not self._channel.send("ask", {"style": "echo_on" if step.echo else "echo_off", "text": step.text}):
            raise steps.HungUp
        op, fields = await self._channel.receive()
        answer = fields.get("text")
        if op != "answer" or answer is None or len(answer.encode()) > MAX_ANSWER:
            raise steps.Misbehaved
        return answer

    async def _look_up(self, step: steps.LookUp) -> Account | None:
        self.account = await self._host.pools.accounts.run(NSS_WAIT, self._host.accounts.look_up, step.user)
        if self.account is None:
            await self._lookups.of_stranger(step.user)
        return self.account

    async def _verify(self, step: steps.Verify) -> Check | Passed:
        """Check a code, if this user has guesses left; while all of them are under way, wait for one to end."""
        guesses, place = self._host.guesses, place_of(self._login)
        if not step.guess:
            locked = guesses.locked_until(step.user, place, self._current.rules) is not None
            return Check.LOCKED if locked else await self._check(step)
        if not await guesses.begin(step.user, place, self._current.rules):
            return Check.LOCKED
        missed = False
        try:
            check = await self._check_issued(step)
            missed = check is Check.WRONG
            if not isinstance(check, Passed):
                check = await self._check(step)
        except Unavailable:
            if missed:  # a code of this host's own, whatever the service would have said
                await self._guess_failed(step.user, place)
            else:  # nobody could tell
                guesses.release(step.user, place)
            raise
        except BaseException:  # whoever hangs up has guessed; and a bug must not leave the guess under way for ever
            self._host.later(self._guess_failed(step.user, place))
            raise
        may_pass = check is Check.NOT_ENROLLED and not missed and self._unenrolled_may_pass()
        if check in {Check.WRONG, Check.NOT_ENROLLED} and not may_pass:
            await self._guess_failed(step.user, place)
        elif check is not Check.RIGHT and not isinstance(check, Passed):
            guesses.release(step.user, place)
        elif guesses.succeed(step.user, place):
            await self._note(lambda name: self._host.store.clear_failures(name, place), step.user)
        return check

    def _unenrolled_may_pass(self) -> bool:
        """Tell whether whoever has no second factor may still do without: then typing something is no guess."""
        rule = self._current.rules.not_enrolled
        return rule.action is NotEnrolled.ALLOW_UNTIL and time.time() < rule.until

    async def _guess_failed(self, user: str, place: str) -> None:
        self._host.guesses.fail(user, place)
        if self.account is not None:  # what strangers guess is kept in bounded memory, never on disk
            at = time.time()
            note = self._note(lambda name: self._host.store.add_failure(name, place, at), user)
            await asyncio.shield(self._host.later(note))  # whoever hangs up meanwhile has guessed all the same

    async def _check_issued(self, step: steps.Verify) -> Check | Passed:
        """Check a recovery or helpdesk code; NOT_ENROLLED when there is none, which takes as long."""
        if step.identity is None or (step.local and await self._is_blocked(step.user)):
            await self._host.local.waste(step.code)
            return Check.NOT_ENROLLED
        return await self._host.local.issued(step.user, step.code, self._host.moment())

    async def _check(self, step: steps.Verify) -> Check | Passed:
        local = step.local or self._current.rules.provider is Provider.TOTP
        watch = self._host.local_calls if local else self._host.decoy
        if step.identity is None:
            await watch.replay("verify")
            return Check.WRONG
        with watch.observe("verify"):
            if local:
                return await self._check_here(step)
            check = await self._call(self._current.provider.verify, step.identity, step.code)
        if check is not Check.RIGHT:
            self._host.attempts.add_refused(self._connection, step.code, time.monotonic())
        if check is Check.NOT_ENROLLED:
            await self._disown(step.identity, step.user)
        return check

    async def _is_blocked(self, user: str) -> bool:
        """Tell whether the service's user is blocked here: then nothing stands in for the service."""
        if self._current.rules.provider is Provider.TOTP:
            return False
        kept = await self._host.pools.store.run(STORE_WAIT, self._host.store.enrolment, user)
        return kept is not None and kept.blocked

    async def _check_here(self, step: steps.Verify) -> Check | Passed:
        """Check a code of an authenticator app, where this host is the provider or stands in for it."""
        rules = self._current.rules
        if rules.provider is not Provider.TOTP and Fallback.TOTP not in rules.fallback:
            return Check.WRONG
        if await self._is_blocked(step.user):
            return Check.WRONG
        return await self._host.local.app(step.user, step.code, self._current.vault, rules.apps.window)

    async def _has_local_code(self, step: steps.HasLocalCode) -> bool:
        return await self._host.local.has_any(step.user, self._current.rules.fallback)

    async def _may_enrol(self, step: steps.MayEnrol) -> bool:
        return await self._host.local.may_enrol(step.user)

    async def _offer_app(self, step: steps.OfferApp) -> steps.OfferedApp:
        host = self._host
        self._offer = host.local.offer(step.user, host.gateway, self._current.rules.apps)
        drawn = step.drawn and len(self._offer.uri) <= otp.LONGEST_URI  # a larger one does not fit a terminal
        qr = await host.pools.patterns.run(MATCH_WAIT, host.draw, self._offer.uri) if drawn else ""
        return steps.OfferedApp(otp.in_groups(self._offer.secret), qr)

    async def _keep_app(self, step: steps.KeepApp) -> Check | Passed:
        if self._offer is None or self._offer.token.user != step.user:
            raise AssertionError("an app is kept that was never offered")
        window = self._current.rules.apps.window
        keeping = self._host.local.keep(self._offer, step.code, self._current.vault, window, otp.Over.NOTHING)
        # Whoever hangs up now may have enrolled all the same: that must not go unnoticed.
        return await asyncio.shield(self._host.later(self._kept(keeping, step.user)))

    async def _kept(self, keeping: Awaitable[Check | Passed], user: str) -> Check | Passed:
        kept = await keeping
        if isinstance(kept, Passed):
            what = "an app was enrolled while logging in"
            self._host.audit.app(user, user, what, self._login.client_ip, self._login_id)
        return kept

    async def _disown(self, identity: str, user: str) -> None:
        """Note that the service no longer knows an id that provisioning made."""
        if identity == self._provisioned:
            try:
                await self._host.enrolments.disown(user)
            except Unavailable as outage:
                log.warning("that %s is not enrolled any more is not noted: %s", user, outage)

    async def _start_push(self, step: steps.StartPush) -> Started | NotStarted:
        self.engaged = True
        rules, now = self._current.rules, time.monotonic()
        if self._host.guesses.locked_until(step.user, place_of(self._login), rules) is not None:
            return NotStarted.LOCKED
        refusal = self._host.pushes.reserve(step.user, rules, now)
        if refusal is not None:
            return refusal
        try:
            started = await self._send_push(step)
        except BaseException as end:
            # The push may have reached the phone: whoever hangs up early, or lets the time run out, must not get more.
            if isinstance(end, asyncio.CancelledError) or (isinstance(end, Unavailable) and end.sent):
                self._host.later(self._push_failed(step.user, denied=False))
            else:
                self._host.pushes.release(step.user)
            raise
        self._push_waits = isinstance(started, Started)
        if not self._push_waits:
            self._host.pushes.release(step.user)
        return started

    async def _send_push(self, step: steps.StartPush) -> Started | NotStarted:
        if step.identity is None:
            await self._host.decoy.replay("start_push")
            return Started("")
        with self._host.decoy.observe("start_push"):
            started = await self._call(self._current.provider.start_push, step.identity, step.push)
        if started is NotStarted.NOT_ENROLLED:
            await self._disown(step.identity, step.user)
        return started

    async def _check_push(self, step: steps.CheckPush) -> PushStatus:
        if step.identity is None:
            await self._host.decoy.replay("check_push")
            return PushStatus.PENDING
        with self._host.decoy.observe("check_push"):
            status = await self._call(self._current.provider.check_push, step.request)
        if status in {PushStatus.APPROVED, PushStatus.DENIED, PushStatus.EXPIRED}:
            self._push_waits = False
        if status is PushStatus.APPROVED:
            self._host.pushes.approve(step.user)
            await self._note(self._host.store.clear_push_failures, step.user)
        elif status in {PushStatus.DENIED, PushStatus.EXPIRED}:
            await self._push_failed(step.user, denied=status is PushStatus.DENIED)
        return status

    async def _cancel_push(self, step: steps.CancelPush) -> None:
        if self._push_waits:  # else it was answered, and counted, in the moment in which the login ended
            self._push_waits = False
            await self._push_failed(step.user, denied=False)

    async def _push_failed(self, user: str, *, denied: bool) -> None:
        self._host.pushes.fail(user, time.monotonic(), denied=denied)
        if self.account is not None:  # what strangers do is kept in bounded memory, never on disk
            at = time.time()
            await self._note(lambda name: self._host.store.add_push_failure(name, at, denied=denied), user)

    async def _note(self, call: Callable[[str], None], user: str) -> None:
        """Have the store note what became of an attempt; one that cannot must not turn an answer into an outage."""
        try:
            await self._host.pools.store.run(STORE_WAIT, call, user)
        except Unavailable as outage:
            log.warning("an attempt of %s is not noted: %s", user, outage)

    def _seconds(self) -> float:
        """Tell how long a call of the provider may take now."""
        return max(SHORTEST_CALL, min(self._current.call_timeout, self._login.deadline - time.monotonic()))

    async def _call(self, call: Callable[..., T], *args: object) -> T:
        left = self._seconds()
        return await self._host.pools.provider.run(left + SHORTEST_CALL, call, *args, left)
