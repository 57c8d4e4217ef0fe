"""Refusals, made in one place: the reason for the log, the sentence for the user."""

from __future__ import annotations

from starlingd.core.model import Factor, Fault, Outcome, Reason, Result, Unavailable, Verdict
from starlingd.core.sentences import sentence
from starlingd.core.steps import Interrupted

# What an outage is called, by the port it came from or else by its kind.
_BY_PORT = {
    "nss": Reason.NSS_UNAVAILABLE,
    "store": Reason.STORE_UNAVAILABLE,
    "directory": Reason.DIRECTORY_UNAVAILABLE,
}
_BY_FAULT = {
    Fault.UNREACHABLE: Reason.UNREACHABLE,
    Fault.RATE_LIMITED: Reason.RATE_LIMITED,
    Fault.MISCONFIGURED: Reason.MISCONFIGURED,
    Fault.BUSY: Reason.BUSY,
    Fault.BROKEN: Reason.SERVICE_ERROR,
}


def refuse(reason: Reason, result: Result, *, rule: str = "", factor: Factor = Factor.NONE) -> Verdict:
    """Make a denial with the sentence that goes with its reason."""
    return Verdict(Outcome.DENY, result, reason, factor, rule, sentence(reason))


def refuse_for(end: Interrupted | Unavailable, result: Result) -> Verdict:
    """Make the denial of a login that an outage or somebody outside ended; an outage leaves its detail to the log."""
    reason = reason_of(end)
    evidence = {"outage": end.detail} if isinstance(end, Unavailable) else {}
    return Verdict(Outcome.DENY, result, reason, sentence=sentence(reason), evidence=evidence)


def reason_of(end: Interrupted | Unavailable) -> Reason:
    """Tell what the audit log calls an interruption or an outage."""
    if isinstance(end, Interrupted):
        return end.reason
    return _BY_PORT.get(end.port) or _BY_FAULT[end.fault]
