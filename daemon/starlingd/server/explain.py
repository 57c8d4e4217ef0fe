"""Why a login would be decided as it would be: the same plan as a real login's, from looks that change nothing."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlingd.core import policy, questions, steps
from starlingd.core.conversation import ACCOUNT_RULE, plan_login
from starlingd.core.enrolment import NO_SAY, TO_BE_ENROLLED
from starlingd.core.model import Reason
from starlingd.core.policy import Decided, Ending
from starlingd.core.rules import NotEnrolled, Provider, WithoutSecondFactor
from starlingd.ports import Unavailable
from starlingd.server.lookups import Lookups

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from starlingd.core.enrolment import Enrolled
    from starlingd.core.grace import Moment
    from starlingd.core.model import Login
    from starlingd.core.policy import Known, Plan
    from starlingd.core.rules import Rules
    from starlingd.server.host import Current, Host

WAIT = 10.0
"""Seconds for one look."""


async def explain(host: Host, current: Current, login: Login, at: Moment, *, by_key: bool = False) -> Plan:
    """Tell the plan of ``login`` at the moment ``at``; ``by_key`` says that the account hook is the first to see it.

    Raises Unavailable.
    """
    looks = _Looks(host, current, login, at)
    known, plan = await _drive(plan_login(login, current.rules, only_look=True), looks)
    asks_nobody = by_key or login.service not in current.rules.interactive_services
    plan = _unless_unanswered(plan, login, current.rules) if asks_nobody else plan
    if by_key:
        plan = _in_account_hook(plan, current.rules)
    if plan.ending is not Ending.SECOND_FACTOR or known.account is None:
        return plan
    if current.rules.provider is Provider.TOTP:
        plan = replace(plan, steps=(*plan.steps, await _app(host, current.rules, known.account.name)))
    user, place = known.account.name, policy.place_of(login)
    until = host.guesses.locked_until(user, place, current.rules)
    if until is None:
        return plan
    seconds = until - time.monotonic()
    step = Decided("attempts", f"too many wrong codes; none is taken for {seconds:.0f} s", "auth.max_failures")
    return replace(plan, ending=Ending.DENY, reason=Reason.TOO_MANY_ATTEMPTS, rule=step.rule, steps=(*plan.steps, step))


def plan_fields(plan: Plan) -> dict[str, object]:
    """Tell a plan to a reader of the control socket (SEMANTICS §12); who is yet to be enrolled has no identity."""
    identity = None if plan.identity == TO_BE_ENROLLED else plan.identity
    return {"outcome": plan.ending, "reason": plan.reason, "rule": plan.rule, "identity": identity}


async def _app(host: Host, rules: Rules, user: str) -> Decided:
    """Tell whether somebody has an authenticator app, or may enrol one on the way in."""
    if await host.pools.store.run(WAIT, host.store.token, user) is not None:
        return Decided("app", "enrolled", policy.PROVIDER_RULE)
    if rules.not_enrolled.action is NotEnrolled.ENROL and await host.local.may_enrol(user):
        return Decided("app", "none yet: one is enrolled while logging in", "auth.not_enrolled")
    return Decided("warning", policy.NO_APP, policy.PROVIDER_RULE)


def _in_account_hook(plan: Plan, rules: Rules) -> Plan:
    """Tell what becomes of a login by public key alone that no rule lets in (DESIGN §5.3)."""
    if plan.ending is not Ending.SECOND_FACTOR:
        return plan
    ending, reason, result = {
        WithoutSecondFactor.ALLOW: (Ending.EXEMPT, Reason.KEY_ONLY_ALLOWED, "let in without one"),
        WithoutSecondFactor.DENY: (Ending.DENY, Reason.NO_SECOND_FACTOR, "refused without one"),
        WithoutSecondFactor.PUSH: (Ending.SECOND_FACTOR, None, "a push, and no prompt"),
    }[rules.without_second_factor]
    step = Decided("account", result, ACCOUNT_RULE)
    return replace(plan, ending=ending, reason=reason, rule=step.rule, steps=(*plan.steps, step))


def _unless_unanswered(plan: Plan, login: Login, rules: Rules) -> Plan:
    """Refuse a login that must answer a question and that cannot be asked any."""
    question = questions.required(rules)
    if question is None:
        return plan
    if plan.ending is Ending.DENY or plan.reason is Reason.BREAK_GLASS:
        return plan
    rule = f"question_{question.number}"
    step = Decided("questions", f"must be answered, and nobody can be asked over {login.service}", rule)
    return replace(plan, ending=Ending.DENY, reason=Reason.QUESTION_REFUSED, rule=rule, steps=(*plan.steps, step))


async def _drive(gathering: Generator[Any, Any, tuple[Known, Plan, float]], looks: _Looks) -> tuple[Known, Plan]:
    step = next(gathering)
    while True:
        try:
            advance: Callable[[], Any] = _sender(gathering, await looks.look(step))
        except Unavailable as outage:
            advance = _thrower(gathering, outage)
        try:
            step = advance()
        except StopIteration as end:
            known, plan, _ = end.value
            return known, plan


def _sender(gathering: Generator[Any, Any, Any], answer: object) -> Callable[[], Any]:
    return lambda: gathering.send((answer, time.monotonic()))


def _thrower(gathering: Generator[Any, Any, Any], outage: Unavailable) -> Callable[[], Any]:
    return lambda: gathering.throw(outage)


class _Looks:
    """Answers a plan's questions without side effects."""

    def __init__(self, host: Host, current: Current, login: Login, at: Moment) -> None:
        self._host = host
        self._current = current
        self._login = login
        self._at = at
        self._lookups = Lookups(
            current.directory, host.pools.directory, current.rules, time.monotonic() + WAIT, host.directory_calls
        )

    async def look(self, step: steps.Step) -> object:
        """Answer one step."""
        match step:
            case steps.LookUp():
                return await self._host.pools.accounts.run(WAIT, self._host.accounts.look_up, step.user)
            case steps.CountSessions():
                return self._host.logins.count(step.user, step.place)
            case steps.Peek():
                return await self._host.peek(step, self._current.rules.grace, self._at, WAIT)
        return await self._ask_directory(step)

    async def _ask_directory(self, step: steps.Step) -> object:
        match step:
            case steps.FindGroups():
                return await self._lookups.groups(step.names, step.groups)
            case steps.FindIdentity():
                return await self._lookups.identity(step.user, step.attribute)
            case steps.Enrol():
                return await self._enrolled(step)
        return None  # a pause

    async def _enrolled(self, step: steps.Enrol) -> Enrolled:
        rule = self._current.rules.provisioning
        if rule is None:
            return NO_SAY
        person = await self._lookups.person(step.name)
        return await self._host.enrolments.look(step.user, person, rule)
