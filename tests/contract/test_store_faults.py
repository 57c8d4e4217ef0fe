"""Every method of the SQLite store on a file or a disk that fails: an outage, never a crash and never half a change."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from starlingd.adapters.sqlite import MIGRATIONS, SqliteStore
from starlingd.core.enrolment import Enrolment, LoopState
from starlingd.core.localcodes import HelpdeskCode, Recovery
from starlingd.core.model import Check
from starlingd.core.otp import Over, Token
from starlingd.ports import Fault, Store, Unavailable
from tests.contract.stores import ENTRY, KEY, LEASE, NOW, RECORD, RULE, earn, later

ALICE = Enrolment("alice", "7", "+15551234567", "alice@example.org", made=1.0, seen=5.0)
BOB = Enrolment("bob", "8", "+15551234568", "bob@example.org", made=2.0)
APP = Token("alice", b"box")
CODE = HelpdeskCode("alice", b"salt", b"digest", "root", 1234.5, "boot-1", 900.0)
READS: dict[str, Callable[[Store], object]] = {
    "records": lambda store: store.records(),
    "sessions": lambda store: store.sessions(),
    "grace_entry": lambda store: store.grace_entry(KEY),
    "grace_entries": lambda store: store.grace_entries(),
    "push_failures": lambda store: store.push_failures(0.0),
    "failures": lambda store: store.failures(0.0),
    "enrolment": lambda store: store.enrolment("alice"),
    "enrolments": lambda store: store.enrolments(),
    "had_second_factor": lambda store: store.had_second_factor("alice"),
    "enrolments_of": lambda store: store.enrolments_of(["alice"]),
    "not_seen_since": lambda store: store.not_seen_since(6.0),
    "provisioning_state": lambda store: store.provisioning_state(),
    "token": lambda store: store.token("alice"),
    "tokens": lambda store: store.tokens(),
    "recovery": lambda store: store.recovery("alice"),
    "helpdesk_code": lambda store: store.helpdesk_code("alice"),
}
WRITES: dict[str, Callable[[Store], object]] = {
    "save_record": lambda store: store.save_record(replace(RECORD, login_id="two")),
    "forget_records": lambda store: store.forget_records(["one"]),
    "give_back_orphans": lambda store: store.give_back_orphans(),
    "open_session": lambda store: store.open_session(LEASE, (KEY, ENTRY)),
    "close_sessions": lambda store: store.close_sessions(["earned"]),
    "reuse": lambda store: store.reuse("again", KEY, ENTRY.basis, RULE, later(2)),
    "forget_grace": lambda store: store.forget_grace([KEY]),
    "forget_grace_of": lambda store: store.forget_grace_of("alice"),
    "forget_grace_before": lambda store: store.forget_grace_before(NOW.wall + 100),
    "add_push_failure": lambda store: store.add_push_failure("alice", NOW.wall + 1, denied=False),
    "clear_push_failures": lambda store: store.clear_push_failures("alice"),
    "add_failure": lambda store: store.add_failure("alice", "here", NOW.wall + 1),
    "clear_failures": lambda store: store.clear_failures("alice", "here"),
    "forget_failures": lambda store: store.forget_failures("alice"),
    "save_enrolment": lambda store: store.save_enrolment(BOB),
    "forget_enrolment": lambda store: store.forget_enrolment("alice"),
    "mark_seen": lambda store: store.mark_seen(["alice"], 9.0),
    "block": lambda store: store.block(["alice"], blocked=True),
    "save_provisioning_state": lambda store: store.save_provisioning_state(LoopState(5.0)),
    "save_token": lambda store: store.save_token(replace(APP, user="bob"), Over.NO_APP),
    "forget_token": lambda store: store.forget_token("alice"),
    "use_token": lambda store: store.use_token("alice", lambda token: (Check.RIGHT, replace(token, used=9))),
    "reseal_tokens": lambda store: store.reseal_tokens(lambda token: replace(token, box=b"other"), "", 9),
    "save_recovery": lambda store: store.save_recovery("bob", Recovery(b"salt", frozenset({b"one"}))),
    "use_recovery": lambda store: store.use_recovery("alice", b"one"),
    "forget_recovery": lambda store: store.forget_recovery("alice"),
    "save_helpdesk_code": lambda store: store.save_helpdesk_code(replace(CODE, user="bob")),
    "forget_helpdesk_code": lambda store: store.forget_helpdesk_code("alice"),
    "use_helpdesk_code": lambda store: store.use_helpdesk_code("alice", b"digest"),
}
CALLS = READS | WRITES
LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("begin immediate")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Offer a disk of one mebibyte."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", mounted)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", mounted], check=True)


@pytest.fixture
def store(disk: Path) -> Iterator[SqliteStore]:
    """Offer a store that holds something of everything."""
    with closing(SqliteStore(disk / "state.db")) as made:
        fill(made)
        yield made


@pytest.fixture
def path(disk: Path) -> Path:
    return disk / "state.db"


def fill(store: Store) -> None:
    store.save_record(RECORD)
    earn(store)
    store.reuse("orphan", KEY, ENTRY.basis, RULE, later(1))
    store.add_push_failure("alice", NOW.wall, denied=True)
    store.add_failure("alice", "here", NOW.wall)
    store.save_enrolment(ALICE)
    store.save_provisioning_state(LoopState(3.0, complete=False, members=9))
    store.save_token(APP, Over.NO_APP)
    store.save_recovery("alice", Recovery(b"salt", frozenset({b"one"})))
    store.save_helpdesk_code(CODE)


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


def content(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        version = connection.execute("pragma user_version").fetchone()[0]
        return [f"version {version}", *connection.iterdump()]


def outage_of(call: Callable[[Store], object], store: Store) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        call(store)
    assert (caught.value.port, caught.value.fault) == ("store", Fault.BROKEN)
    return caught.value


def fill_up(disk: Path) -> Path:
    """Leave no byte on the disk."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        file.write(b"x" * shutil.disk_usage(disk).free)
    assert shutil.disk_usage(disk).free == 0
    return filler


def test_no_method_of_the_port_is_left_out() -> None:
    methods = {name for name, value in vars(Store).items() if callable(value) and not name.startswith("_")}
    assert methods == {*CALLS, "together"}


@pytest.mark.parametrize("name", WRITES)
def test_each_write_changes_something(store: SqliteStore, path: Path, name: str) -> None:
    """Else what follows would prove nothing."""
    before = content(path)
    WRITES[name](store)
    assert content(path) != before


# A file that cannot be used at all


@contextmanager
def locked(path: Path) -> Iterator[None]:
    command = [sys.executable, "-c", LOCK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "locked\n"
        yield
        other.stdin.close()


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    mount("-o", "remount,ro", path.parent)
    yield
    mount("-o", "remount,rw", path.parent)


@contextmanager
def replaced(path: Path, data: bytes) -> Iterator[None]:
    good = path.read_bytes()
    path.write_bytes(data)
    yield
    assert path.read_bytes() == data, "whatever it is, it is not the store's to change"
    for left in path.parent.iterdir():
        left.unlink()
    path.touch(0o600)
    path.write_bytes(good)


def junk(path: Path) -> AbstractContextManager[None]:
    return replaced(path, b"this is no database" * 1000)


def damaged(path: Path) -> AbstractContextManager[None]:
    good = path.read_bytes()
    return replaced(path, good[:4096] + b"\xff" * (len(good) - 4096))


@contextmanager
def newer(path: Path) -> Iterator[None]:
    set_version(path, len(MIGRATIONS) + 1)
    yield
    set_version(path, len(MIGRATIONS))


def set_version(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"pragma user_version = {version}")


@pytest.mark.parametrize("fault", [locked, read_only, junk, damaged, newer])
@pytest.mark.parametrize("name", CALLS)
def test_every_method_says_so_changes_nothing_and_works_again(
    store: SqliteStore,
    path: Path,
    name: str,
    fault: Callable[[Path], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("starlingd.adapters.sqlite.file.BUSY_TIMEOUT", 0.0)
    store.close()
    before = content(path)
    with fault(path):
        outage_of(CALLS[name], store)
        outage_of(partial(in_one_transaction, CALLS[name]), store)
        store.close()
    assert content(path) == before
    CALLS[name](store)
    assert (content(path) != before) is (name in WRITES)


def in_one_transaction(call: Callable[[Store], object], store: Store) -> None:
    with store.together():
        call(store)


# A disk that is full


@pytest.mark.parametrize("name", WRITES)
def test_what_a_full_disk_cannot_keep_is_refused_and_leaves_nothing(
    store: SqliteStore, disk: Path, path: Path, name: str
) -> None:
    before = content(path)
    filler = fill_up(disk)
    assert "full" in outage_of(WRITES[name], store).detail
    filler.unlink()
    assert content(path) == before
    WRITES[name](store)
    assert content(path) != before


@pytest.mark.parametrize("name", READS)
def test_what_is_kept_can_be_told_from_a_full_disk(store: SqliteStore, disk: Path, name: str) -> None:
    before = READS[name](store)
    assert before
    fill_up(disk)
    assert READS[name](store) == before


def test_of_a_transaction_that_does_not_fit_nothing_is_kept(store: SqliteStore, disk: Path, path: Path) -> None:
    before = content(path)
    filler = fill_up(disk)
    assert "full" in outage_of(all_in_one, store).detail
    filler.unlink()
    assert content(path) == before


def all_in_one(store: Store) -> None:
    with store.together():
        for call in WRITES.values():
            call(store)


def test_a_full_disk_has_no_half_of_a_new_file(disk: Path, path: Path) -> None:
    """However little room there is: it is an outage, and with more room the file is made."""
    filler = fill_up(disk)
    with closing(SqliteStore(path)) as store:
        for pages in range(40):
            with filler.open("r+b") as file:
                file.truncate(filler.stat().st_size - 4096)
            try:
                store.save_record(RECORD)
            except Unavailable:
                continue
            assert pages, "it fits into nothing"
            break
        assert store.records() == [RECORD]
        filler.unlink()
        fill(store)
        assert content(path)[0] == f"version {len(MIGRATIONS)}"


# Migrations


STATEMENTS = [
    (number, position) for number, statements in enumerate(MIGRATIONS, 1) for position in range(len(statements) + 1)
]


@pytest.mark.parametrize(("number", "position"), STATEMENTS)
def test_a_migration_that_fails_anywhere_leaves_the_version_before_it(
    tmp_path: Path, number: int, position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, before = tmp_path / "state.db", tmp_path / "before.db"
    for made in (path, before):
        make_version(made, number - 1)
    statements = MIGRATIONS[number - 1]
    broken = (*statements[:position], "insert into there_is_no_such_table values (1)", *statements[position:])
    monkeypatch.setattr("starlingd.adapters.sqlite.schema.MIGRATIONS", (*MIGRATIONS[: number - 1], broken))
    with closing(SqliteStore(path)) as store:
        outage_of(READS["records"], store)
        outage_of(WRITES["save_record"], store)
    assert content(path) == content(before)
    monkeypatch.undo()
    with closing(SqliteStore(path)) as store:
        fill(store)
    assert content(path)[0] == f"version {len(MIGRATIONS)}"


@pytest.mark.parametrize("number", range(len(MIGRATIONS)))
def test_a_migration_that_has_no_room_leaves_what_was_there(disk: Path, path: Path, number: int) -> None:
    make_version(path, number)
    before = content(path)
    filler = fill_up(disk)
    with closing(SqliteStore(path)) as store:
        outage_of(READS["records"], store)
    filler.unlink()
    assert content(path) == before
    with closing(SqliteStore(path)) as store:
        fill(store)
    assert content(path)[0] == f"version {len(MIGRATIONS)}"


@pytest.mark.parametrize("number", range(len(MIGRATIONS)))
def test_a_file_of_every_version_becomes_the_same_as_a_new_one(tmp_path: Path, number: int) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    make_version(old, number)
    for path in (old, new):
        with closing(SqliteStore(path)) as store:
            fill(store)
    assert sorted(content(old)) == sorted(content(new))


def test_a_copy_of_a_store_that_runs_is_a_store(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    """As after a power cut: what was promised is in the file and its log together."""
    copied = tmp_path / "copy"
    shutil.copytree(path.parent, copied)
    with closing(SqliteStore(copied / path.name)) as after:
        for read in READS.values():
            assert read(after) == read(store)


def make_version(path: Path, number: int) -> None:
    """Make the file of an earlier daemon; with version 0, an empty one."""
    path.touch(0o600)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        for statements in MIGRATIONS[:number]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"pragma user_version = {number}")
