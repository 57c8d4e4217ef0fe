"""From the file's text to frozen Settings, or every problem at once.

``load`` is pure but for what it is handed: the secrets, and a way to read the file that ``ca_file`` names. Settings
that exist are valid.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlingd.config import directory, ini, joint, reader, regular, rules
from starlingd.config.problems import Notes
from starlingd.config.secrets import Secret
from starlingd.config.sections import CONTROL, DEFINITION, HTTPS_PROXY, LOGGING, METRICS, STARLING, TOTP

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlingd.config.ini import Document
    from starlingd.config.problems import Problem
    from starlingd.config.schema import Values
    from starlingd.config.secrets import SecretSource
    from starlingd.core.provisioning import Loop
    from starlingd.core.rules import Rules

LONGEST_CA_FILE = 4 * 1024 * 1024
CLOUD = "cloud.oneidentity.com"
SUBSCRIPTION_URL = f"https://api.2fa.{CLOUD}"


@dataclass(frozen=True, slots=True)
class StarlingSettings:
    """How to reach the cloud service. URLs are ``https://host[:port]``; ``http_timeout`` is in seconds.

    With ``api_key``, the subscription key of the older service, there are neither client nor token URL.
    """

    client_id: str
    client_secret: Secret
    service_url: str
    token_url: str
    ca_file: Path | None
    http_timeout: float
    api_key: Secret | None = None


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """Who may use starlingctl for what, besides root: groups of this host."""

    operators: frozenset[str] = frozenset()
    helpdesk: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the configuration says. ``proxy`` is a URL that may hold a password: never log it."""

    starling: StarlingSettings | None
    """None where this host is the provider itself."""
    proxy: str | None = field(repr=False)
    log_level: str
    rules: Rules
    warnings: tuple[Problem, ...]
    control: ControlSettings = ControlSettings()
    loop: Loop | None = None
    totp_key: Secret | None = None
    metrics: str = ""
    """Where metrics are served; empty for nowhere."""


def _read_ca_file(path: Path) -> bytes:
    return regular.read(path, LONGEST_CA_FILE).content


def load(text: str, secrets: SecretSource, read_file: Callable[[Path], bytes] = _read_ca_file) -> Settings:
    """Make Settings of a configuration's text; raises ConfigError with every problem."""
    return build(ini.parse(text), secrets, Notes(), read_file)


def check(
    text: str, secrets: SecretSource | None, read_file: Callable[[Path], bytes] = _read_ca_file
) -> tuple[Problem, ...]:
    """Tell the warnings about a configuration's text; raises ConfigError. Without ``secrets`` no ``$`` is looked up."""
    return examine(ini.parse(text), secrets, Notes(), read_file)


def build(
    document: Document, secrets: SecretSource, notes: Notes, read_file: Callable[[Path], bytes] = _read_ca_file
) -> Settings:
    """Make Settings of a document against which ``notes`` may hold something already."""
    values = _values(document, secrets, notes, read_file)
    starling = _starling(values)
    if notes.problems:
        raise notes.error()
    control = ControlSettings(frozenset(values[CONTROL].operators), frozenset(values[CONTROL].helpdesk))
    return Settings(
        starling,
        _proxy(values),
        values[LOGGING].log_level,
        rules.make(values),
        notes.error().warnings,
        control,
        directory.loop(values),
        values[TOTP].key_,
        values[METRICS].listen,
    )


def examine(
    document: Document, secrets: SecretSource | None, notes: Notes, read_file: Callable[[Path], bytes] = _read_ca_file
) -> tuple[Problem, ...]:
    """Check a document against which ``notes`` may hold something already."""
    _values(document, secrets, notes, read_file)
    if notes.problems:
        raise notes.error()
    return notes.error().warnings


def _values(
    document: Document, secrets: SecretSource | None, notes: Notes, read_file: Callable[[Path], bytes]
) -> Values:
    values = reader.read(document, DEFINITION, secrets, notes)
    joint.check(values, notes, read_file)
    return values


def _starling(values: Values) -> StarlingSettings | None:
    form = values[STARLING]
    if form.api_key is not None:
        service = form.api_url or SUBSCRIPTION_URL
        return StarlingSettings("", Secret(""), service, "", form.ca_file, form.http_timeout, form.api_key)
    if form.credential is None:
        return None
    suffix = "" if form.environment == "prod" else f"-{form.environment}"
    return StarlingSettings(
        client_id=form.credential.client_id,
        client_secret=form.credential.client_secret,
        service_url=form.service_url or f"https://2faclient{suffix}.{CLOUD}",
        token_url=form.token_url or f"https://sts{suffix}.{CLOUD}",
        ca_file=form.ca_file,
        http_timeout=form.http_timeout,
    )


def _proxy(values: Values) -> str | None:
    form = values[HTTPS_PROXY]
    if form.server is None or not form.enabled:
        return None
    user = "" if form.username is None else quote(form.username, safe="")
    password = "" if form.password is None else ":" + quote(form.password.reveal(), safe="")
    return f"http://{user}{password}{'@' if user else ''}{form.server}:{form.port}"
