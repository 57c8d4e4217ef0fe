"""The state file itself: opened with care, used from one thread, one transaction at a time.

WAL with ``synchronous=FULL``: what was promised survives a power cut. A file that is not ours, is a symlink, or comes
from a newer version is never touched; a damaged one is never replaced by an empty one.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlite_utils import Database

from starlingd.adapters.sqlite.schema import migrate
from starlingd.core.model import Fault, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSY_TIMEOUT = 2.0
"""Seconds to wait for a lock that somebody else (a backup, an administrator) holds."""
_FAILURES = (sqlite3.Error, OSError, ValueError, KeyError, TypeError, OverflowError)
"""What a file may fail with: those after OSError come from values and rows that make no sense."""


class StateFile:
    """The file at ``path``; opened by the first use, and anew by the next one after a failure."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: Database | None = None
        self._together = False

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """Run one transaction, or one part of the transaction that ``together`` runs; a part that fails is undone.

        This is the one place where the file's failures become Unavailable.
        """
        try:
            database = self._open()
            with _savepoint(database) if self._together else _committed(database):
                yield database
        except _FAILURES as error:
            # A part's failure may have ended the whole transaction (a full disk does); then all of it has failed.
            if not (self._together and self._database is not None and self._database.conn.in_transaction):
                self.close()
            raise self._unavailable(error) from None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run several transactions as one, on disk at the end. Raises Unavailable, and then none of them happened."""
        try:
            with _committed(self._open()):
                self._together = True
                try:
                    yield
                finally:
                    self._together = False
                if self._database is None or not self._database.conn.in_transaction:
                    raise sqlite3.OperationalError("the transaction was rolled back")
        except _FAILURES as error:
            self.close()
            raise self._unavailable(error) from None

    def close(self) -> None:
        """Close the file."""
        database, self._database = self._database, None
        if database is not None:
            try:
                database.conn.close()
            except sqlite3.Error:
                return

    def _open(self) -> Database:
        if self._database is None:
            if self._together:
                raise sqlite3.OperationalError("the transaction was rolled back")
            self._database = _open(self._path)
        return self._database

    def _unavailable(self, error: BaseException) -> Unavailable:
        text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        return Unavailable("store", Fault.BROKEN, f"{self._path.name}: {text}")


@contextmanager
def _committed(database: Database) -> Iterator[None]:
    with database.conn:
        database.execute("begin immediate")
        yield


@contextmanager
def _savepoint(database: Database) -> Iterator[None]:
    database.execute("savepoint part")
    try:
        yield
    except BaseException:
        if database.conn.in_transaction:
            database.execute("rollback to part")
            database.execute("release part")
        raise
    database.execute("release part")


def _open(path: Path) -> Database:
    """Open or make the file; raises OSError for one that cannot be ours, sqlite3.Error for what SQLite finds."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise OSError(f"must be a regular file of uid {os.geteuid()} that nobody else may use")
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("pragma synchronous = full")
        database = Database(connection)
        migrate(database)
        connection.execute("pragma journal_mode = wal")  # not before: a newer version's file is not touched
    except BaseException:
        connection.close()
        raise
    return database
