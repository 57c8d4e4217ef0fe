"""Records and sessions: who holds a slot, for how long, and that nothing of them is lost or left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from starlingd.core.model import Factor, Process, Reason
from starlingd.core.records import LIFETIME, Record
from starlingd.core.rules import Grace
from starlingd.ports import Unavailable
from starlingd.server.logins import HOLD, INIT, Full, Logins
from starlingd.server.workers import Pool
from tests.daemon_under_test import Dead
from tests.fakes import MemoryStore
from tests.unit.slots import ADDRESS, KEY, LISTENER, WALL, House, claim_of


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.end()


def key_only(house: House, number: int = 0) -> Record:
    """Make a record of a login by key alone: the monitor calls, and its parent is the listener."""
    return house.record(number, caller=Process(200 + number, 2000 + number), parent=LISTENER)


# Slots


def test_n_slots_are_n_however_many_logins_ask_at_once(house: House) -> None:
    async def test() -> None:
        pool, store = Pool("store", 1, 200), MemoryStore()
        logins = Logins(store, pool, "boot-1", lambda: 5000.0, Dead())
        records = [house.record(number) for number in range(100)]
        results = await asyncio.gather(*(logins.add(record, 10) for record in records), return_exceptions=True)
        pool.close()
        refused = [result for result in results if isinstance(result, Full)]
        assert (len(refused), results.count(None), logins.count("alice", ADDRESS)) == (90, 10, 10)
        assert {full.open for full in refused} == {10}
        assert len(store.kept) == 10

    asyncio.run(test())


def test_slots_are_counted_by_user_and_place(house: House) -> None:
    house.add(house.record(0), 1)
    house.add(house.record(1, user="bob"), 1)
    house.add(house.record(2, client_ip="198.51.100.8"), 1)
    house.add(house.record(3, client_ip="", tty="tty1"), 1)
    with pytest.raises(Full):
        house.add(house.record(4, service="login", tty="other"), 1)
    with pytest.raises(Full):
        house.add(house.record(5, client_ip="", tty="tty1"), 1)
    assert house.logins.count("nobody", ADDRESS) == 0


def test_without_a_limit_everybody_is_counted_and_nobody_refused(house: House) -> None:
    for number in range(30):
        house.add(house.record(number), 0)
    assert house.count == 30
    with pytest.raises(Full) as full:
        house.add(house.record(30), 5)
    assert full.value.open == 30


def test_a_session_holds_the_slot_that_its_login_held(house: House) -> None:
    house.add(house.record(), 1)
    assert house.open(house.record(), 1)
    assert house.count == 1
    with pytest.raises(Full):
        house.add(house.record(1), 1)


def test_who_is_refused_leaves_nothing(house: House) -> None:
    house.add(house.record(), 1)
    with pytest.raises(Full):
        house.add(house.record(1), 1)
    assert set(house.store.kept) == {"login 0"}
    assert house.logins.find(claim_of(house.record(1))) is None


# A login that opens no session


def test_the_death_of_both_processes_frees_the_slot_and_the_record(house: House) -> None:
    record = house.record()
    house.add(record, 1)
    house.die(record.caller, record.parent)
    assert house.count == 0
    assert house.logins.find(claim_of(record)) is None
    assert house.store.kept == {}


def test_a_child_that_ends_keeps_the_record_for_its_monitor(house: House) -> None:
    record = house.record()
    house.add(record, 1)
    house.die(record.caller)
    house.pass_time(HOLD - 1)
    assert house.count == 1
    assert house.open(record, 1)


def test_a_slot_that_nobody_comes_for_is_held_for_a_while_only(house: House) -> None:
    record = house.record()
    house.add(record, 1)
    house.die(record.caller)
    house.pass_time(HOLD)
    assert house.count == 0
    assert house.logins.find(claim_of(record)), "the record itself waits on for its monitor"


def test_the_account_hook_takes_a_lost_slot_again(house: House) -> None:
    record = house.record()
    house.add(record, 1)
    house.die(record.caller)
    house.pass_time(HOLD)
    house.do(renew(house, record))
    assert house.count == 1
    house.do(renew(house, record))
    assert house.count == 1
    house.pass_time(HOLD)
    assert house.count == 0, "held anew, and for a while only"


def test_a_lost_slot_that_somebody_else_took_is_not_had_twice(house: House) -> None:
    record = house.record()
    house.add(record, 1)
    house.die(record.caller)
    house.pass_time(HOLD)
    house.add(house.record(1), 1)
    with pytest.raises(Full):
        house.do(renew(house, record))
    with pytest.raises(Full):
        house.open(record, 1)
    assert house.count == 1
    house.die(house.record(1).caller, house.record(1).parent)
    assert house.open(record, 1), "refused for now, not for ever"


async def renew(house: House, record: Record) -> None:
    house.logins.renew(record, 1)


def test_a_parent_that_is_init_says_nothing_so_the_callers_death_is_the_end(house: House) -> None:
    record = house.record(parent=Process(INIT, 1))
    house.add(record, 1)
    house.die(record.caller)
    assert house.count == 0
    assert house.store.kept == {}


def test_a_record_ends_after_its_lifetime(house: House) -> None:
    record = house.record()
    house.add(record, 1)
    house.pass_time(LIFETIME)
    house.do(house.logins.sweep(house.is_alive))
    assert house.logins.find(claim_of(record))
    house.pass_time(1)
    assert house.logins.find(claim_of(record)) is None
    house.do(house.logins.sweep(house.is_alive))
    assert (house.count, house.store.kept) == (0, {})


def test_a_death_that_could_not_be_watched_is_found_by_the_sweep(house: House) -> None:
    record = house.record()
    house.add(record, 1)
    house.deaths.watched.clear()
    house.gone |= {record.caller, record.parent}
    house.do(house.logins.sweep(house.is_alive))
    house.turn()
    assert (house.count, house.store.kept) == (0, {})


def test_a_login_that_is_dropped_gives_back_what_it_reused(house: House) -> None:
    house.store.entries[KEY] = house.entry()
    for login_id in ("login 0", "login 1", "login 2"):
        house.store.reuse(login_id, KEY, "1000 alice", Grace(reuse_limit=5), house.entry().used)
    house.add(house.record(0, factor=Factor.NONE, reason=Reason.CACHED, key=KEY), 5)
    house.drop("login 0", "login 2")
    assert house.store.entries[KEY].reuses == 1
    assert set(house.store.reuses) == {"login 1"}


def test_what_ends_while_the_store_is_busy_forgetting_is_forgotten_right_after(house: House) -> None:
    for number in range(3):
        house.add(house.record(number))
    house.hand.free = False
    house.drop("login 0")
    house.drop("login 1")
    house.hand.free = True
    house.hand.move()
    house.turn()
    assert set(house.store.kept) == {"login 2"}


def test_what_a_broken_store_cannot_forget_is_forgotten_by_the_sweep(house: House) -> None:
    house.add(house.record())
    house.hand.down = True
    house.drop("login 0")
    assert house.count == 0
    assert set(house.store.kept) == {"login 0"}
    with pytest.raises(Unavailable):
        house.do(house.logins.sweep(house.is_alive))
    house.hand.down = False
    house.do(house.logins.sweep(house.is_alive))
    assert house.store.kept == {}


# Sessions


def test_a_session_remembers_where_it_came_from_by_the_record(house: House) -> None:
    record = house.record(key=KEY, basis="1000 alice")
    house.add(record)
    assert house.open(record) == record
    [lease] = house.logins.leases
    assert (lease.login_id, lease.user, lease.client_ip, lease.process) == ("login 0", "alice", ADDRESS, record.parent)
    assert house.store.open == {"login 0": lease}
    assert house.store.kept == {}
    entry = house.store.entries[KEY]
    assert (entry.basis, entry.authenticated.wall, entry.reuses) == ("1000 alice", WALL, 0)


@pytest.mark.parametrize("factor", sorted(set(Factor) - {Factor.PUSH, Factor.CODE, Factor.TOTP}))
def test_a_login_without_a_fresh_second_factor_earns_no_grace(house: House, factor: Factor) -> None:
    record = house.record(key=KEY, factor=factor)
    house.add(record)
    house.open(record)
    assert house.store.entries == {}


def test_a_record_opens_one_session(house: House) -> None:
    record = house.record()
    house.add(record)
    assert house.open(record)
    assert house.open(record) is None
    assert house.open(house.record(1)) is None
    assert len(house.logins.leases) == 1


def test_only_the_process_that_opened_a_session_closes_it_and_once(house: House) -> None:
    record = house.record()
    house.add(record)
    house.open(record)
    assert house.close(record.caller) is None
    assert house.close(replace(record.parent, start=1)) is None
    lease = house.close(record.parent)
    assert lease is not None
    assert lease.login_id == "login 0"
    assert house.close(record.parent) is None
    assert (house.count, house.store.open) == (0, {})
    house.die(record.parent)
    assert house.lost == []


def test_a_session_whose_process_is_killed_is_lost_once(house: House) -> None:
    record = house.record()
    house.add(record, 1)
    house.open(record, 1)
    house.die(record.caller)
    assert house.count == 1
    house.die(record.parent)
    assert [lease.login_id for lease in house.lost] == ["login 0"]
    assert (house.count, house.store.open) == (0, {})
    house.do(house.logins.sweep(house.is_alive))
    assert len(house.lost) == 1


def test_a_session_whose_death_was_not_seen_is_lost_at_the_sweep(house: House) -> None:
    record = house.record()
    house.add(record)
    house.open(record)
    house.deaths.watched.clear()
    house.gone.add(record.parent)
    house.do(house.logins.sweep(house.is_alive))
    assert [lease.login_id for lease in house.lost] == ["login 0"]
    assert (house.count, house.store.open) == (0, {})


def test_the_oldest_session_is_told_first(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, since in enumerate((30.0, 10.0, 20.0)):
        monkeypatch.setattr("starlingd.server.logins.time.time", lambda since=since: since)
        house.add(house.record(number))
        house.open(house.record(number))
    assert [lease.since for lease in house.logins.leases] == [10.0, 20.0, 30.0]


def test_a_key_only_login_holds_its_slot_in_the_monitor(house: House) -> None:
    record = key_only(house)
    house.add(record, 1)
    assert house.open(record, 1, record.caller)
    house.die(record.caller)
    assert house.count == 0
