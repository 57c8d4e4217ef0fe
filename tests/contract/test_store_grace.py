"""What every Store keeps to about grace entries and reuses, and about calls that are made together."""

from dataclasses import replace

import pytest

from starlingd.core.grace import Entry, Miss
from starlingd.ports import Store, Unavailable
from tests.contract.stores import (
    ENTRY,
    KEY,
    LEASE,
    OTHER_KEY,
    RECORD,
    RULE,
    by_id,
    earn,
    later,
    reuses,
    unkeepable,
)


def test_a_session_writes_the_entry_it_earned_and_closing_it_leaves_it(store: Store) -> None:
    earn(store)
    store.close_sessions(["earned"])
    assert store.grace_entry(KEY) == ENTRY
    assert store.grace_entries() == [(KEY, ENTRY)]


def test_a_session_that_earned_nothing_leaves_the_entries_alone(store: Store) -> None:
    earn(store)
    store.open_session(replace(LEASE, login_id="two"), None)
    assert store.grace_entries() == [(KEY, ENTRY)]


@pytest.mark.parametrize("part", ["user", "client_ip", "ssh_key", "service"])
def test_every_part_of_a_key_counts(store: Store, part: str) -> None:
    earn(store)
    other = replace(KEY, **{part: "other"})
    assert store.grace_entry(other) is None
    assert store.reuse("one", other, "1000 alice", RULE, later(1)) is Miss.NO_ENTRY
    assert reuses(store) == 0


def test_a_hit_takes_one_reuse_and_notes_when(store: Store) -> None:
    earn(store)
    found = store.reuse("one", KEY, "1000 alice", RULE, later(5))
    assert found == replace(ENTRY, used=later(5), reuses=1)
    assert store.grace_entry(KEY) == found


def test_a_miss_says_why_and_changes_nothing(store: Store) -> None:
    earn(store)
    assert store.reuse("one", KEY, "1000 somebody", RULE, later(1)) is Miss.OTHER_BASIS
    assert store.reuse("one", KEY, "1000 alice", RULE, later(61)) is Miss.SOFT_TIMEOUT
    assert store.reuse("one", KEY, "1000 alice", RULE, later(-1)) is Miss.CLOCK_WENT_BACK
    assert store.grace_entry(KEY) == ENTRY


def test_n_reuses_are_n(store: Store) -> None:
    earn(store)
    found = [store.reuse(f"login {number}", KEY, "1000 alice", RULE, later(1)) for number in range(5)]
    assert [isinstance(one, Entry) for one in found] == [True, True, True, False, False]
    assert found[3:] == [Miss.REUSE_LIMIT, Miss.REUSE_LIMIT]


def test_a_login_without_a_session_gives_its_reuse_back_once(store: Store) -> None:
    earn(store)
    store.reuse("one", KEY, "1000 alice", RULE, later(1))
    store.reuse("two", KEY, "1000 alice", RULE, later(2))
    store.forget_records(["two"])
    assert reuses(store) == 1
    store.forget_records(["two", "never was"])
    assert reuses(store) == 1
    entry = store.grace_entry(KEY)
    assert entry
    assert entry.used == later(1), "a use that no session followed is none"


def test_a_session_keeps_the_reuse_it_took(store: Store) -> None:
    earn(store)
    store.reuse("one", KEY, "1000 alice", RULE, later(1))
    store.open_session(LEASE, None)
    store.forget_records(["one"])
    store.close_sessions(["one"])
    store.give_back_orphans()
    assert reuses(store) == 1


def test_an_entry_replaced_since_owes_nothing_to_a_reuse_of_the_old_one(store: Store) -> None:
    earn(store)
    store.reuse("one", KEY, "1000 alice", RULE, later(1))
    earn(store, entry=Entry("1000 alice", later(10), later(10)))
    store.reuse("two", KEY, "1000 alice", RULE, later(11))
    store.forget_records(["one"])
    assert reuses(store) == 1


def test_a_reuse_of_an_entry_that_is_gone_is_given_back_to_nobody(store: Store) -> None:
    earn(store)
    store.reuse("one", KEY, "1000 alice", RULE, later(1))
    store.forget_grace([KEY])
    store.forget_records(["one"])
    assert store.grace_entry(KEY) is None
    earn(store, entry=Entry("1000 alice", later(10), later(10)))
    store.forget_records(["one"])
    assert reuses(store) == 0


def test_orphans_are_reuses_without_a_record(store: Store) -> None:
    earn(store)
    store.reuse("with a record", KEY, "1000 alice", RULE, later(1))
    store.save_record(replace(RECORD, login_id="with a record"))
    store.reuse("orphan", KEY, "1000 alice", RULE, later(1))
    store.give_back_orphans()
    assert reuses(store) == 1
    store.give_back_orphans()
    assert reuses(store) == 1
    store.forget_records(["with a record"])
    assert reuses(store) == 0


def test_entries_are_told_in_the_order_of_their_keys(store: Store) -> None:
    keys = [KEY, OTHER_KEY, replace(KEY, client_ip="192.0.2.9"), replace(KEY, service="login")]
    for key in keys:
        earn(store, key)
    ordered = [replace(KEY, client_ip="192.0.2.9"), KEY, replace(KEY, service="login"), OTHER_KEY]
    assert [key for key, _ in store.grace_entries()] == ordered


def test_only_the_entries_named_are_forgotten(store: Store) -> None:
    earn(store)
    earn(store, OTHER_KEY)
    store.forget_grace(iter([KEY, replace(KEY, user="never was")]))
    assert [key for key, _ in store.grace_entries()] == [OTHER_KEY]
    store.forget_grace([])
    assert len(store.grace_entries()) == 1


def test_all_entries_of_one_user_are_forgotten_and_of_no_other(store: Store) -> None:
    for key in (
        KEY,
        replace(KEY, client_ip="192.0.2.9"),
        OTHER_KEY,
        replace(KEY, user="Alice"),
        replace(KEY, user="%"),
    ):
        earn(store, key)
    store.forget_grace_of("alice")
    store.forget_grace_of("_ob")
    assert {key.user for key, _ in store.grace_entries()} == {"bob", "Alice", "%"}


def test_entries_authenticated_before_a_time_are_forgotten_however_lately_used(store: Store) -> None:
    earn(store)
    earn(store, OTHER_KEY, Entry("", later(10), later(10)))
    store.reuse("one", KEY, "1000 alice", RULE, later(50))
    store.forget_grace_before(later(0).wall)
    assert len(store.grace_entries()) == 2
    store.forget_grace_before(later(10).wall)
    assert [key for key, _ in store.grace_entries()] == [OTHER_KEY]


# One transaction for several calls


def test_calls_made_together_have_happened_when_it_ends(store: Store) -> None:
    with store.together():
        store.save_record(RECORD)
        store.open_session(replace(LEASE, login_id="two"), (KEY, ENTRY))
        found = store.reuse("three", KEY, "1000 alice", RULE, later(1))
    assert isinstance(found, Entry)
    assert set(by_id(store)) == {"one"}
    assert [lease.login_id for lease in store.sessions()] == ["two"]
    assert reuses(store) == 1


def do_much_and_fail(store: Store) -> None:
    with store.together():
        store.save_record(RECORD)
        store.reuse("one", KEY, "1000 alice", RULE, later(1))
        store.add_failure("alice", "here", 1000.0)
        store.add_push_failure("alice", 1000.0, denied=True)
        store.close_sessions(["earned"])
        raise ZeroDivisionError


def test_calls_made_together_happen_all_or_not_at_all(store: Store) -> None:
    earn(store)
    kept = store.grace_entries(), store.sessions()
    with pytest.raises(ZeroDivisionError):
        do_much_and_fail(store)
    assert (store.grace_entries(), store.sessions()) == kept
    assert not store.records()
    assert not store.failures(0.0)
    assert not store.push_failures(0.0)
    store.forget_records(["one"])
    assert reuses(store) == 0


def test_a_call_that_fails_spoils_no_other_of_its_group(store: Store) -> None:
    with store.together():
        store.save_record(RECORD)
        with pytest.raises(Unavailable):
            store.save_record(unkeepable(replace(RECORD, login_id="bad")))
        store.save_record(replace(RECORD, login_id="two"))
    assert set(by_id(store)) == {"one", "two"}


def test_a_session_that_cannot_be_kept_leaves_record_and_reuse_as_they_were(store: Store) -> None:
    earn(store)
    store.save_record(RECORD)
    store.reuse("one", KEY, "1000 alice", RULE, later(1))
    with pytest.raises(Unavailable) as refused:
        store.open_session(unkeepable(LEASE), (OTHER_KEY, ENTRY))
    assert refused.value.port == "store"
    assert set(by_id(store)) == {"one"}
    assert [lease.login_id for lease in store.sessions()] == ["earned"]
    assert store.grace_entry(OTHER_KEY) is None
    store.forget_records(["one"])
    assert reuses(store) == 0
