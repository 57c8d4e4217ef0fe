"""The words of the domain: who logs in, what was decided and why, what a provider answered.

Everything here is an immutable value; what exists is valid. Nothing here may do I/O or know how a value is obtained.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


STRANGER = ":"
"""Begins the name under which a name without an account is counted; no account's name can hold it."""


def is_stranger(user: str) -> bool:
    """Tell whether a counted name is one without an account."""
    return user.startswith(STRANGER)


class Outcome(StrEnum):
    """What the audit log calls the end of a login (SEMANTICS §12)."""

    ALLOW = "allow"
    DENY = "deny"
    IGNORE = "ignore"


class Result(StrEnum):
    """What the module is told to return to PAM; the wire's names (DESIGN §4)."""

    SUCCESS = "success"
    IGNORE = "ignore"
    AUTH_ERR = "auth_err"
    MAXTRIES = "maxtries"
    ACCT_DENIED = "acct_denied"
    SESSION_ERR = "session_err"


LETS_IN = frozenset({Result.SUCCESS, Result.IGNORE})
"""The results that open the door, or leave it to the rest of the stack."""


class Factor(StrEnum):
    """Which second factor decided a login (SEMANTICS §12)."""

    PUSH = "push"
    CODE = "code"
    TOTP = "totp"
    RECOVERY = "recovery"
    HELPDESK = "helpdesk"
    NONE = "none"


class Reason(StrEnum):
    """Stable codes for programs; SEMANTICS §12 lists them, and none is ever renamed."""

    PUSH_APPROVED = "push_approved"
    CODE_VERIFIED = "code_verified"
    CACHED = "cached"
    EXEMPT_USER_LIST = "exempt_user_list"
    EXEMPT_LDAP_GROUP = "exempt_ldap_group"
    EXEMPT_NETWORK = "exempt_network"
    BREAK_GLASS = "break_glass"
    FAIL_OPEN = "fail_open"
    OBSERVED = "observed"
    ALLOW_UNTIL = "allow_until"
    KEY_ONLY_ALLOWED = "key_only_allowed"

    WRONG_CODE = "wrong_code"
    CODE_REUSED = "code_reused"
    NOT_A_CODE = "not_a_code"
    PUSH_DENIED = "push_denied"
    PUSH_EXPIRED = "push_expired"
    PUSH_TIMEOUT = "push_timeout"
    PUSH_LIMIT = "push_limit"
    PUSH_PENDING = "push_pending"
    ATTEMPTS_SPENT = "attempts_spent"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    NOT_ENROLLED = "not_enrolled"
    MAPPING_FAILED = "mapping_failed"
    PROVISIONING_FAILED = "provisioning_failed"
    PROVISIONING_CHANGED = "provisioning_changed"
    BLOCKED = "blocked"
    UNKNOWN_USER = "unknown_user"
    ROOT_NOT_PERMITTED = "root_not_permitted"
    ACCOUNT_DISABLED = "account_disabled"
    CONNECTION_LIMIT = "connection_limit"
    NO_SECOND_FACTOR = "no_second_factor"
    NO_FIRST_FACTOR = "no_first_factor"
    NO_RECORD = "no_record"
    UNREACHABLE = "unreachable"
    RATE_LIMITED = "rate_limited"
    SERVICE_ERROR = "service_error"
    DIRECTORY_UNAVAILABLE = "directory_unavailable"
    STORE_UNAVAILABLE = "store_unavailable"
    NSS_UNAVAILABLE = "nss_unavailable"
    BUSY = "busy"
    MISCONFIGURED = "misconfigured"
    DEADLINE = "deadline"
    HUNG_UP = "hung_up"
    PROTOCOL_ERROR = "protocol_error"
    TOO_LONG = "too_long"
    QUESTION_REFUSED = "question_refused"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class Process:
    """One process of this boot: its pid and its start time (field 22 of /proc/PID/stat, in clock ticks)."""

    pid: int
    start: int


@dataclass(frozen=True, slots=True)
class Account:
    """An account as NSS knows it; ``name`` is the canonical name (pw_name)."""

    name: str
    uid: int


@dataclass(frozen=True, slots=True)
class Login:
    """What the module says of one login, checked at the border.

    ``user`` is PAM_USER as given. ``client_ip`` is numeric or empty (console). ``connection`` is sshd's SSH_CONNECTION
    or empty. ``auth_info`` is SSH_AUTH_INFO_0. ``deadline`` is the monotonic time, in seconds, by which a verdict must
    be given. ``login_id`` is what the caller's PAM environment holds: a hint that proves nothing by itself.
    """

    user: str
    service: str
    client_ip: str
    tty: str
    connection: str
    auth_info: str
    first_factor: str
    caller: Process
    parent: Process
    deadline: float
    login_id: str
    ssh_key: str = ""
    """The fingerprint of the public key in ``auth_info``, if there is one."""
    is_test: bool = False
    """Whether it only tries the stack out: decided like any other, and let in nowhere (``server.trials``)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a conversation ended. ``rule`` is the section and key that decided; ``evidence`` goes to the audit log only.

    ``sentence`` is for the user (SEMANTICS §9) and empty when there is nothing to say. ``answers`` are those to
    questions that go to the audit log, ``exports`` those that go to the session's environment, both by the question's
    key.
    """

    outcome: Outcome
    result: Result
    reason: Reason
    factor: Factor = Factor.NONE
    rule: str = ""
    sentence: str = ""
    evidence: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict, repr=False)
    exports: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        # The audit log and the record go by the outcome, PAM by the result: they must never say different things.
        if self.lets_in != (self.result in LETS_IN):
            raise ValueError(f"{self.outcome} cannot end with {self.result}")

    @property
    def lets_in(self) -> bool:
        """Whether this verdict opens the door (PAM_SUCCESS or PAM_IGNORE)."""
        return self.outcome is not Outcome.DENY


class Check(Enum):
    """A provider's answer about a typed code."""

    RIGHT = "right"
    WRONG = "wrong"
    NOT_ENROLLED = "not_enrolled"
    REUSED = "reused"
    """It was right once, and was taken then."""
    LOCKED = "locked"
    """Not asked: too many wrong codes of this user. No provider answers this."""


class PushStatus(Enum):
    """A provider's answer about a push. UNKNOWN is a status nobody documented: it is waited for."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Push:
    """What is to be shown on the phone: a message, and labelled details in their order (SEMANTICS §9)."""

    message: str
    details: tuple[tuple[str, str], ...]
    lifetime: int
    """Seconds after which the service lets it expire."""


@dataclass(frozen=True, slots=True)
class Started:
    """A push that the service took; ``request`` is the service's id of it."""

    request: str


class NotStarted(Enum):
    """Why no push was started although nothing failed. A provider knows only the first."""

    NOT_ENROLLED = "not_enrolled"
    PENDING = "pending"
    """Another push of this user waits for an answer."""
    LIMIT = "limit"
    """Too many pushes of this user were denied or left unanswered."""
    LOCKED = "locked"
    """Too many wrong codes of this user."""


class Fault(Enum):
    """Kinds of outage, which policy treats differently (SEMANTICS §10)."""

    UNREACHABLE = "unreachable"
    """Strict sense of SEMANTICS §10: name resolution, connect, TLS transport or read failed or timed out; 502-504."""
    RATE_LIMITED = "rate_limited"
    """429; ``retry_after`` says for how many seconds."""
    MISCONFIGURED = "misconfigured"
    """Our credentials, certificate authority or URL are wrong: an untrusted certificate, a token request refused."""
    BUSY = "busy"
    """Our own pool or queue is full, or the wait for it took too long."""
    BROKEN = "broken"
    """Any other answer that makes no sense: 500, other 4xx, unreadable JSON, a locked or corrupt database."""


class Unavailable(Exception):  # noqa: N818  the field's word; every Unavailable is an error
    """An outage of the system behind ``port``. ``detail`` is for the log and never holds a secret, code or token.

    ``sent`` says that the call had left when it failed: what it asked for may have happened all the same.
    """

    sent = False

    def __init__(self, port: str, fault: Fault, detail: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{port}: {fault.value}: {detail}")
        self.port = port
        self.fault = fault
        self.detail = detail
        self.retry_after = retry_after
