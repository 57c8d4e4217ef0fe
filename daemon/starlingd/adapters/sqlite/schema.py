"""The state file's schema: statements for each version, in order; each version is one transaction.

Never change a version that was released. Plain SQL, since sqlite-utils' own create() commits.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

_RECORDS_AND_PUSHES = (
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
_GRACE_AND_SESSIONS = (
    "alter table records add column wall real not null default 0",
    "alter table records add column basis text not null default ''",
    "alter table records add column grace_key text not null default ''",
    """create table grace (
        user text not null, client_ip text not null, ssh_key text not null, service text not null,
        basis text not null,
        authenticated_wall real not null, authenticated_boottime real not null, authenticated_boot text not null,
        used_wall real not null, used_boottime real not null, used_boot text not null,
        reuses integer not null,
        primary key (user, client_ip, ssh_key, service)) strict, without rowid""",
    """create table reuses (
        login_id text primary key, user text not null, client_ip text not null, ssh_key text not null,
        service text not null,
        authenticated_wall real not null, authenticated_boottime real not null, authenticated_boot text not null,
        used_wall real not null, used_boottime real not null, used_boot text not null,
        before_wall real not null, before_boottime real not null, before_boot text not null) strict, without rowid""",
    """create table sessions (
        login_id text primary key, user text not null, service text not null, client_ip text not null,
        tty text not null, pid integer not null, start integer not null, boot text not null, since real not null,
        factor text not null, reason text not null) strict, without rowid""",
    """create table failures (
        user text not null, place text not null, at real not null, cleared integer not null default 0) strict""",
    "create index failures_by_user on failures (user, place)",
    "create index failures_by_age on failures (at)",
)
_ENROLMENTS = (
    """create table enrolments (
        user text primary key, identity text not null unique, phone text not null, email text not null,
        made real not null, disowned real not null default 0, seen real not null default 0,
        blocked integer not null default 0) strict, without rowid""",
    "create table veterans (user text primary key) strict, without rowid",
    """create table provisioning (
        one integer primary key check (one = 1), started real not null, complete integer not null,
        members integer not null) strict""",
)
_LOCAL_CODES = (
    """create table tokens (
        user text primary key, box blob not null, algorithm text not null, digits integer not null,
        step integer not null, made real not null, used integer not null, drift integer not null)
        strict, without rowid""",
    """create table recovery (
        user text not null, digest blob not null, salt blob not null,
        primary key (user, digest)) strict, without rowid""",
    """create table helpdesk (
        user text primary key, salt blob not null, digest blob not null, issued_by text not null,
        made real not null, boot text not null, valid real not null) strict, without rowid""",
)
MIGRATIONS: tuple[tuple[str, ...], ...] = (_RECORDS_AND_PUSHES, _GRACE_AND_SESSIONS, _ENROLMENTS, _LOCAL_CODES)


def migrate(database: Database) -> None:
    """Bring the file to the newest version; raises sqlite3.Error, and refuses a file from a newer daemon."""
    version = database.execute("pragma user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise sqlite3.DatabaseError(f"schema version {version} is newer than this daemon knows ({len(MIGRATIONS)})")
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        with database.conn:
            database.execute("begin immediate")
            for statement in statements:
                database.execute(statement)
            database.execute(f"pragma user_version = {number}")
