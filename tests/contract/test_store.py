"""What every Store keeps to, asked of the fake and of SQLite on a real disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from starlingd.adapters.sqlite import SqliteStore
from starlingd.core.model import Factor, Process, Reason
from starlingd.core.records import Record
from starlingd.ports import Store
from tests.fakes import MemoryStore

RECORD = Record(
    login_id="one",
    user="alice",
    service="sshd",
    caller=Process(50, 500),
    parent=Process(40, 400),
    client_ip="198.51.100.7",
    tty="ssh",
    auth_info="publickey ssh-ed25519 AAAA\n",
    factor=Factor.PUSH,
    reason=Reason.PUSH_APPROVED,
    boot="boot-1",
    made=1234.000123,
)


@pytest.fixture(params=["fake", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "fake":
        yield MemoryStore()
    else:
        sqlite = SqliteStore(tmp_path / "state.db")
        yield sqlite
        sqlite.close()


def by_id(store: Store) -> dict[str, Record]:
    return {record.login_id: record for record in store.records()}


def test_a_new_store_is_empty(store: Store) -> None:
    assert not store.records()
    assert not store.push_failures(0.0)


@pytest.mark.parametrize("factor", list(Factor))
def test_a_record_comes_back_as_it_was(store: Store, factor: Factor) -> None:
    record = replace(RECORD, factor=factor, reason=Reason.CODE_VERIFIED, client_ip="", tty="", auth_info="")
    store.save_record(record)
    assert store.records() == [record]


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_can_be_kept(store: Store, reason: Reason) -> None:
    store.save_record(replace(RECORD, reason=reason))
    assert store.records() == [replace(RECORD, reason=reason)]


def test_values_are_data(store: Store) -> None:
    hostile = replace(RECORD, user="'; drop table records; --", tty="ö\x1b[2J\n%s{0}", login_id="../../x")
    store.save_record(hostile)
    assert store.records() == [hostile]


def test_a_record_saved_again_replaces_the_first(store: Store) -> None:
    store.save_record(RECORD)
    store.save_record(replace(RECORD, user="bob"))
    assert by_id(store) == {"one": replace(RECORD, user="bob")}


def test_only_what_is_named_is_forgotten(store: Store) -> None:
    for login_id in ("one", "two", "three"):
        store.save_record(replace(RECORD, login_id=login_id))
    store.forget_records(iter(["one", "three", "never was"]))
    assert set(by_id(store)) == {"two"}


def test_forgetting_nothing_does_no_harm(store: Store) -> None:
    store.save_record(RECORD)
    store.forget_records([])
    assert by_id(store) == {"one": RECORD}


def test_push_failures_are_told_by_user_and_oldest_first(store: Store) -> None:
    store.add_push_failure("alice", 1003.5, denied=False)
    store.add_push_failure("bob", 1002.0, denied=True)
    store.add_push_failure("alice", 1001.0, denied=True)
    assert store.push_failures(0.0) == {"alice": [(1001.0, True), (1003.5, False)], "bob": [(1002.0, True)]}


def test_only_younger_push_failures_are_told(store: Store) -> None:
    store.add_push_failure("alice", 1000.0, denied=False)
    store.add_push_failure("alice", 1000.5, denied=False)
    store.add_push_failure("bob", 999.0, denied=False)
    assert store.push_failures(1000.0) == {"alice": [(1000.5, False)]}


def test_two_failures_in_one_moment_are_two(store: Store) -> None:
    store.add_push_failure("alice", 1000.0, denied=True)
    store.add_push_failure("alice", 1000.0, denied=True)
    assert store.push_failures(0.0) == {"alice": [(1000.0, True), (1000.0, True)]}


def test_an_approval_ends_one_users_series_only(store: Store) -> None:
    store.add_push_failure("alice", 1000.0, denied=True)
    store.add_push_failure("bob", 1000.0, denied=True)
    store.clear_push_failures("alice")
    store.clear_push_failures("nobody")
    assert store.push_failures(0.0) == {"bob": [(1000.0, True)]}
