"""Every section and key that starling.conf may have. SEMANTICS §3 and §11 give the meanings.

To add a section: write its form, add it to DEFINITION, and give each key a line in etc/starling.conf and a paragraph in
docs/starling.conf.5.scd, and have it read in rules.py or settings.py. Lists, the directory and questions have a module
each. Rules that join several keys belong there, or in joint.py.
"""

# ruff: noqa: RUF009  key() and rest() make fields, as dataclasses.field does
from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from starlingd.config import days, directory, lists, questions, values
from starlingd.config.schema import Section, key, rest
from starlingd.core.failures import DAILY_CEILING
from starlingd.core.otp import Algorithm
from starlingd.core.rules import (
    Bind,
    EnrolQr,
    ExemptResult,
    FailMode,
    Fallback,
    OnMappingFailure,
    Provider,
    Rules,
    Unenrolled,
    WithoutSecondFactor,
)
from starlingd.core.secondfactor import SHORTEST_PUSH

if TYPE_CHECKING:
    from pathlib import Path

    from starlingd.config.secrets import Secret
    from starlingd.config.values import Credential

LONGEST_PUSH = 600
"""Seconds; no sshd waits so long unless somebody raised LoginGraceTime."""
DAY = 86400
MANY = 999_999_999
_RULES = Rules()
_GRACE = _RULES.grace
_APPS = _RULES.apps
_push_time = values.seconds(SHORTEST_PUSH + 1, LONGEST_PUSH)


class LogLevel(StrEnum):
    """How much the daemon's own log says."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class StarlingForm:
    """Values of [starling]; a URL that is None follows from ``environment``."""

    credential: Credential | None = key(
        values.credential, None, "client_id:client_secret, what joining to Starling yields", secret=True
    )
    api_key: Secret | None = key(
        values.api_key, None, "the subscription key of the older service, instead of a credential", secret=True
    )
    api_url: str | None = key(values.https_origin, None, "another host for the older service")
    environment: str = key(values.word, "prod", "which of the vendor's clouds; prod is the public one")
    service_url: str | None = key(values.https_origin, None, "another host for the service")
    token_url: str | None = key(values.https_origin, None, "another host for the tokens")
    ca_file: Path | None = key(values.absolute_path, None, "trust only the authorities in this PEM file")
    http_timeout: float = key(values.fraction(0.1, 60), 10.0, "seconds a call may take to connect, and to be answered")
    timeout: int = key(_push_time, 60, "seconds a push may wait for its answer")
    rest_poll_interval: int | None = key(values.seconds(1, LONGEST_PUSH), None, "seconds between two polls of a push")


@dataclass(frozen=True, slots=True)
class AuthForm:
    """Values of [auth]; a prompt that is None depends on ``push_number``."""

    provider: Provider = key(values.choice(Provider), Provider.STARLING, "who checks the second factor")
    prompt: str | None = key(values.text, None, "what the user is asked; {number} is the push's number")
    disable_echo: bool = key(values.boolean, _RULES.disable_echo, "do not show what is typed")
    interactive_protocols: tuple[str, ...] = key(
        values.words, tuple(sorted(_RULES.interactive_services)), "the PAM services that can show a prompt"
    )
    max_attempts: int = key(values.integer(1, 100), _RULES.max_attempts, "answers that one connection may give")
    permit_root: bool = key(values.boolean, _RULES.permit_root, "let uid 0 use a second factor")
    push_message: str = key(
        values.template("gateway", "user", "client_ip", "service", "number"),
        _RULES.push_message,
        "the text on the phone",
    )
    push_number: bool = key(values.boolean, _RULES.push_number, "show a number in the prompt and on the phone")
    push_limit: int = key(
        values.integer(1, 1000), _RULES.push_limit, "unanswered or denied pushes of a user before no more are sent"
    )
    push_window: int = key(values.seconds(1, DAY), _RULES.push_window, "seconds for which push_limit counts")
    enforce: float = key(days.enforcement, 0.0, "whether the rules hold, or are only tried out")
    max_failures: int = key(
        values.integer(1, DAILY_CEILING), _RULES.max_failures, "wrong codes of a user from one address before a wait"
    )
    failure_window: int = key(values.seconds(1, DAY), _RULES.failure_window, "seconds for which max_failures counts")
    exempt_result: ExemptResult = key(
        values.choice(ExemptResult), _RULES.exempt_result, "what PAM is told of an exempt user"
    )
    fail_mode: FailMode = key(values.choice(FailMode), _RULES.fail_mode, "what an unreachable service means")
    fail_open_users: tuple[str, ...] = key(values.words, (), "the only users whom fail_mode = safe lets in")
    not_enrolled: Unenrolled = key(days.unenrolled, _RULES.not_enrolled, "what becomes of whom Starling does not know")
    on_mapping_failure: OnMappingFailure = key(
        values.choice(OnMappingFailure), _RULES.on_mapping_failure, "what becomes of whom the directory does not map"
    )
    fallback: frozenset[Fallback] = key(
        values.choices(Fallback), frozenset(), "codes of this host for when Starling cannot be reached"
    )
    enrol_qr: EnrolQr = key(values.choice(EnrolQr), EnrolQr.AUTO, "how a QR code is drawn in a prompt")


@dataclass(frozen=True, slots=True)
class TotpForm:
    """Values of [totp]: authenticator apps that this host checks itself."""

    key_: Secret | None = key(values.vault_key, None, "32 random bytes in base64, which seal the secrets", secret=True)
    algorithm: Algorithm = key(values.choice(Algorithm), _APPS.algorithm, "what new apps compute their codes with")
    digits: int = key(values.among(6, 8), _APPS.digits, "digits of a new app's codes: 6 or 8")
    step: int = key(values.among(30, 60), _APPS.step, "seconds for which a new app shows a code: 30 or 60")
    window: int = key(values.integer(0, 10), _APPS.window, "codes before and after the present one that are taken too")


@dataclass(frozen=True, slots=True)
class MetricsForm:
    """Values of [metrics]."""

    listen: str = key(values.listen, "", "where metrics are served")


@dataclass(frozen=True, slots=True)
class ControlForm:
    """Values of [control]."""

    operators: tuple[str, ...] = key(values.words, (), "groups of this host whose members may change things")
    helpdesk: tuple[str, ...] = key(values.words, (), "groups of this host whose members may issue codes")


@dataclass(frozen=True, slots=True)
class ConnectionLimitForm:
    """Values of [connection_limit by=client_ip_gateway_user]."""

    limit: int = key(
        values.integer(0, 1_000_000),
        _RULES.connection_limit,
        "parallel sessions of a user from one address; 0: no limit",
    )


@dataclass(frozen=True, slots=True)
class GraceForm:
    """Values of [authentication_cache]."""

    soft_timeout: float = key(values.fraction(0, 365 * DAY), _GRACE.soft_timeout, "seconds since the last use")
    hard_timeout: float = key(
        values.fraction(0, 365 * DAY), _GRACE.hard_timeout, "seconds since the last real second factor"
    )
    reuse_limit: int = key(
        values.integer(-MANY, MANY), _GRACE.reuse_limit, "uses; 0: off, negative: no limit", aliases=("conn_limit",)
    )
    bind: frozenset[Bind] = key(values.choices(Bind), _GRACE.bind, "what it is good for: the same of each of these")


@dataclass(frozen=True, slots=True)
class AccountForm:
    """Values of [account]: logins without a second factor, by public key alone."""

    without_second_factor: WithoutSecondFactor = key(
        values.choice(WithoutSecondFactor), _RULES.without_second_factor, "what becomes of them"
    )
    push_timeout: int = key(_push_time, _RULES.account_push_timeout, "seconds their push may wait for its answer")


@dataclass(frozen=True, slots=True)
class ExplicitMappingForm:
    """Values of [usermapping source=explicit]."""

    users: tuple[tuple[str, str], ...] = rest(values.identity, "<user>", "this user's Starling id; empty for none")


@dataclass(frozen=True, slots=True)
class TransformForm:
    """Values of [username_transform]."""

    append_domain: str = key(values.domain, _RULES.append_domain, "what follows an @ behind the identity")


@dataclass(frozen=True, slots=True)
class ProxyForm:
    """Values of [https_proxy]."""

    server: str | None = key(values.host, None, "the proxy's host name or address")
    port: int = key(values.integer(1, 65535), 3128, "its TCP port")
    username: str | None = key(values.line, None, "user name at the proxy")
    password: Secret | None = key(values.secret, None, "password at the proxy", secret=True)
    enabled: bool = key(values.boolean, default=True, meaning="whether it is used")


@dataclass(frozen=True, slots=True)
class LoggingForm:
    """Values of [logging]."""

    log_level: LogLevel = key(values.choice(LogLevel), LogLevel.INFO, "how much the daemon's log says")


@dataclass(frozen=True, slots=True)
class CredentialStoreForm:
    """Values of [credential_store], which the vendor's gateway needs."""

    name: str | None = key(values.line, None, "accepted, and not used")


STARLING = Section("starling", StarlingForm, "the cloud service")
AUTH = Section("auth", AuthForm, "how users are asked")
ACCOUNT = Section("account", AccountForm, "logins that no second factor was asked for")
TOTP = Section("totp", TotpForm, "authenticator apps that this host checks itself")
CONTROL = Section("control", ControlForm, "who may use starlingctl for what")
CONNECTION_LIMIT = Section("connection_limit by=client_ip_gateway_user", ConnectionLimitForm, "sessions at once")
METRICS = Section("metrics", MetricsForm, "numbers for Prometheus")
GRACE = Section("authentication_cache", GraceForm, "the grace period")
EXPLICIT_MAPPING = Section("usermapping source=explicit", ExplicitMappingForm, "user names to Starling ids")
TRANSFORM = Section("username_transform", TransformForm, "the last change of an identity")
HTTPS_PROXY = Section("https_proxy", ProxyForm, "the way to the cloud service", aliases=("https-proxy",))
LOGGING = Section("logging", LoggingForm, "the daemon's log")
CREDENTIAL_STORE = Section("credential_store", CredentialStoreForm, "a section of the vendor's gateway")

DEFINITION: tuple[Section[Any], ...] = (
    STARLING,
    AUTH,
    TOTP,
    ACCOUNT,
    CONTROL,
    METRICS,
    CONNECTION_LIMIT,
    GRACE,
    lists.BY_USER_LIST,
    lists.USER_LIST,
    lists.BY_GROUP,
    lists.BY_NETWORK,
    EXPLICIT_MAPPING,
    directory.DIRECTORY_MAPPING,
    TRANSFORM,
    directory.PROVISIONING,
    directory.LOOP,
    directory.MEMORY_CACHE,
    directory.DIRECTORY,
    directory.POLICY,
    questions.QUESTION,
    HTTPS_PROXY,
    LOGGING,
    CREDENTIAL_STORE,
)
