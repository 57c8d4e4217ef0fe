"""Enrolment of an authenticator app in the middle of a login: shown once, and kept when its code is typed.

A helpdesk code lets in here too, and leaves the enrolment for the next login.

Only for who never had a second factor here, after a first factor that is known to have been right: otherwise whoever
knows a name could put an app of their own in somebody's place. Generators as in ``conversation``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlingd.core import policy
from starlingd.core.localcodes import HELPDESK_DIGITS, Passed
from starlingd.core.model import Check, Factor, Outcome, Reason, Result, Verdict
from starlingd.core.rules import EnrolQr, NotEnrolled, Provider
from starlingd.core.secondfactor import let_in
from starlingd.core.sentences import APP_PROMPT, APP_PROMPT_WITHOUT_QR, WRONG_APP_CODE
from starlingd.core.steps import Ask, Conversation, KeepApp, MayEnrol, OfferApp, Say, Verify
from starlingd.core.verdicts import refuse

if TYPE_CHECKING:
    from collections.abc import Generator

    from starlingd.core.model import Login
    from starlingd.core.rules import Rules
    from starlingd.core.secondfactor import Candidate
    from starlingd.core.steps import Reply, Step

BEFORE = "before"
"""What the pam.d line says of its first factor in password mode, where it is asked before us."""
RULE = "auth.not_enrolled"


def is_offered(candidate: Candidate) -> Generator[Step, Reply, bool]:
    """Tell whether this login is to enrol an app."""
    rules = candidate.rules
    if rules.provider is not Provider.TOTP or rules.not_enrolled.action is not NotEnrolled.ENROL:
        return False
    if candidate.identity is None or not is_first_factor_known(candidate.login):
        return False
    may, _ = yield MayEnrol(candidate.user)
    return may is True


def is_first_factor_known(login: Login) -> bool:
    """Tell whether somebody has shown a key or a password before us, as sshd or the pam.d line says."""
    by_key = any(line.startswith("publickey ") for line in login.auth_info.splitlines())
    return by_key or login.first_factor == BEFORE


def enrol(candidate: Candidate, spent: int) -> Conversation:
    """Show a new app's secret until its code is typed or the answers are spent."""
    rules = candidate.rules
    offer, _ = yield OfferApp(candidate.user, drawn=_is_drawn(candidate.login, rules))
    prompt = APP_PROMPT.format(qr=offer.qr, secret=offer.secret) if offer.qr else ""
    prompt = prompt or APP_PROMPT_WITHOUT_QR.format(secret=offer.secret)
    while True:
        answer, _ = yield Ask(prompt, echo=not rules.disable_echo)
        spent += 1
        code = policy.code_in(answer)
        if code and len(code) == HELPDESK_DIGITS:  # an app's codes are shorter
            check, _ = yield Verify(candidate.user, candidate.identity, code, local=True)
            if isinstance(check, Passed):
                return (yield from let_in(check))
            if check is Check.LOCKED:
                return refuse(Reason.TOO_MANY_ATTEMPTS, Result.MAXTRIES, rule="auth.max_failures")
            code = None
        kept, _ = (yield KeepApp(candidate.user, code)) if code else (Check.WRONG, 0.0)
        if isinstance(kept, Passed):
            return Verdict(Outcome.ALLOW, Result.SUCCESS, Reason.CODE_VERIFIED, Factor.TOTP, RULE)
        if kept is Check.REUSED:  # another login of this user was faster
            return refuse(Reason.NOT_ENROLLED, Result.AUTH_ERR, rule=RULE, factor=Factor.TOTP)
        if spent >= rules.max_attempts:
            return refuse(Reason.WRONG_CODE, Result.MAXTRIES, rule="auth.max_attempts", factor=Factor.TOTP)
        yield Say(WRONG_APP_CODE)


def _is_drawn(login: Login, rules: Rules) -> bool:
    """Tell whether to draw the QR code; ``auto`` does not trust a console's font."""
    return rules.enrol_qr is EnrolQr.UTF8 or (rules.enrol_qr is EnrolQr.AUTO and bool(login.client_ip))
