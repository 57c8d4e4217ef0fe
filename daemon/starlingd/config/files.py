"""Reading starling.conf from its file: its bytes, and whether its mode keeps what it holds."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from starlingd.config import ini, reader, regular, settings
from starlingd.config.problems import ConfigError, Notes, Problem
from starlingd.config.sections import DEFINITION

if TYPE_CHECKING:
    from starlingd.config.ini import Document
    from starlingd.config.secrets import SecretSource
    from starlingd.config.settings import Settings

FILE = Path("/etc/pam-starling/starling.conf")
LONGEST_FILE = 1024 * 1024


def read(path: Path, secrets: SecretSource) -> Settings:
    """Make Settings of a file; raises ConfigError with every problem, that of the file's mode included."""
    document, notes = _open(path)
    return settings.build(document, secrets, notes)


def check_file(path: Path, secrets: SecretSource | None) -> tuple[Problem, ...]:
    """Tell the warnings about a file; raises ConfigError. Without ``secrets`` no ``$`` is looked up."""
    document, notes = _open(path)
    return settings.examine(document, secrets, notes)


def _open(path: Path) -> tuple[Document, Notes]:
    try:
        file = regular.read(path, LONGEST_FILE)
        document = ini.parse(file.content.decode())
    except UnicodeDecodeError as error:
        line = file.content.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem("", "", f"{path} is not UTF-8: save it in that encoding", line)]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such name"
        raise ConfigError([Problem("", "", f"{path} cannot be read: {reason}")]) from None
    notes = Notes()
    _check_mode(path, file.mode, document, notes)
    return document, notes


def _check_mode(path: Path, mode: int, document: Document, notes: Notes) -> None:
    if mode & stat.S_IWOTH:
        notes.problem("", "", f"{path} may be written by everybody: chmod 0640 {path}")
    elif reader.holds_secret(document, DEFINITION) and mode & (stat.S_IROTH | stat.S_IWGRP):
        notes.problem("", "", f"{path} holds a secret that others may read or write: chmod 0640 {path}")
