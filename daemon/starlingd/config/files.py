"""Configuration files: their bytes, whether their mode keeps what they hold, and how a new one is made."""

from __future__ import annotations

import grp
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from starlingd.config import ini, reader, regular, settings, vendor
from starlingd.config.problems import ConfigError, Notes, Problem
from starlingd.config.sections import DEFINITION

if TYPE_CHECKING:
    from starlingd.config.ini import Document
    from starlingd.config.secrets import SecretSource
    from starlingd.config.settings import Settings

FILE = Path("/etc/pam-starling/starling.conf")
LONGEST_FILE = 1024 * 1024
MODE = 0o640
DAEMON_GROUP = "starlingd"


def read(path: Path, secrets: SecretSource) -> Settings:
    """Make Settings of a file; raises ConfigError with every problem, that of the file's mode included."""
    document, notes = _open(path)
    return settings.build(document, secrets, notes)


def check_file(path: Path, secrets: SecretSource | None) -> tuple[Problem, ...]:
    """Tell the warnings about a file; raises ConfigError. Without ``secrets`` no ``$`` is looked up."""
    document, notes = _open(path)
    return settings.examine(document, secrets, notes)


def translate(path: Path) -> vendor.Outcome:
    """Translate a plugin configuration of the vendor's gateway; raises ConfigError when it cannot be read."""
    document, _ = _parse(path)
    return vendor.translate(document)


def write_new(path: Path, text: str) -> None:
    """Write a new configuration: mode 0640, for the daemon's group where there is one. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), MODE)
            if os.geteuid() == 0:
                os.fchown(stream.fileno(), 0, _daemon_group())
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        path.unlink()
        raise


def _daemon_group() -> int:
    try:
        return grp.getgrnam(DAEMON_GROUP).gr_gid
    except KeyError:
        return 0  # the package is not installed here


def _open(path: Path) -> tuple[Document, Notes]:
    document, mode = _parse(path)
    notes = Notes()
    _check_mode(path, mode, document, notes)
    return document, notes


def _parse(path: Path) -> tuple[Document, int]:
    try:
        file = regular.read(path, LONGEST_FILE)
        return ini.parse(file.content.decode()), file.mode
    except UnicodeDecodeError as error:
        line = file.content.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem("", "", f"{path} is not UTF-8: save it in that encoding", line)]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such name"
        raise ConfigError([Problem("", "", f"{path} cannot be read: {reason}")]) from None


def _check_mode(path: Path, mode: int, document: Document, notes: Notes) -> None:
    if mode & stat.S_IWOTH:
        notes.problem("", "", f"{path} may be written by everybody: chmod 0640 {path}")
    elif reader.holds_secret(document, DEFINITION) and mode & (stat.S_IROTH | stat.S_IWGRP):
        notes.problem("", "", f"{path} holds a secret that others may read or write: chmod 0640 {path}")
