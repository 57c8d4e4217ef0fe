"""The short list of sentences that users see (SEMANTICS §9).

They never hold a service's text or an id, nor tell which part was wrong: whoever has to know reads the audit log.
"""

from __future__ import annotations

from starlingd.core.model import Reason
from starlingd.core.rules import Fallback

FAILED = "Authentication failed"
UNREACHABLE = "The second-factor service cannot be reached"
NOT_SET_UP = "The second factor is not set up correctly on this host; ask your administrator"
NOT_WORKING = "The second factor does not work at the moment; try again later"
TIME_UP = "Time is up; try again"
NO_MORE_PUSHES = "No more push notifications for now; type a one-time password, or try again later"
PUSH_WAITS = "Another login of yours is waiting for approval; type a one-time password, or answer that one first"
NO_ANSWER = "The push notification was not answered in time"
TOO_MANY_ATTEMPTS = "Too many attempts; try again later"
TOO_MANY_SESSIONS = "Too many parallel sessions from your address ({open} open)"
CODE_REUSED = "That code was used already; wait for the next one"
RECOVERY_LEFT = "You have {left} recovery codes left"
APP_PROMPT_WITHOUT_QR = (
    "You have no second factor yet. Add this account to an authenticator app; the secret is shown only now:\n"
    "\n  {secret}\n\nCode that the app shows: "
)
APP_PROMPT = (
    "You have no second factor yet. Scan this with an authenticator app; it is shown only now:\n"
    "\n{qr}\n\nor type in: {secret}\n\nCode that the app shows: "
)
WRONG_APP_CODE = "That is not the code of this app now; try the next one"
NOT_AN_ANSWER = "That is not an answer this question takes"
NO_SECOND_FACTOR_YET = "You have no second factor yet; without one you can log in for {days} more days"
NEEDS_SECOND_FACTOR = "This login needs a second factor; log in interactively"
NEEDS_FIRST_FACTOR = "This login needs a key or a password first"

FALLBACK_PROMPTS = {
    frozenset(usable): f"{UNREACHABLE}. {what}: "
    for usable, what in (
        ({Fallback.TOTP}, "Code of your authenticator app"),
        ({Fallback.RECOVERY}, "One of your recovery codes"),
        ({Fallback.TOTP, Fallback.RECOVERY}, "Code of your authenticator app, or a recovery code"),
    )
}
"""What is asked instead, by what this host may take."""

_SENTENCES = {
    Reason.UNREACHABLE: UNREACHABLE,
    Reason.MISCONFIGURED: NOT_SET_UP,
    Reason.SERVICE_ERROR: NOT_WORKING,
    Reason.RATE_LIMITED: NOT_WORKING,
    Reason.DIRECTORY_UNAVAILABLE: NOT_WORKING,
    Reason.CODE_REUSED: CODE_REUSED,
    Reason.TOO_MANY_ATTEMPTS: TOO_MANY_ATTEMPTS,
    Reason.STORE_UNAVAILABLE: NOT_WORKING,
    Reason.NSS_UNAVAILABLE: NOT_WORKING,
    Reason.BUSY: NOT_WORKING,
    Reason.DEADLINE: TIME_UP,
    Reason.PUSH_LIMIT: NO_MORE_PUSHES,
    Reason.PUSH_PENDING: PUSH_WAITS,
    Reason.PUSH_TIMEOUT: NO_ANSWER,
    Reason.PUSH_EXPIRED: NO_ANSWER,
    Reason.NO_SECOND_FACTOR: NEEDS_SECOND_FACTOR,
    Reason.NO_FIRST_FACTOR: NEEDS_FIRST_FACTOR,
}


def sentence(reason: Reason) -> str:
    """Choose the sentence for a refusal; every reason without one of its own says only that it failed."""
    return _SENTENCES.get(reason, FAILED)
