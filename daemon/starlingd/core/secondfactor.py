"""The second factor itself: ask for a code or a push until somebody has shown it or the attempts are spent.

Generators as in ``conversation``, of which this is the middle. They must never let anybody in except on a provider's
yes, and treat nobody (a candidate without identity) like everybody else.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from starlingd.core import policy, pushes
from starlingd.core.localcodes import Passed
from starlingd.core.model import (
    Check,
    Factor,
    Fault,
    NotStarted,
    Outcome,
    PushStatus,
    Reason,
    Result,
    Started,
    Unavailable,
    Verdict,
)
from starlingd.core.rules import FailMode, NotEnrolled, Provider
from starlingd.core.sentences import FALLBACK_PROMPTS, RECOVERY_LEFT
from starlingd.core.steps import (
    Ask,
    CancelPush,
    CheckPush,
    Conversation,
    HasLocalCode,
    Interrupted,
    Pause,
    Probe,
    Reply,
    Say,
    StartPush,
    Step,
    Verify,
)
from starlingd.core.verdicts import refuse, refuse_for

if TYPE_CHECKING:
    from starlingd.core.model import Login
    from starlingd.core.rules import Rules

SHORTEST_PUSH = 5
"""Seconds; a push that would live shorter is not started."""
SERVICE = "starling"
"""The port whose outages may be bridged by this host's codes."""
FALLBACK_RULE = "auth.fallback"
VERDICT_TIME = 2
"""Seconds kept back from the deadline for giving the verdict."""

_NOT_STARTED = {
    NotStarted.NOT_ENROLLED: Reason.NOT_ENROLLED,
    NotStarted.PENDING: Reason.PUSH_PENDING,
    NotStarted.LIMIT: Reason.PUSH_LIMIT,
    NotStarted.LOCKED: Reason.TOO_MANY_ATTEMPTS,
}
RULES = {
    Reason.PUSH_PENDING: "auth.push_limit",
    Reason.PUSH_LIMIT: "auth.push_limit",
    Reason.TOO_MANY_ATTEMPTS: "auth.max_failures",
}
"""The rule behind a push that was not even started."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the server knows before a login starts.

    ``answers_spent``, ``refused`` (codes, by the service) and ``closed`` are of the login's connection; ``number`` is
    this login's two digits; ``gateway`` is the host's full name; ``observing`` says that the rules are only tried out
    (SEMANTICS §11, enforce).
    """

    gateway: str
    number: str
    answers_spent: int = 0
    refused: frozenset[str] = field(default=frozenset(), repr=False)
    closed: bool = False
    observing: bool = False


Trial = Generator[Step, Reply, tuple[Verdict, float]]
"""A part of a conversation that ends with a verdict and the time."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Whoever is logging in; ``identity`` is None for nobody, who is treated the same but never let in."""

    login: Login
    user: str
    identity: str | None
    facts: Facts
    rules: Rules


def push_unasked(candidate: Candidate, longest: int, now: float) -> Conversation:
    """Push to somebody who is shown no prompt."""
    try:
        verdict, _ = yield from _push(candidate, longest, now, prompted=False)
    except (Interrupted, Unavailable) as end:
        return refuse_for(end, Result.AUTH_ERR)
    return verdict


def ask_until_decided(candidate: Candidate, spent: int) -> Conversation:
    """Ask at the prompt until there is a verdict; ``spent`` answers of the connection are used up already."""
    failures: list[str] = []
    try:
        verdict = yield from _ask_repeatedly(candidate, spent, failures)
    except (Interrupted, Unavailable) as end:
        verdict = refuse_for(end, Result.AUTH_ERR)
    # However it ended: whoever guesses twice and then hangs up must not leave less of a trace.
    return replace(verdict, evidence={**verdict.evidence, "failures": ",".join(failures)}) if failures else verdict


def _ask_repeatedly(candidate: Candidate, spent: int, failures: list[str]) -> Conversation:
    """Ask until there is a verdict; the reasons of failed attempts are added to ``failures``."""
    rules = candidate.rules
    asked = _Asked(candidate, local=rules.provider is Provider.TOTP, refused=set(candidate.facts.refused))
    while True:
        answer, now = yield Ask(asked.prompt, echo=not rules.disable_echo)
        spent += 1
        try:
            verdict, _ = yield from _try(asked, answer, now)
        except Unavailable as outage:
            if not (yield from _falls_back(asked, outage)):
                raise
            spent = min(spent, rules.max_attempts - 1)  # once, what nobody could check is not the last attempt
            failures.append(Reason.UNREACHABLE)
            asked.local = True
            continue
        if asked.stands_in:
            verdict = replace(verdict, rule=verdict.rule or FALLBACK_RULE)
        if verdict.lets_in or verdict.reason not in _MAY_TRY_AGAIN or _may_be_deferred(verdict, rules):
            return verdict
        failures.append(verdict.reason)
        if spent >= rules.max_attempts:
            return refuse(verdict.reason, Result.MAXTRIES, rule="auth.max_attempts", factor=verdict.factor)
        yield Say(verdict.sentence)


@dataclass(slots=True)
class _Asked:
    """Somebody at the prompt. ``local`` says that this host checks the codes, and that nobody's phone is asked."""

    candidate: Candidate
    local: bool
    refused: set[str]
    """Codes that the service has refused; this host must not take them instead."""

    @property
    def stands_in(self) -> bool:
        """Whether this host's codes are taken because the service cannot be reached."""
        return self.local and self.candidate.rules.provider is not Provider.TOTP

    @property
    def prompt(self) -> str:
        rules = self.candidate.rules
        if self.stands_in:
            return FALLBACK_PROMPTS[rules.fallback]
        return rules.prompt.replace("{number}", self.candidate.facts.number) + " "


def _falls_back(asked: _Asked, outage: Unavailable) -> Generator[Step, Reply, bool]:
    """Tell whether this host's codes stand in for the service, which only happens when nobody can reach it.

    Everybody is offered that alike. Only where ``fail_mode = safe`` would let people in, who has no code must not be
    held up by a prompt that they cannot answer.
    """
    candidate = asked.candidate
    rules = candidate.rules
    if asked.local or not rules.fallback or outage.fault is not Fault.UNREACHABLE or outage.port != SERVICE:
        return False
    unreachable, _ = yield Probe()
    if unreachable is not True:
        return False
    if rules.fail_mode is not FailMode.SAFE:
        return True
    if candidate.identity is None:
        return False
    has_one, _ = yield HasLocalCode(candidate.user)
    return has_one is True


_MAY_TRY_AGAIN = frozenset(
    {
        Reason.WRONG_CODE,
        Reason.CODE_REUSED,
        Reason.NOT_A_CODE,
        Reason.NOT_ENROLLED,
        Reason.PUSH_EXPIRED,
        Reason.PUSH_TIMEOUT,
        Reason.PUSH_LIMIT,
        Reason.PUSH_PENDING,
    }
)


def _may_be_deferred(verdict: Verdict, rules: Rules) -> bool:
    return verdict.reason is Reason.NOT_ENROLLED and rules.not_enrolled.action is NotEnrolled.ALLOW_UNTIL


def _try(asked: _Asked, answer: str, now: float) -> Trial:
    candidate = asked.candidate
    # Not even blanks: sshd leaves only what is quite empty as it is for users it does not know (FIELD-FACTS 14).
    if not answer and not asked.local:
        return (yield from _push(candidate, candidate.rules.push_timeout, now, prompted=True))
    code = policy.code_in(answer)
    if code is None and not policy.might_be_code(answer):
        return refuse(Reason.NOT_A_CODE, Result.AUTH_ERR), now
    # What has the length of a code but is none takes a code's time, as sshd's junk for unknown users does.
    # For whoever has no identity every such answer is a guess: nobody can tell what was typed.
    known = code is not None and not (asked.local and code in asked.refused)
    identity, guess = candidate.identity if known else None, bool(code) or candidate.identity is None
    step = Verify(candidate.user, identity, code or "", guess=guess, local=asked.local)
    check, now = yield from _verify(step, candidate.login.deadline)
    if identity is not None and check is Check.RIGHT:
        check = Passed(Factor.CODE)
    if identity is not None and isinstance(check, Passed):
        return (yield from let_in(check)), now
    return _not_passed(asked, code, check), now


def _not_passed(asked: _Asked, code: str | None, check: Check | Passed) -> Verdict:
    if check is Check.LOCKED:
        return refuse(Reason.TOO_MANY_ATTEMPTS, Result.MAXTRIES, rule="auth.max_failures")
    if code is None:
        return refuse(Reason.NOT_A_CODE, Result.AUTH_ERR)
    if not asked.local:
        asked.refused.add(code)
    return refuse(_why_not(asked, check), Result.AUTH_ERR, factor=Factor.TOTP if asked.local else Factor.CODE)


def _why_not(asked: _Asked, check: Check | Passed) -> Reason:
    if check is Check.REUSED:
        return Reason.CODE_REUSED
    # Who has no code of this host's may well be enrolled with the service, which cannot say so now.
    return Reason.NOT_ENROLLED if check is Check.NOT_ENROLLED and not asked.stands_in else Reason.WRONG_CODE


def let_in(passed: Passed) -> Conversation:
    """Let in by a code of this host's own."""
    if passed.left is not None:
        yield Say(RECOVERY_LEFT.format(left=passed.left))
    evidence = {"issued_by": passed.issued_by} if passed.issued_by else {}
    return Verdict(Outcome.ALLOW, Result.SUCCESS, Reason.CODE_VERIFIED, passed.factor, evidence=evidence)


def _verify(step: Verify, deadline: float) -> Generator[Step, Reply, tuple[Check | Passed, float]]:
    """Check a code; a service that asks to wait is obeyed once, if the deadline allows."""
    try:
        return (yield step)
    except Unavailable as outage:
        now = yield from _time()
        if not _worth_waiting(outage, deadline - VERDICT_TIME - now):
            raise
        yield Pause(outage.retry_after)
        return (yield step)


def _push(candidate: Candidate, longest: int, now: float, *, prompted: bool) -> Trial:
    """Send a push and wait for its end, for at most ``longest`` seconds and never past the login's deadline."""
    latest = min(now + longest, candidate.login.deadline - VERDICT_TIME)
    number = candidate.facts.number if prompted and candidate.rules.push_number else ""
    started, now = yield from _start_push(candidate, number, now, latest)
    if not isinstance(started, Started):
        result = Result.MAXTRIES if started is Reason.TOO_MANY_ATTEMPTS else Result.AUTH_ERR
        return refuse(started, result, rule=RULES.get(started, ""), factor=Factor.PUSH), now
    try:
        verdict, now = yield from _await_answer(candidate, started.request, now, latest)
    except (Interrupted, Unavailable):
        yield from _give_up(candidate)
        raise
    if verdict.reason is Reason.PUSH_TIMEOUT:
        yield from _give_up(candidate)
    return verdict, now


def _give_up(candidate: Candidate) -> Generator[Step, Reply, None]:
    """Cancel a pending push; a store that cannot note it changes nothing, as for nobody, who is never noted."""
    with suppress(Unavailable):
        yield CancelPush(candidate.user)


def _start_push(
    candidate: Candidate, number: str, now: float, latest: float
) -> Generator[Step, Reply, tuple[Started | Reason, float]]:
    """Start a push that ends by ``latest``; only a service that asked to wait is asked twice: no phone rings twice."""
    for asked_before in (False, True):
        lifetime = int(latest - now)
        if lifetime < SHORTEST_PUSH:
            break
        push = pushes.describe(candidate.login, candidate.rules, candidate.facts.gateway, number, lifetime)
        try:
            started, now = yield StartPush(candidate.user, candidate.identity, push)
        except Unavailable as outage:
            now = yield from _time()
            if asked_before or not _worth_waiting(outage, latest - SHORTEST_PUSH - now):
                raise
            _, now = yield Pause(outage.retry_after)
        else:
            return (started if isinstance(started, Started) else _NOT_STARTED[started]), now
    return Reason.DEADLINE, now


def _await_answer(candidate: Candidate, request: str, now: float, ends: float) -> Trial:
    """Poll until the push has an answer or its time is up; a poll that fails is no verdict, the last one's is."""
    outage: Unavailable | None = None
    for pause in pushes.pauses(candidate.rules.poll_interval):
        wait = max(pause, outage.retry_after) if outage else pause
        _, now = yield Pause(max(0.0, min(wait, ends - now)))
        try:
            status, now = yield CheckPush(candidate.user, candidate.identity, request)
            outage = None
        except Unavailable as failed:
            if failed.fault is Fault.MISCONFIGURED:
                raise
            outage, status = failed, PushStatus.PENDING
            now = yield from _time()
        if status in _ENDINGS:
            return _end_of_push(candidate, status), now
        if now >= ends:
            break
    if outage:
        raise outage
    return refuse(Reason.PUSH_TIMEOUT, Result.AUTH_ERR, factor=Factor.PUSH), now


_ENDINGS = frozenset({PushStatus.APPROVED, PushStatus.DENIED, PushStatus.EXPIRED})


def _end_of_push(candidate: Candidate, status: PushStatus) -> Verdict:
    if status is PushStatus.APPROVED and candidate.identity is not None:
        return Verdict(Outcome.ALLOW, Result.SUCCESS, Reason.PUSH_APPROVED, Factor.PUSH)
    if status is PushStatus.EXPIRED:
        return refuse(Reason.PUSH_EXPIRED, Result.AUTH_ERR, factor=Factor.PUSH)
    return refuse(Reason.PUSH_DENIED, Result.MAXTRIES, factor=Factor.PUSH)


def _time() -> Generator[Step, Reply, float]:
    """Learn the time after a call that failed, which may have taken long: an exception does not bring it."""
    _, now = yield Pause(0.0)
    return now


def _worth_waiting(outage: Unavailable, patience: float) -> bool:
    """Tell whether a service that said "too many requests" can be asked again within ``patience`` seconds."""
    return outage.fault is Fault.RATE_LIMITED and 0 < outage.retry_after <= patience
