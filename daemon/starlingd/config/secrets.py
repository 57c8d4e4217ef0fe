"""Secrets: the type that never shows itself, and the places where a value of ``$`` is looked up.

No message made here may hold a secret; a place with the wrong owner or mode counts as none, with an error that says so.
"""

from __future__ import annotations

import hmac
import os
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from starlingd.config import regular

if TYPE_CHECKING:
    from collections.abc import Mapping

CREDENTIALS = Path("/etc/pam-starling/credentials")
LONGEST_SECRET = 64 * 1024


class Secret:
    """A string that shows itself only to who asks for it by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Give the secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not written anywhere")


class SecretMissingError(Exception):
    """A secret that cannot be had; the sentence says which file to make, or what is wrong with it."""


class SecretSource(Protocol):
    """Where the value of a key that says ``$`` is kept."""

    def find(self, section: str, option: str) -> str:
        """Give the secret of a section's option; raises SecretMissingError."""


class KnownSecrets:
    """Secrets handed in, by ``section.option``: for tests."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets = secrets

    def find(self, section: str, option: str) -> str:
        """Give the secret that was handed in."""
        try:
            return self._secrets[f"{section}.{option}"]
        except KeyError:
            raise SecretMissingError(f"no secret is known for {section}.{option}") from None


class ServiceCredentials:
    """The credentials that systemd handed to this service; ``directory`` is its $CREDENTIALS_DIRECTORY, or None."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def find(self, section: str, option: str) -> str:
        """Read ``conf_<section>.<option>``, else ``<section>.<option>``."""
        name = _file_name(section, option)
        advice = f"write the secret to {CREDENTIALS / name} (root, mode 0600) and restart starlingd.service"
        if self._directory is None:
            raise SecretMissingError(f"systemd handed over no credentials: {advice}")
        for path in (self._directory / f"conf_{name}", self._directory / name):
            try:
                return _content(regular.read(path, LONGEST_SECRET).content, path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise SecretMissingError(f"credential {path.name} cannot be read: {error.strerror}") from None
        raise SecretMissingError(f"is found nowhere: {advice}")


class AdministratorFiles:
    """The files that the administrator keeps for the service, which only ``owner`` may read."""

    def __init__(self, directory: Path = CREDENTIALS, owner: int = 0) -> None:
        self._directory = directory
        self._owner = owner

    def find(self, section: str, option: str) -> str:
        """Read ``<section>.<option>``, if nobody but its owner can."""
        path = self._directory / _file_name(section, option)
        try:
            file = regular.read(path, LONGEST_SECRET)
        except FileNotFoundError:
            raise SecretMissingError(f"is found nowhere: write the secret to {path} (root, mode 0600)") from None
        except OSError as error:
            raise SecretMissingError(
                f"{path} cannot be read ({error.strerror}): run this as root, or with --without-secrets"
            ) from None
        if file.owner != self._owner or stat.S_IMODE(file.mode) & 0o177:
            quoted = shlex.quote(str(path))
            raise SecretMissingError(f"must be root's alone: chown root {quoted} && chmod 0600 {quoted}")
        return _content(file.content, path)


def daemon_secrets() -> SecretSource:
    """Make the source for the daemon, from its environment."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return ServiceCredentials(Path(directory) if directory else None)


def _file_name(section: str, option: str) -> str:
    name = f"{section}.{option}"
    if "/" in name or not name.isprintable():
        raise SecretMissingError("this name cannot be that of a file: write the value itself instead of $")
    return name


def _content(content: bytes, path: Path) -> str:
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretMissingError(f"credential {path.name} is not UTF-8: write it anew") from None
    if not text:
        raise SecretMissingError(f"credential {path.name} is empty: write the secret into it")
    return text
