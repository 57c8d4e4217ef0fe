"""What every Store keeps to, asked of the fake and of SQLite on a real disk: records, sessions, failures."""

from dataclasses import replace

import pytest

from starlingd.core.enrolment import Enrolment, LoopState
from starlingd.core.grace import Key
from starlingd.core.model import Factor, Process, Reason
from starlingd.core.records import Lease
from starlingd.ports import Store
from tests.contract.stores import KEY, LEASE, RECORD, by_id


def test_a_new_store_is_empty(store: Store) -> None:
    assert not store.records()
    assert not store.push_failures(0.0)
    assert not store.sessions()
    assert not store.grace_entries()
    assert not store.failures(0.0)
    assert store.grace_entry(KEY) is None


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


# Sessions


@pytest.mark.parametrize("factor", list(Factor))
def test_a_session_comes_back_as_it_was(store: Store, factor: Factor) -> None:
    lease = replace(LEASE, factor=factor, user="'; drop table sessions; --", tty="", client_ip="")
    store.open_session(lease, None)
    assert store.sessions() == [lease]


@pytest.mark.parametrize("reason", list(Reason))
def test_a_session_keeps_every_reason(store: Store, reason: Reason) -> None:
    store.open_session(replace(LEASE, reason=reason), None)
    assert store.sessions() == [replace(LEASE, reason=reason)]


def test_a_record_with_a_key_comes_back_as_it_was(store: Store) -> None:
    record = replace(RECORD, key=Key('a"\\', "::1", "SHA256:+/=", "sshd"), basis="1000 5551234", wall=1.7e9 + 0.123456)
    store.save_record(record)
    assert store.records() == [record]


def test_a_session_takes_the_place_of_its_record_and_of_no_other(store: Store) -> None:
    store.save_record(RECORD)
    store.save_record(replace(RECORD, login_id="two"))
    store.open_session(LEASE, None)
    assert set(by_id(store)) == {"two"}
    assert store.sessions() == [LEASE]


def test_a_session_without_a_record_is_kept_too(store: Store) -> None:
    store.open_session(LEASE, None)
    assert store.sessions() == [LEASE]


def test_only_the_sessions_named_are_closed(store: Store) -> None:
    for login_id in ("one", "two", "three"):
        store.open_session(replace(LEASE, login_id=login_id), None)
    store.close_sessions(iter(["one", "three", "never was"]))
    assert [lease.login_id for lease in store.sessions()] == ["two"]
    store.close_sessions([])
    assert len(store.sessions()) == 1


# Wrong codes


def test_wrong_codes_are_told_oldest_first_and_only_younger_ones(store: Store) -> None:
    store.add_failure("alice", "192.0.2.1", 1003.5)
    store.add_failure("bob", "", 1002.0)
    store.add_failure("alice", "192.0.2.1", 1001.0)
    store.add_failure("alice", "192.0.2.1", 1001.0)
    alice = ("alice", "192.0.2.1", 1001.0, False)
    assert store.failures(1000.0) == [alice, alice, ("bob", "", 1002.0, False), ("alice", "192.0.2.1", 1003.5, False)]
    assert store.failures(1001.0) == [("bob", "", 1002.0, False), ("alice", "192.0.2.1", 1003.5, False)]


def test_a_right_code_clears_one_user_at_one_place_and_those_before_it_only(store: Store) -> None:
    store.add_failure("alice", "here", 1000.0)
    store.add_failure("alice", "there", 1001.0)
    store.add_failure("bob", "here", 1002.0)
    store.clear_failures("alice", "here")
    store.add_failure("alice", "here", 1003.0)
    cleared = [(user, place) for user, place, _, cleared in store.failures(0.0) if cleared]
    assert cleared == [("alice", "here")]
    assert len(store.failures(0.0)) == 4


def test_unlocking_forgets_one_users_wrong_codes_everywhere(store: Store) -> None:
    for user, place in (("alice", "here"), ("alice", "there"), ("bob", "here")):
        store.add_failure(user, place, 1000.0)
    store.forget_failures("alice")
    store.forget_failures("nobody")
    assert [failure[0] for failure in store.failures(0.0)] == ["bob"]


@pytest.mark.parametrize("factor", list(Factor))
def test_a_session_with_a_fresh_second_factor_is_remembered_for_ever(store: Store, factor: Factor) -> None:
    lease = Lease("one", "alice", "sshd", "", "", Process(1, 1), "boot-1", 0.0, factor, Reason.CODE_VERIFIED)
    store.open_session(lease, None)
    store.close_sessions(["one"])
    assert store.had_second_factor("alice") is (factor in {Factor.PUSH, Factor.CODE, Factor.TOTP})
    assert not store.had_second_factor("bob")


ANN = Enrolment("ann", "17", "+442079460001", "ann@example.org", 1.0)
BEN = replace(ANN, user="ben", identity="18", phone="+442079460002")


def test_an_enrolment_comes_back_as_it_was_and_a_new_one_replaces_it(store: Store) -> None:
    assert store.enrolment("ann") is None
    kept = replace(ANN, disowned=2.5, seen=3.5, blocked=True)
    assert store.save_enrolment(kept) == "ann"
    assert store.enrolment("ann") == kept
    anew = replace(ANN, identity="99", made=5.0)
    assert store.save_enrolment(anew) == "ann"
    assert store.enrolments() == [anew]


def test_an_id_stays_with_its_first_user(store: Store) -> None:
    store.save_enrolment(ANN)
    store.save_enrolment(BEN)
    assert store.save_enrolment(replace(BEN, identity=ANN.identity)) == "ann"
    assert store.enrolments() == [ANN, BEN]


def test_the_enrolments_of_some_are_told_by_user(store: Store) -> None:
    store.save_enrolment(ANN)
    store.save_enrolment(BEN)
    assert store.enrolments_of(["ben", "nobody"]) == {"ben": BEN}
    assert store.enrolments_of([]) == {}


def test_who_was_seen_once_but_not_since_is_told(store: Store) -> None:
    store.save_enrolment(ANN)
    store.save_enrolment(BEN)
    assert store.not_seen_since(10.0) == []
    store.mark_seen(["ann", "ben", "nobody"], 5.0)
    assert store.not_seen_since(5.0) == []
    assert store.not_seen_since(10.0) == ["ann", "ben"]
    store.mark_seen(["ben"], 10.0)
    assert store.not_seen_since(10.0) == ["ann"]
    assert store.enrolments() == [replace(ANN, seen=5.0), replace(BEN, seen=10.0)]


def test_the_blocked_are_blocked_until_they_are_no_more_and_are_not_told_again(store: Store) -> None:
    store.save_enrolment(ANN)
    store.save_enrolment(BEN)
    store.mark_seen(["ann", "ben"], 5.0)
    store.block(["ann", "nobody"], blocked=True)
    assert store.enrolments() == [replace(ANN, seen=5.0, blocked=True), replace(BEN, seen=5.0)]
    assert store.not_seen_since(10.0) == ["ben"]
    store.block(["ann"], blocked=False)
    assert store.not_seen_since(10.0) == ["ann", "ben"]


def test_what_the_loop_remembers_comes_back(store: Store) -> None:
    assert store.provisioning_state() == LoopState()
    for state in (LoopState(5.5, complete=False, members=7), LoopState(6.5, complete=True, members=8)):
        store.save_provisioning_state(state)
        assert store.provisioning_state() == state


def test_an_enrolment_is_remembered_even_when_it_is_forgotten(store: Store) -> None:
    store.save_enrolment(Enrolment("alice", "17", "+442079460001", "alice@example.org", 1.0))
    store.forget_enrolment("alice")
    assert store.enrolment("alice") is None
    assert store.had_second_factor("alice")
