"""The state file: nothing foreign is touched, nothing damaged is replaced, and one bad row hides no other."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from starlingd.adapters.sqlite import MIGRATIONS, SqliteStore
from starlingd.core.model import Process
from starlingd.ports import Unavailable
from tests.contract.stores import KEY, LEASE, OTHER_KEY, RECORD, earn, reuses


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(path)
    yield made
    made.close()


def change(path: Path, *statements: str) -> None:
    """Do something to the file behind the store's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_it_is_made_for_its_owner_alone(store: SqliteStore, path: Path) -> None:
    store.save_record(RECORD)
    assert path.stat().st_mode & 0o777 == 0o600
    for other in path.parent.iterdir():
        assert other.stat().st_mode & 0o077 == 0, other


def test_what_was_kept_is_there_for_the_next_daemon(store: SqliteStore, path: Path) -> None:
    store.save_record(RECORD)
    earn(store)
    store.close()
    with closing(SqliteStore(path)) as again:
        assert again.records() == [RECORD]
        assert [lease.login_id for lease in again.sessions()] == ["earned"]
        assert reuses(again) == 0


def test_every_commit_is_on_disk(store: SqliteStore) -> None:
    with store._file.transaction() as database:  # noqa: SLF001  settings of a connection, not of the file
        assert database.execute("pragma synchronous").fetchone()[0] == 2
        assert database.execute("pragma journal_mode").fetchone()[0] == "wal"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_use_is_not_used(store: SqliteStore, path: Path, mode: int) -> None:
    path.touch()
    path.chmod(mode)
    with pytest.raises(Unavailable, match="nobody else may use"):
        store.records()
    path.chmod(0o600)
    assert store.records() == [], "and used when its cause is gone"


def test_a_symlink_is_not_followed(store: SqliteStore, path: Path) -> None:
    target = path.with_name("target")
    path.symlink_to(target)
    with pytest.raises(Unavailable):
        store.save_record(RECORD)
    assert not target.exists()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_regular_file_is_not_used(store: SqliteStore, path: Path, make: object) -> None:
    assert callable(make)
    make(path)
    path.chmod(0o600)
    with pytest.raises(Unavailable):
        store.records()


def test_a_file_of_a_newer_daemon_is_left_alone(store: SqliteStore, path: Path) -> None:
    store.save_record(RECORD)
    store.close()
    change(path, f"pragma user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(Unavailable, match="newer than this daemon"):
        store.records()
    change(path, f"pragma user_version = {len(MIGRATIONS)}")
    assert store.records() == [RECORD]


def test_a_damaged_file_is_never_replaced(store: SqliteStore, path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)
    path.chmod(0o600)
    for _ in range(2):
        with pytest.raises(Unavailable):
            store.save_record(RECORD)
    assert path.read_bytes() == b"this is no database" * 1000


def test_a_file_of_the_first_version_keeps_its_records(store: SqliteStore, path: Path) -> None:
    values = (
        "'one', 'alice', 'sshd', 50, 500, 40, 400, '198.51.100.7', 'ssh', '', 'push', 'push_approved', 'boot-1', 12.5"
    )
    change(path, *MIGRATIONS[0], f"insert into records values ({values})", "pragma user_version = 1")
    path.chmod(0o600)
    assert store.records() == [replace(RECORD, auth_info="", made=12.5)]
    earn(store)
    assert reuses(store) == 0


def test_a_lock_that_somebody_else_holds_is_an_outage_and_passes(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("starlingd.adapters.sqlite.file.BUSY_TIMEOUT", 0.01)
    store.save_record(RECORD)
    store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(Unavailable, match="locked"):
            store.save_record(RECORD)
        other.execute("rollback")
    store.save_record(replace(RECORD, login_id="two"))
    assert len(store.records()) == 2


# Rows and values that make no sense


def test_a_record_that_makes_no_sense_hides_no_other(store: SqliteStore, path: Path) -> None:
    for login_id in ("one", "two", "three"):
        store.save_record(replace(RECORD, login_id=login_id))
    change(path, "update records set reason = 'from the future' where login_id = 'one'")
    change(path, "update records set grace_key = '[1' where login_id = 'two'")
    assert [record.login_id for record in store.records()] == ["three"]


def test_a_session_that_makes_no_sense_hides_no_other(store: SqliteStore, path: Path) -> None:
    for login_id in ("one", "two"):
        store.open_session(replace(LEASE, login_id=login_id), None)
    change(path, "update sessions set factor = 'telepathy' where login_id = 'one'")
    assert [lease.login_id for lease in store.sessions()] == ["two"]


@pytest.mark.parametrize("pid", [2**63, -(2**63) - 1])
def test_a_number_that_no_row_can_hold_is_an_outage(store: SqliteStore, pid: int) -> None:
    with pytest.raises(Unavailable):
        store.save_record(replace(RECORD, caller=Process(pid, 1)))
    store.save_record(RECORD)
    assert store.records() == [RECORD]


# A disk that fails in the middle


def test_a_part_that_ends_the_whole_transaction_fails_all_of_it(store: SqliteStore, path: Path) -> None:
    """As a full disk does: SQLite rolls back everything, and what was answered before must not stand."""
    earn(store)
    change(path, "create trigger full before insert on failures begin select raise(rollback, 'disk full'); end")
    with pytest.raises(Unavailable):
        in_a_full_transaction(store)
    assert store.records() == []
    change(path, "drop trigger full")
    store.add_failure("alice", "here", 1000.0)
    assert len(store.failures(0.0)) == 1
    assert [key for key, _ in store.grace_entries()] == [KEY]


def in_a_full_transaction(store: SqliteStore) -> None:
    with store.together():
        store.save_record(RECORD)
        for _ in range(2):
            with pytest.raises(Unavailable):
                store.add_failure("alice", "here", 1000.0)
        with pytest.raises(Unavailable):
            store.save_record(replace(RECORD, login_id="after"))


def test_a_file_that_vanished_under_a_transaction_is_an_outage_for_all_of_it(store: SqliteStore, path: Path) -> None:
    path.mkdir()
    calls: list[str] = []
    with pytest.raises(Unavailable):
        count_calls(store, calls)
    assert calls == []


def count_calls(store: SqliteStore, calls: list[str]) -> None:
    with store.together():
        calls.append("made")


def test_a_damaged_page_is_an_outage_and_not_an_empty_cache(store: SqliteStore, path: Path) -> None:
    for number in range(200):
        earn(store, replace(OTHER_KEY, client_ip=f"192.0.2.{number}"), login_id=f"login {number}")
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(Unavailable):
        store.grace_entries()
    assert path.stat().st_size == size


def test_a_store_belongs_to_the_thread_that_opened_it(store: SqliteStore) -> None:
    store.save_record(RECORD)
    failures: list[Exception] = []

    def call() -> None:
        try:
            store.records()
        except Unavailable as outage:
            failures.append(outage)

    other = threading.Thread(target=call)
    other.start()
    other.join(5)
    assert len(failures) == 1
