"""The daemon's durable state: one SQLite file, used from one worker thread, each call one transaction.

Writing is plain SQL through sqlite-utils: its own insert() commits whatever transaction is open.
"""

from __future__ import annotations

import sqlite3
from dataclasses import asdict
from typing import TYPE_CHECKING

from starlingd.adapters.sqlite import rows
from starlingd.adapters.sqlite.file import StateFile
from starlingd.adapters.sqlite.schema import MIGRATIONS
from starlingd.core import grace
from starlingd.core.enrolment import Enrolment, LoopState
from starlingd.core.localcodes import HelpdeskCode, Recovery
from starlingd.core.model import Check
from starlingd.core.otp import Over
from starlingd.core.records import FRESH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlite_utils import Database

    from starlingd.core.failures import Failure
    from starlingd.core.grace import Entry, Key, Miss, Moment
    from starlingd.core.otp import Token
    from starlingd.core.records import Lease, Record
    from starlingd.core.rules import Grace

__all__ = ["MIGRATIONS", "SqliteStore"]

LONGEST_FAILURE_AGE = 86400.0
"""Seconds after which a push failure or a wrong code is dropped."""
_MOMENT = ("wall", "boottime", "boot")
_SAME_ENTRY = " and ".join(f"authenticated_{part} = :authenticated_{part}" for part in _MOMENT)
_SAME_USE = " and ".join(f"used_{part} = :used_{part}" for part in _MOMENT)
_USED_BEFORE = ", ".join(f"used_{part} = :before_{part}" for part in _MOMENT)
_AFTER_IT = " and ".join(f"before_{part} = :used_{part}" for part in _MOMENT)
_BEFORE_THAT = ", ".join(f"before_{part} = :before_{part}" for part in _MOMENT)
_KEY = "user = :user and client_ip = :client_ip and ssh_key = :ssh_key and service = :service"


class SqliteStore:
    """``ports.Store`` on ``path``. Every method must be called from the same thread; the file is opened by the first.

    After a failure the file is opened anew by the next call, so the store works again when its cause is gone.
    """

    def __init__(self, path: Path) -> None:
        self._file = StateFile(path)

    def together(self) -> AbstractContextManager[None]:
        """Make the calls within one transaction."""
        return self._file.together()

    def save_record(self, record: Record) -> None:
        """Keep a record."""
        with self._file.transaction() as database:
            _put(database, "records", rows.record_row(record))

    def forget_records(self, login_ids: Iterable[str]) -> None:
        """Forget records, and give back what they had reused."""
        ids = list(login_ids)
        with self._file.transaction() as database:
            for login_id in ids:
                database.execute("delete from records where login_id = ?", [login_id])
                _give_back(database, login_id)

    def records(self) -> list[Record]:
        """Tell all records."""
        with self._file.transaction() as database:
            return rows.readable(rows.record, database.query("select * from records"))

    def give_back_orphans(self) -> None:
        """Give back what logins had reused whose record was never kept: the daemon died in between."""
        orphans = "select login_id from reuses where login_id not in (select login_id from records)"
        with self._file.transaction() as database:
            for row in list(database.query(orphans)):
                _give_back(database, row["login_id"])

    def open_session(self, lease: Lease, earned: tuple[Key, Entry] | None) -> None:
        """Turn a record into a session, and write the grace entry it earned."""
        with self._file.transaction() as database:
            database.execute("delete from records where login_id = ?", [lease.login_id])
            database.execute("delete from reuses where login_id = ?", [lease.login_id])
            _put(database, "sessions", rows.lease_row(lease))
            if lease.factor in FRESH:
                _put(database, "veterans", {"user": lease.user})
            if earned:
                key, entry = earned
                _put(database, "grace", {**rows.key_row(key), **rows.entry_row(entry)})

    def close_sessions(self, login_ids: Iterable[str]) -> None:
        """Forget sessions."""
        ids = [(login_id,) for login_id in login_ids]
        with self._file.transaction() as database:
            database.conn.executemany("delete from sessions where login_id = ?", ids)

    def sessions(self) -> list[Lease]:
        """Tell all sessions."""
        with self._file.transaction() as database:
            return rows.readable(rows.lease, database.query("select * from sessions"))

    def reuse(self, login_id: str, key: Key, basis: str, rule: Grace, now: Moment) -> Entry | Miss:
        """Judge an entry and take one reuse of it, for the login ``login_id``."""
        with self._file.transaction() as database:
            before = _entry(database, key)
            found = grace.judge(before, basis, rule, now)
            if before is not None and isinstance(found, grace.Entry):
                _put(database, "grace", {**rows.key_row(key), **rows.entry_row(found)})
                _put(database, "reuses", rows.reuse_row(login_id, key, before, found))
            return found

    def grace_entry(self, key: Key) -> Entry | None:
        """Tell one entry."""
        with self._file.transaction() as database:
            return _entry(database, key)

    def grace_entries(self) -> list[tuple[Key, Entry]]:
        """Tell all entries."""
        with self._file.transaction() as database:
            found = database.query("select * from grace order by user, client_ip, ssh_key, service")
            return rows.readable(lambda row: (rows.key(row), rows.entry(row)), found)

    def forget_grace(self, keys: Iterable[Key]) -> None:
        """Forget entries by their keys."""
        wanted = [rows.key_row(key) for key in keys]
        with self._file.transaction() as database:
            database.conn.executemany(f"delete from grace where {_KEY}", wanted)

    def forget_grace_of(self, user: str) -> None:
        """Forget all entries of a user."""
        with self._file.transaction() as database:
            database.execute("delete from grace where user = ?", [user])

    def forget_grace_before(self, wall: float) -> None:
        """Forget entries whose authentication is older than wall-clock time ``wall``."""
        with self._file.transaction() as database:
            database.execute("delete from grace where authenticated_wall < ?", [wall])

    def add_push_failure(self, user: str, at: float, *, denied: bool) -> None:
        """Note a push that was denied or left unanswered; old ones are dropped on the way."""
        with self._file.transaction() as database:
            database.execute("delete from push_failures where at < ?", [at - LONGEST_FAILURE_AGE])
            database.execute("insert into push_failures values (?, ?, ?)", [user, at, int(denied)])

    def clear_push_failures(self, user: str) -> None:
        """Forget a user's push failures."""
        with self._file.transaction() as database:
            database.execute("delete from push_failures where user = ?", [user])

    def push_failures(self, since: float) -> Mapping[str, list[tuple[float, bool]]]:
        """Tell each user's push failures younger than ``since``, oldest first."""
        failures: dict[str, list[tuple[float, bool]]] = {}
        with self._file.transaction() as database:
            for row in database.query("select * from push_failures where at > ? order by at", [since]):
                failures.setdefault(row["user"], []).append((row["at"], bool(row["denied"])))
        return failures

    def add_failure(self, user: str, place: str, at: float) -> None:
        """Note a wrong code; old ones are dropped on the way."""
        with self._file.transaction() as database:
            database.execute("delete from failures where at < ?", [at - LONGEST_FAILURE_AGE])
            database.execute("insert into failures (user, place, at) values (?, ?, ?)", [user, place, at])

    def clear_failures(self, user: str, place: str) -> None:
        """Let the wrong codes of a user at a place count for the day's ceiling only."""
        with self._file.transaction() as database:
            database.execute("update failures set cleared = 1 where user = ? and place = ?", [user, place])

    def forget_failures(self, user: str) -> None:
        """Forget a user's wrong codes."""
        with self._file.transaction() as database:
            database.execute("delete from failures where user = ?", [user])

    def failures(self, since: float) -> list[Failure]:
        """Tell the wrong codes younger than ``since``, oldest first: (user, place, wall-clock time, cleared)."""
        with self._file.transaction() as database:
            found = database.query("select * from failures where at > ? order by at", [since])
            return [(row["user"], row["place"], row["at"], bool(row["cleared"])) for row in found]

    def enrolment(self, user: str) -> Enrolment | None:
        """Tell how somebody is enrolled."""
        with self._file.transaction() as database:
            found = database.query("select * from enrolments where user = ?", [user])
            return next((rows.enrolment(row) for row in found), None)

    def enrolments(self) -> list[Enrolment]:
        """Tell all enrolments."""
        with self._file.transaction() as database:
            return [rows.enrolment(row) for row in database.query("select * from enrolments order by user")]

    def save_enrolment(self, enrolment: Enrolment) -> str:
        """Keep an enrolment, unless its id is bound to somebody else already."""
        with self._file.transaction() as database:
            found = database.query("select user from enrolments where identity = ?", [enrolment.identity])
            owner = next((str(row["user"]) for row in found), enrolment.user)
            if owner == enrolment.user:
                _put(database, "enrolments", asdict(enrolment) | {"blocked": int(enrolment.blocked)})
                _put(database, "veterans", {"user": enrolment.user})
            return owner

    def forget_enrolment(self, user: str) -> None:
        """Forget how somebody is enrolled."""
        with self._file.transaction() as database:
            database.execute("delete from enrolments where user = ?", [user])

    def had_second_factor(self, user: str) -> bool:
        """Tell whether somebody ever had a second factor here."""
        with self._file.transaction() as database:
            return _is_veteran(database, user)

    def enrolments_of(self, users: Iterable[str]) -> Mapping[str, Enrolment]:
        """Tell how these users are enrolled."""
        found: dict[str, Enrolment] = {}
        with self._file.transaction() as database:
            for user in users:
                for row in database.query("select * from enrolments where user = ?", [user]):
                    found[user] = rows.enrolment(row)
        return found

    def mark_seen(self, users: Iterable[str], at: float) -> None:
        """Note who is in the loop's groups."""
        with self._file.transaction() as database:
            database.conn.executemany("update enrolments set seen = ? where user = ?", [(at, user) for user in users])

    def not_seen_since(self, at: float) -> list[str]:
        """Tell who was in the loop's groups and is no more."""
        left = "select user from enrolments where seen > 0 and seen < ? and not blocked order by user"
        with self._file.transaction() as database:
            return [row["user"] for row in database.query(left, [at])]

    def block(self, users: Iterable[str], *, blocked: bool) -> None:
        """Block enrolments, or no more."""
        wanted = [(int(blocked), user) for user in users]
        with self._file.transaction() as database:
            database.conn.executemany("update enrolments set blocked = ? where user = ?", wanted)

    def provisioning_state(self) -> LoopState:
        """Tell what the loop remembers."""
        with self._file.transaction() as database:
            for row in database.query("select * from provisioning"):
                return LoopState(row["started"], bool(row["complete"]), row["members"])
        return LoopState()

    def save_provisioning_state(self, state: LoopState) -> None:
        """Keep what the loop remembers."""
        row = {"one": 1, "started": state.started, "complete": int(state.complete), "members": state.members}
        with self._file.transaction() as database:
            _put(database, "provisioning", row)

    def token(self, user: str) -> Token | None:
        """Tell somebody's app."""
        with self._file.transaction() as database:
            return _token(database, user)

    def tokens(self) -> list[Token]:
        """Tell all apps."""
        with self._file.transaction() as database:
            return rows.readable(rows.token, database.query("select * from tokens order by user"))

    def save_token(self, token: Token, over: Over) -> bool:
        """Keep an app."""
        with self._file.transaction() as database:
            if over is not Over.ANY and _token(database, token.user) is not None:
                return False
            if over is Over.NOTHING and _is_veteran(database, token.user):
                return False
            _put(database, "tokens", rows.token_row(token))
            _put(database, "veterans", {"user": token.user})
            return True

    def forget_token(self, user: str) -> bool:
        """Forget an app."""
        return self._forget("tokens", user)

    def use_token(self, user: str, judge: Callable[[Token], tuple[Check, Token]]) -> Check:
        """Check a code and use it up, in one transaction."""
        with self._file.transaction() as database:
            before = _token(database, user)
            if before is None:
                return Check.NOT_ENROLLED
            check, after = judge(before)
            if after != before:
                _put(database, "tokens", rows.token_row(after))
            return check

    def reseal_tokens(self, seal: Callable[[Token], Token], after: str, most: int) -> list[str]:
        """Replace some apps."""
        next_ones = "select * from tokens where user > ? order by user limit ?"
        with self._file.transaction() as database:
            found = [rows.token(row) for row in database.query(next_ones, [after, most])]
            for token in found:
                _put(database, "tokens", rows.token_row(seal(token)))
            return [token.user for token in found]

    def recovery(self, user: str) -> Recovery | None:
        """Tell what is kept of recovery codes."""
        with self._file.transaction() as database:
            found = list(database.query("select salt, digest from recovery where user = ?", [user]))
            return Recovery(found[0]["salt"], frozenset(row["digest"] for row in found)) if found else None

    def save_recovery(self, user: str, kept: Recovery) -> None:
        """Keep recovery codes in place of the old ones."""
        with self._file.transaction() as database:
            database.execute("delete from recovery where user = ?", [user])
            _put(database, "veterans", {"user": user})
            for digest in kept.digests:
                _put(database, "recovery", {"user": user, "digest": digest, "salt": kept.salt})

    def use_recovery(self, user: str, digest: bytes) -> int | None:
        """Use up a recovery code."""
        with self._file.transaction() as database:
            used = database.execute("delete from recovery where user = ? and digest = ?", [user, digest])
            if not used.rowcount:
                return None
            left: int = database.execute("select count(*) from recovery where user = ?", [user]).fetchone()[0]
            return left

    def forget_recovery(self, user: str) -> bool:
        """Forget recovery codes."""
        return self._forget("recovery", user)

    def helpdesk_code(self, user: str) -> HelpdeskCode | None:
        """Tell a helpdesk code."""
        with self._file.transaction() as database:
            return _helpdesk_code(database, user)

    def save_helpdesk_code(self, code: HelpdeskCode) -> None:
        """Keep a helpdesk code in place of the old one."""
        with self._file.transaction() as database:
            _put(database, "helpdesk", asdict(code))

    def forget_helpdesk_code(self, user: str) -> bool:
        """Forget a helpdesk code."""
        return self._forget("helpdesk", user)

    def use_helpdesk_code(self, user: str, digest: bytes) -> HelpdeskCode | None:
        """Use up a helpdesk code."""
        with self._file.transaction() as database:
            code = _helpdesk_code(database, user)
            used = database.execute("delete from helpdesk where user = ? and digest = ?", [user, digest])
            return code if used.rowcount else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _forget(self, table: str, user: str) -> bool:
        with self._file.transaction() as database:
            return bool(database.execute(f"delete from {table} where user = ?", [user]).rowcount)


def _is_veteran(database: Database, user: str) -> bool:
    return any(True for _ in database.query("select user from veterans where user = ?", [user]))


def _token(database: Database, user: str) -> Token | None:
    """Find an app; a row that makes no sense raises, since to take it for none would offer a new enrolment."""
    for row in database.query("select * from tokens where user = ?", [user]):
        try:
            return rows.token(row)
        except (ValueError, KeyError, TypeError) as error:
            raise sqlite3.DatabaseError(f"the app of a user makes no sense: {error}") from None
    return None


def _helpdesk_code(database: Database, user: str) -> HelpdeskCode | None:
    return next((HelpdeskCode(**row) for row in database.query("select * from helpdesk where user = ?", [user])), None)


def _put(database: Database, table: str, row: rows.Row) -> None:
    names = ", ".join(row)
    values = ", ".join(f":{name}" for name in row)
    database.execute(f"insert or replace into {table} ({names}) values ({values})", row)


def _entry(database: Database, key: Key) -> Entry | None:
    found = rows.readable(rows.entry, database.query(f"select * from grace where {_KEY}", rows.key_row(key)))
    return found[0] if found else None


def _give_back(database: Database, login_id: str) -> None:
    """Give back the reuse that a login took and no session followed, and the time of its use unless another came.

    An entry that a real authentication has replaced since owes nothing.
    """
    for row in list(database.query("select * from reuses where login_id = ?", [login_id])):
        database.execute(f"update grace set reuses = max(0, reuses - 1) where {_KEY} and {_SAME_ENTRY}", row)
        database.execute(f"update grace set {_USED_BEFORE} where {_KEY} and {_SAME_ENTRY} and {_SAME_USE}", row)
        # Whoever came next remembers this use as the one before.
        database.execute(f"update reuses set {_BEFORE_THAT} where {_KEY} and {_SAME_ENTRY} and {_AFTER_IT}", row)
        database.execute("delete from reuses where login_id = ?", [login_id])
