"""What the administrator decided, as the core needs it: one immutable value made from the configuration.

A running login keeps the rules it started with, whatever a reload brings. Nothing here may know files or sections,
except as the text of ``Verdict.rule``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from starlingd.core.otp import Algorithm

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Network, IPv6Network

VENDOR_PROMPT = "Press Enter for push notification or type one-time password:"
NUMBERED_PROMPT = "Press Enter for push notification (number {number}) or type one-time password:"
CODE_PROMPT = "One-time password:"
WELCOME = "You are new here: install the app that the message on your phone names, then log in again."


class WithoutSecondFactor(StrEnum):
    """What the account hook does with a login that has no decision on record (DESIGN §5.3)."""

    DENY = "deny"
    PUSH = "push"
    ALLOW = "allow"


class Allow(StrEnum):
    """Which way an exemption list reads (SEMANTICS §5): who is *not* asked, before ``excepted`` turns it around."""

    NO_USER = "no_user"
    ALL_USERS = "all_users"


@dataclass(frozen=True, slots=True)
class UserList:
    """Exemption by PAM_USER; ``name`` is the section's, ``excepted`` holds names as written."""

    name: str
    allow: Allow
    excepted: frozenset[str]


@dataclass(frozen=True, slots=True)
class NetworkList:
    """Exemption by the client's address."""

    allow: Allow
    excepted: tuple[IPv4Network | IPv6Network, ...]


@dataclass(frozen=True, slots=True)
class GroupList:
    """Exemption by membership of directory groups: bare names or DNs as written."""

    allow: Allow
    excepted: tuple[str, ...]


class Bind(StrEnum):
    """What a grace entry may be bound to (SEMANTICS §4)."""

    USER = "user"
    CLIENT_IP = "client_ip"
    SSH_KEY = "ssh_key"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Grace:
    """The grace period; times in seconds. ``reuse_limit`` 0 is off, negative is unlimited (SEMANTICS §3, §4)."""

    soft_timeout: float = 15.0
    hard_timeout: float = 90.0
    reuse_limit: int = 0
    bind: frozenset[Bind] = frozenset({Bind.USER, Bind.CLIENT_IP})


@dataclass(frozen=True, slots=True)
class Question:
    """A question asked after success. ``pattern`` is a regular expression the whole answer must match, or empty.

    ``audit`` and ``export`` say whether the answer goes to the audit event and to the session's environment.
    """

    number: int
    key: str
    prompt: str
    disable_echo: bool = True
    required: bool = False
    pattern: str = ""
    audit: bool = False
    export: bool = False


class FailMode(StrEnum):
    """What happens when the service is unreachable in the strict sense (SEMANTICS §10)."""

    SECURE = "secure"
    SAFE = "safe"


class OnMappingFailure(StrEnum):
    """What happens to a user whom the directory does not map (SEMANTICS §6)."""

    DENY = "deny"
    KEEP = "keep"


class NotEnrolled(StrEnum):
    """What happens to a user whom the service does not know."""

    DENY = "deny"
    ENROL = "enrol"
    ALLOW_UNTIL = "allow_until"


@dataclass(frozen=True, slots=True)
class Unenrolled:
    """The rule for users whom the service does not know; ``until`` is the end of ``allow_until`` in Unix seconds."""

    action: NotEnrolled = NotEnrolled.DENY
    until: float = 0.0


class Tls(StrEnum):
    """How a directory's connection is protected."""

    STARTTLS = "starttls"
    LDAPS = "ldaps"
    NONE = "none"


class DirectorySchema(StrEnum):
    """How a directory tells who is in which group (SEMANTICS §7)."""

    AD = "ad"
    RFC2307 = "rfc2307"
    RFC2307BIS = "rfc2307bis"


@dataclass(frozen=True, slots=True)
class DirectoryPolicy:
    """How to ask a directory (SEMANTICS §7); ``timeout`` in seconds.

    ``uri`` is tried in order. Filters hold ``{user}`` and ``{dn}``, to be filled in escaped. Without ``bind_dn`` the
    connection is anonymous, or whoever the socket says for ldapi.
    """

    name: str
    uri: tuple[str, ...]
    base_dn: str
    schema: DirectorySchema
    tls: Tls
    user_filter: str
    group_filter: str
    bind_dn: str = ""
    bind_password: str = field(default="", repr=False)
    ca_file: str = ""
    timeout: float = 5.0
    pool_size: int = 8
    insecure: bool = False


class OnChange(StrEnum):
    """What a changed number or address of somebody who is enrolled means (SEMANTICS §8)."""

    REFUSE = "refuse"
    REPROVISION = "reprovision"


@dataclass(frozen=True, slots=True)
class Provisioning:
    """Enrolment from the directory (SEMANTICS §8): its attributes, and what a new person is told.

    ``forget_after`` is for how many seconds an id that the service disowned is not asked about.
    """

    email_attribute: str
    phone_attribute: str
    display_name_attribute: str = "displayName"
    default_region: str = ""
    on_change: OnChange = OnChange.REFUSE
    welcome: str = WELCOME
    forget_after: int = 3600


class Provider(StrEnum):
    """Who checks the second factor."""

    STARLING = "starling"
    TOTP = "totp"
    """This host itself: authenticator apps, and no cloud."""


class Fallback(StrEnum):
    """Codes that this host takes while the service cannot be reached."""

    TOTP = "totp"
    RECOVERY = "recovery"


class EnrolQr(StrEnum):
    """How a QR code is drawn in a prompt; ``auto`` is ``utf8`` but on a console."""

    AUTO = "auto"
    UTF8 = "utf8"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Apps:
    """What authenticator apps are told when they are enrolled, ``step`` in seconds (RFC 6238).

    ``window`` is by how many steps a code may be off; it counts for every app.
    """

    algorithm: Algorithm = Algorithm.SHA1
    digits: int = 6
    step: int = 30
    window: int = 1


class ExemptResult(StrEnum):
    """What PAM is told of an exempt user."""

    IGNORE = "ignore"
    SUCCESS = "success"


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one login; times in seconds. SEMANTICS §3 and §11 name the keys and give the meanings."""

    prompt: str = NUMBERED_PROMPT
    disable_echo: bool = False
    interactive_services: frozenset[str] = frozenset({"sshd", "login"})
    max_attempts: int = 3
    permit_root: bool = False
    push_message: str = "Login to {gateway}"
    push_number: bool = True
    push_timeout: int = 60
    push_limit: int = 3
    push_window: int = 600
    poll_interval: int | None = None
    """A fixed pause between polls; None is the growing schedule of DESIGN §6."""
    without_second_factor: WithoutSecondFactor = WithoutSecondFactor.DENY
    account_push_timeout: int = 45
    explicit_mapping: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Lower-cased user name to external identity."""
    mapping_attribute: str = ""
    """The directory's attribute that holds the identity; empty without that mapping."""
    on_mapping_failure: OnMappingFailure = OnMappingFailure.DENY
    append_domain: str = ""
    break_glass: frozenset[str] = frozenset()
    user_list: UserList | None = None
    networks: NetworkList | None = None
    groups: GroupList | None = None
    exempt_result: ExemptResult = ExemptResult.IGNORE
    grace: Grace = field(default_factory=Grace)
    connection_limit: int = 0
    """Parallel sessions of one user from one address; 0 is unlimited."""
    questions: tuple[Question, ...] = ()
    fail_mode: FailMode = FailMode.SECURE
    fail_open_users: frozenset[str] | None = None
    """Who ``safe`` lets in; None is everybody it may."""
    observe_until: float = 0.0
    """Wall-clock seconds until which nobody is asked and everything is written down as it would have been."""
    max_failures: int = 5
    failure_window: int = 300
    not_enrolled: Unenrolled = field(default_factory=Unenrolled)
    directory: DirectoryPolicy | None = None
    provisioning: Provisioning | None = None
    provider: Provider = Provider.STARLING
    fallback: frozenset[Fallback] = frozenset()
    enrol_qr: EnrolQr = EnrolQr.AUTO
    apps: Apps = field(default_factory=Apps)
