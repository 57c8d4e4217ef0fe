"""One login's conversation, from the first look at the account to the verdict, without I/O.

``converse`` (authenticate) and ``confirm`` (account, for logins that have no decision on record) are generators: they
yield steps, are sent ``(answer, now)``, and return a Verdict whatever happens. They must never let anybody in except on
a provider's yes or an explicit rule, and never tell a user more than a sentence of ``sentences``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from starlingd.core import policy, questions, selfenrolment
from starlingd.core.model import STRANGER, Factor, Outcome, Reason, Result, Unavailable, Verdict
from starlingd.core.policy import Ending, Fact, Known, Mapped, Plan
from starlingd.core.rules import ExemptResult, FailMode, NotEnrolled, OnMappingFailure, Provider, WithoutSecondFactor
from starlingd.core.secondfactor import Candidate, Facts, ask_until_decided, push_unasked
from starlingd.core.sentences import FAILED, NO_SECOND_FACTOR_YET, TOO_MANY_SESSIONS
from starlingd.core.steps import (
    Conversation,
    CountSessions,
    Defer,
    Enrol,
    FindGroups,
    FindIdentity,
    Interrupted,
    LookUp,
    Pause,
    Peek,
    Probe,
    Reply,
    Reuse,
    Say,
    Step,
)
from starlingd.core.verdicts import refuse, refuse_for

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from starlingd.core.model import Login
    from starlingd.core.rules import Rules

LONGEST_UNKNOWN_NAME = 64
"""Characters of such a name at most; it bounds what a flood can store."""
ACCOUNT_RULE = "account.without_second_factor"
SSHD = "sshd"
FIRST_FACTOR_RULE = "(pam.d line).first_factor"
NOBODY = frozenset({Reason.UNKNOWN_USER, Reason.ROOT_NOT_PERMITTED})
"""Why somebody is nobody: asked like everybody else, and never let in."""


def converse(login: Login, facts: Facts, rules: Rules) -> Conversation:
    """Authenticate: let in whom a rule lets in, and ask everybody else."""
    if facts.observing:
        verdict = yield from _observe(login, rules, partial(_decide_unasked, login, rules), Result.AUTH_ERR)
        return _with_first_factor(login, verdict)
    if facts.closed or facts.answers_spent >= rules.max_attempts:
        return refuse(Reason.ATTEMPTS_SPENT, Result.MAXTRIES, rule="auth.max_attempts")
    try:
        known, plan, now = yield from plan_login(login, rules)
        verdict = yield from _follow(login, facts, rules, known, plan, now)
    except (Interrupted, Unavailable) as end:
        return refuse_for(end, Result.AUTH_ERR)
    return verdict


def confirm(login: Login, facts: Facts, rules: Rules) -> Conversation:
    """Decide, in the account hook, about a login that passed no second factor (DESIGN §5.3)."""
    if facts.observing:
        return (yield from _observe(login, rules, partial(_decide_by_key, rules), Result.ACCT_DENIED))
    if facts.closed:
        return refuse(Reason.ATTEMPTS_SPENT, Result.ACCT_DENIED, rule="auth.max_attempts")
    try:
        known, plan, now = yield from plan_login(login, rules)
        verdict = yield from _confirm(login, facts, rules, known, plan, now)
    except (Interrupted, Unavailable) as end:
        return refuse_for(end, Result.ACCT_DENIED)
    return verdict if verdict.lets_in else replace(verdict, result=Result.ACCT_DENIED)


def _observe(
    login: Login, rules: Rules, decide: Callable[[Known, Plan], Verdict | None], refusal: Result
) -> Conversation:
    """Leave everything to the rest of the stack, and tell what would have been decided.

    Nothing is asked, no reuse is taken, nobody is enrolled. Break-glass is let in as ever, since it must not need the
    store. Refused is only who cannot be anybody's login: there would be no record of it.
    """
    try:
        known, plan, _ = yield from plan_login(login, rules, only_look=True)
    except Interrupted as end:
        return refuse_for(end, refusal)
    except Unavailable as outage:
        would = refuse_for(outage, refusal)
        return would if outage.port == "nss" else _observed(f"{Ending.DENY} {would.reason}", "")
    if known.account is None:
        return refuse(Reason.UNKNOWN_USER, refusal)
    verdict = decide(known, plan)
    if verdict is not None and verdict.reason is Reason.BREAK_GLASS:
        return verdict
    return _observed(_would(plan, verdict), verdict.rule if verdict else plan.rule)


def _observed(would: str, rule: str) -> Verdict:
    return Verdict(Outcome.IGNORE, Result.IGNORE, Reason.OBSERVED, rule=rule, evidence={"would": would})


def _would(plan: Plan, verdict: Verdict | None) -> str:
    """Tell in ``explain``'s words how a login would have ended, as far as that shows without asking anybody."""
    if verdict is None:
        return f"{plan.ending} {plan.reason or plan.identity or ''}".strip()
    if not verdict.lets_in:
        return f"{Ending.DENY} {verdict.reason}"
    return f"{Ending.CACHED if verdict.reason is Reason.CACHED else Ending.EXEMPT} {verdict.reason}"


def plan_login(
    login: Login, rules: Rules, *, only_look: bool = False
) -> Generator[Step, Reply, tuple[Known, Plan, float]]:
    """Gather the facts that the rules ask for, and no others, until there is a plan.

    ``only_look`` enrols nobody and takes no reuse for it.
    """
    known, now = Known(), 0.0
    while isinstance(plan := policy.decide(login, known, rules), Fact):
        known, now = yield from _learn(plan, login, known, rules, only_look=only_look)
    return known, plan, now


def _learn(
    fact: Fact, login: Login, known: Known, rules: Rules, *, only_look: bool
) -> Generator[Step, Reply, tuple[Known, float]]:
    told, account = known.told | {fact}, known.account
    if fact is Fact.ACCOUNT or account is None:
        found, now = yield LookUp(login.user)
        return replace(known, told=told, account=found), now
    if fact is Fact.GROUP:
        names = tuple(dict.fromkeys((login.user, account.name)))
        groups, now = yield FindGroups(names, rules.groups.excepted if rules.groups else ())
        return replace(known, told=told, groups=groups), now
    if fact is Fact.SESSIONS:
        count, now = yield CountSessions(account.name, policy.place_of(login))
        return replace(known, told=told, sessions=count), now
    if fact is Fact.GRACE:
        key = policy.grace_key(login, account, rules)
        kind = Peek if only_look else Reuse
        entry, now = yield kind(key, policy.basis_of(login, account, rules))  # type: ignore[arg-type]  # decide saw it
        return replace(known, told=told, entry=entry), now
    if fact is Fact.ENROLLED:
        enrolled, now = yield Enrol(login.user, account.name, only_look)
        return replace(known, told=told, enrolled=enrolled), now
    mapped, now = yield from _find_identity(login, rules)
    return replace(known, told=told, mapped=mapped), now


def _find_identity(login: Login, rules: Rules) -> Generator[Step, Reply, tuple[Mapped, float]]:
    try:
        return (yield FindIdentity(login.user, rules.mapping_attribute))
    except Unavailable:
        if rules.on_mapping_failure is OnMappingFailure.DENY:
            raise
    _, now = yield Pause(0.0)
    return Mapped(failed=True), now


def _follow(login: Login, facts: Facts, rules: Rules, known: Known, plan: Plan, now: float) -> Conversation:
    """Carry out a plan in authenticate, where there may be somebody to talk to."""
    verdict = _decide_unasked(login, rules, known, plan)
    if verdict is None:
        candidate = _candidate(login, facts, rules, known, plan)
        verdict = yield from _ask_or_push(candidate, known, now)
        verdict = yield from _defer(known, rules, _explain(verdict, plan), plan)
        verdict = yield from _fail_open(known, rules, verdict, plan)
        verdict = _with_first_factor(login, verdict)
    if verdict.lets_in and _is_prompted(login, rules):
        verdict = yield from questions.ask_all(rules, verdict)
    return verdict


def _decide_unasked(login: Login, rules: Rules, known: Known, plan: Plan) -> Verdict | None:
    """Give authenticate's verdict about whom nobody has to be asked about; None where a second factor is to say."""
    if plan.ending is Ending.DENY and plan.reason not in NOBODY:
        return _denied(plan, known)
    prompted = _is_prompted(login, rules)
    unasked = None if prompted or plan.reason is Reason.BREAK_GLASS else questions.required(rules)
    if unasked is not None:
        return questions.refused(unasked)
    if plan.ending in {Ending.EXEMPT, Ending.CACHED}:
        return _with_first_factor(login, _let_in(plan, rules))
    if rules.provider is Provider.TOTP and not prompted:
        return _explain(refuse(Reason.NO_SECOND_FACTOR, Result.AUTH_ERR, rule=policy.PROVIDER_RULE), plan)
    return None


def _ask_or_push(candidate: Candidate, known: Known, now: float) -> Conversation:
    rules, spent = candidate.rules, candidate.facts.answers_spent
    if not _is_prompted(candidate.login, rules):
        return (yield from push_unasked(candidate, rules.push_timeout, now))
    if known.enrolled.is_new and rules.provisioning is not None:
        yield Say(rules.provisioning.welcome)
    if (yield from selfenrolment.is_offered(candidate)):
        return (yield from selfenrolment.enrol(candidate, spent))
    return (yield from ask_until_decided(candidate, spent))


def _is_prompted(login: Login, rules: Rules) -> bool:
    return login.service in rules.interactive_services


def _with_first_factor(login: Login, verdict: Verdict) -> Verdict:
    """Refuse who is let in over the network without a second factor and has shown no first one either.

    Our line may be all there is in its stack, and sshd's AuthenticationMethods what asks for a key before it: where
    they do not, a name would be enough. Only for authenticate: for a login by key alone, which sshd vouches for, it
    never says how. A trial has no sshd that could have seen one, and tells only that a login needs it.
    """
    shown = verdict.factor is not Factor.NONE or login.auth_info.strip() or login.first_factor == selfenrolment.BEFORE
    if not verdict.lets_in or shown or not (login.service == SSHD or login.connection):
        return verdict
    if login.is_test:
        return replace(verdict, evidence={**verdict.evidence, "needs": "first_factor"})
    refusal = refuse(Reason.NO_FIRST_FACTOR, Result.AUTH_ERR, rule=FIRST_FACTOR_RULE)
    return replace(refusal, evidence={**verdict.evidence, "instead_of": verdict.reason})


def _confirm(login: Login, facts: Facts, rules: Rules, known: Known, plan: Plan, now: float) -> Conversation:
    """Carry out a plan in the account hook, where there is nobody to talk to."""
    verdict = _decide_by_key(rules, known, plan)
    if verdict is not None:
        return verdict
    lifetime = min(rules.push_timeout, rules.account_push_timeout)
    verdict = yield from push_unasked(_candidate(login, facts, rules, known, plan), lifetime, now)
    verdict = replace(_explain(verdict, plan), rule=ACCOUNT_RULE)
    return (yield from _defer(known, rules, verdict, plan))


def _decide_by_key(rules: Rules, known: Known, plan: Plan) -> Verdict | None:
    """Give the account hook's verdict about a login by key alone; None where a push is to say."""
    if plan.ending is Ending.DENY:
        return _denied(plan, known)
    unasked = None if plan.reason is Reason.BREAK_GLASS else questions.required(rules)
    if unasked is not None:
        return questions.refused(unasked)
    if plan.ending in {Ending.EXEMPT, Ending.CACHED}:
        return _let_in(plan, rules)
    if rules.without_second_factor is WithoutSecondFactor.ALLOW:
        return Verdict(Outcome.ALLOW, Result.SUCCESS, Reason.KEY_ONLY_ALLOWED, rule=ACCOUNT_RULE)
    if rules.without_second_factor is WithoutSecondFactor.DENY or rules.provider is Provider.TOTP:
        return refuse(Reason.NO_SECOND_FACTOR, Result.ACCT_DENIED, rule=ACCOUNT_RULE)
    return None


def _candidate(login: Login, facts: Facts, rules: Rules, known: Known, plan: Plan) -> Candidate:
    user = known.account.name if known.account else STRANGER + login.user[:LONGEST_UNKNOWN_NAME]
    return Candidate(login, user, plan.identity, facts, rules)


def _denied(plan: Plan, known: Known) -> Verdict:
    verdict = refuse(plan.reason or Reason.INTERNAL_ERROR, Result.AUTH_ERR, rule=plan.rule)
    if known.enrolled.note:
        verdict = replace(verdict, evidence={"provisioning": known.enrolled.note})
    if plan.reason is Reason.CONNECTION_LIMIT:
        return replace(verdict, sentence=TOO_MANY_SESSIONS.format(open=known.sessions))
    return verdict


def _let_in(plan: Plan, rules: Rules) -> Verdict:
    """Let in whom a rule or an earlier authentication lets in."""
    reason = plan.reason or Reason.INTERNAL_ERROR
    if plan.ending is Ending.CACHED or rules.exempt_result is ExemptResult.SUCCESS:
        return Verdict(Outcome.ALLOW, Result.SUCCESS, reason, rule=plan.rule)
    return Verdict(Outcome.IGNORE, Result.IGNORE, reason, rule=plan.rule)


def _explain(verdict: Verdict, plan: Plan) -> Verdict:
    """Complete a verdict for the audit log; nobody's denial gets its true reason, and the user sees what he saw."""
    if plan.identity is None:
        evidence = {**verdict.evidence, "seen_as": verdict.reason}
        # Whatever the verdict was, nobody is denied: this is the last line of that rule.
        result = Result.AUTH_ERR if verdict.lets_in else verdict.result
        reason, words = plan.reason or Reason.INTERNAL_ERROR, verdict.sentence or FAILED
        return Verdict(Outcome.DENY, result, reason, Factor.NONE, plan.rule, words, evidence)
    evidence = {**verdict.evidence}
    if verdict.reason is Reason.NOT_ENROLLED and not policy.is_starling_id(plan.identity):
        evidence["identity"] = policy.NOT_DIGITS
    return replace(verdict, rule=verdict.rule or plan.rule, evidence=evidence)


def _defer(known: Known, rules: Rules, verdict: Verdict, plan: Plan) -> Conversation:
    """Let in, until a day, whom the service does not know and who never had a second factor here (SEMANTICS §8)."""
    account = known.account
    if verdict.reason is not Reason.NOT_ENROLLED or rules.not_enrolled.action is not NotEnrolled.ALLOW_UNTIL:
        return verdict
    if plan.identity is None or account is None or account.uid == 0 or known.mapped.failed:
        return verdict
    days, _ = yield Defer(account.name)
    if not days:
        return verdict
    yield Say(NO_SECOND_FACTOR_YET.format(days=days))
    evidence = {**verdict.evidence, "days_left": str(days)}
    return Verdict(Outcome.ALLOW, Result.SUCCESS, Reason.ALLOW_UNTIL, rule="auth.not_enrolled", evidence=evidence)


def _fail_open(known: Known, rules: Rules, verdict: Verdict, plan: Plan) -> Conversation:
    """Let in, loudly, whom ``fail_mode = safe`` lets in while nobody can be asked (SEMANTICS §10)."""
    account = known.account
    if verdict.reason is not Reason.UNREACHABLE or rules.fail_mode is not FailMode.SAFE:
        return verdict
    if plan.identity is None or account is None or account.uid == 0:
        return verdict
    if rules.fail_open_users is not None and account.name not in rules.fail_open_users:
        return verdict
    unreachable, _ = yield Probe()
    if unreachable is not True:
        return verdict
    return Verdict(Outcome.ALLOW, Result.SUCCESS, Reason.FAIL_OPEN, rule="auth.fail_mode", evidence=verdict.evidence)
