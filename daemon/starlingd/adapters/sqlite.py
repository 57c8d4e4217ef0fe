"""The daemon's durable state: one SQLite file, used from one worker thread, each call one transaction.

WAL with ``synchronous=FULL``: what was promised survives a power cut. A file that is not ours, is a symlink, or comes
from a newer version is never touched; a damaged one is never replaced by an empty one.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlite_utils import Database
from sqlite_utils.db import Table

from starlingd.core.model import Factor, Fault, Process, Reason, Unavailable
from starlingd.core.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

BUSY_TIMEOUT = 2.0
"""Seconds to wait for a lock that somebody else (a backup, an administrator) holds."""
LONGEST_FAILURE_AGE = 86400.0
"""Seconds after which a push failure is dropped."""


# Plain SQL, since sqlite-utils' own create() commits, and a migration is one transaction.
_FIRST_SCHEMA = (
    """create table records (
        login_id text primary key, user text not null, service text not null,
        caller_pid integer not null, caller_start integer not null,
        parent_pid integer not null, parent_start integer not null,
        client_ip text not null, tty text not null, auth_info text not null,
        factor text not null, reason text not null, boot text not null, made real not null) strict""",
    "create table push_failures (user text not null, at real not null, denied integer not null) strict",
    "create index push_failures_by_user on push_failures (user)",
    "create index push_failures_by_age on push_failures (at)",
)
MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST_SCHEMA,)
"""Statements for each schema version, in order; each version is one transaction. Never change one that was released."""


class SqliteStore:
    """``ports.Store`` on ``path``. Every method must be called from the same thread; the file is opened by the first.

    After a failure the file is opened anew by the next call, so the store works again when its cause is gone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: Database | None = None

    def save_record(self, record: Record) -> None:
        """Keep a record."""
        with self._transaction() as database:
            Table(database, "records").insert(_row(record), replace=True)

    def forget_records(self, login_ids: Iterable[str]) -> None:
        """Forget records by login id."""
        with self._transaction() as database:
            database.conn.executemany("delete from records where login_id = ?", [(id_,) for id_ in login_ids])

    def records(self) -> list[Record]:
        """Tell all records."""
        with self._transaction() as database:
            return [_record(row) for row in Table(database, "records").rows]

    def add_push_failure(self, user: str, at: float, *, denied: bool) -> None:
        """Note a push that was denied or left unanswered; old ones are dropped on the way."""
        with self._transaction() as database:
            database.conn.execute("delete from push_failures where at < ?", (at - LONGEST_FAILURE_AGE,))
            Table(database, "push_failures").insert({"user": user, "at": at, "denied": int(denied)})

    def clear_push_failures(self, user: str) -> None:
        """Forget a user's push failures."""
        with self._transaction() as database:
            database.conn.execute("delete from push_failures where user = ?", (user,))

    def push_failures(self, since: float) -> Mapping[str, list[tuple[float, bool]]]:
        """Tell each user's push failures younger than ``since``, oldest first."""
        failures: dict[str, list[tuple[float, bool]]] = {}
        with self._transaction() as database:
            for row in Table(database, "push_failures").rows_where("at > ?", [since], order_by="at"):
                failures.setdefault(row["user"], []).append((row["at"], bool(row["denied"])))
        return failures

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.conn.close()
            self._database = None

    @contextmanager
    def _transaction(self) -> Iterator[Database]:
        """Run one transaction: the one place where the file's failures become Unavailable."""
        try:
            if self._database is None:
                self._database = _open(self._path)
            with self._database.conn:
                self._database.conn.execute("begin immediate")
                yield self._database
        except (sqlite3.Error, OSError, ValueError, KeyError) as error:
            self._drop()
            raise Unavailable("store", Fault.BROKEN, f"{self._path.name}: {_describe(error)}") from None

    def _drop(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            try:
                database.conn.close()
            except sqlite3.Error:
                return


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
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        database = Database(connection)
        _migrate(database)
    except BaseException:
        connection.close()
        raise
    return database


def _migrate(database: Database) -> None:
    version = database.conn.execute("pragma user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise sqlite3.DatabaseError(f"schema version {version} is newer than this daemon knows ({len(MIGRATIONS)})")
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        with database.conn:
            database.conn.execute("begin immediate")
            for statement in statements:
                database.conn.execute(statement)
            database.conn.execute(f"pragma user_version = {number}")


def _row(record: Record) -> dict[str, object]:
    return {
        "login_id": record.login_id,
        "user": record.user,
        "service": record.service,
        "caller_pid": record.caller.pid,
        "caller_start": record.caller.start,
        "parent_pid": record.parent.pid,
        "parent_start": record.parent.start,
        "client_ip": record.client_ip,
        "tty": record.tty,
        "auth_info": record.auth_info,
        "factor": str(record.factor),
        "reason": str(record.reason),
        "boot": record.boot,
        "made": record.made,
    }


def _record(row: dict[str, Any]) -> Record:
    values = dict(row)
    caller = Process(values.pop("caller_pid"), values.pop("caller_start"))
    parent = Process(values.pop("parent_pid"), values.pop("parent_start"))
    factor, reason = Factor(values.pop("factor")), Reason(values.pop("reason"))
    return Record(caller=caller, parent=parent, factor=factor, reason=reason, **values)


def _describe(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
