"""From the file's text to frozen Settings, or every problem at once.

``load`` is pure but for what it is handed: the secrets, and a way to read the file that ``ca_file`` names. Settings
that exist are valid.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlingd.config import ini, joint, reader, regular
from starlingd.config.problems import Notes
from starlingd.config.sections import ACCOUNT, AUTH, DEFINITION, EXPLICIT_MAPPING, HTTPS_PROXY, LOGGING, STARLING
from starlingd.core.rules import NUMBERED_PROMPT, VENDOR_PROMPT, Rules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlingd.config.ini import Document
    from starlingd.config.problems import Problem
    from starlingd.config.schema import Values
    from starlingd.config.secrets import Secret, SecretSource

LONGEST_CA_FILE = 4 * 1024 * 1024
CLOUD = "cloud.oneidentity.com"
SSHD = "sshd"


@dataclass(frozen=True, slots=True)
class StarlingSettings:
    """How to reach the cloud service. URLs are ``https://host[:port]``; ``http_timeout`` is in seconds."""

    client_id: str
    client_secret: Secret
    service_url: str
    token_url: str
    ca_file: Path | None
    http_timeout: float


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the configuration says. ``proxy`` is a URL that may hold a password: never log it."""

    starling: StarlingSettings
    proxy: str | None = field(repr=False)
    log_level: str
    rules: Rules
    warnings: tuple[Problem, ...]


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
    if notes.problems or starling is None:
        raise notes.error()
    return Settings(starling, _proxy(values), values[LOGGING].log_level, _rules(values), notes.error().warnings)


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


def _rules(values: Values) -> Rules:
    starling, auth, account = values[STARLING], values[AUTH], values[ACCOUNT]
    mapping = {user: identity for user, identity in values[EXPLICIT_MAPPING].users if identity}
    return Rules(
        prompt=auth.prompt or (NUMBERED_PROMPT if auth.push_number else VENDOR_PROMPT),
        disable_echo=auth.disable_echo,
        interactive_services=_services(auth.interactive_protocols),
        max_attempts=auth.max_attempts,
        permit_root=auth.permit_root,
        push_message=auth.push_message,
        push_number=auth.push_number,
        push_timeout=starling.timeout,
        push_limit=auth.push_limit,
        push_window=auth.push_window,
        poll_interval=starling.rest_poll_interval,
        without_second_factor=account.without_second_factor,
        account_push_timeout=account.push_timeout,
        explicit_mapping=MappingProxyType(mapping),
    )


def _services(protocols: tuple[str, ...]) -> frozenset[str]:
    """Tell the PAM services: the vendor's ``ssh`` is our sshd, and what no service here speaks is left out."""
    ours = (name for name in protocols if name.lower() not in joint.NOT_OURS)
    return frozenset(SSHD if name.lower() == "ssh" else name for name in ours)


def _proxy(values: Values) -> str | None:
    form = values[HTTPS_PROXY]
    if form.server is None or not form.enabled:
        return None
    user = "" if form.username is None else quote(form.username, safe="")
    password = "" if form.password is None else ":" + quote(form.password.reveal(), safe="")
    return f"http://{user}{password}{'@' if user else ''}{form.server}:{form.port}"
