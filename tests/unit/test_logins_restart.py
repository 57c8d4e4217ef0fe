"""What a store that fails in the middle, or a daemon that is started anew, makes of logins and sessions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from starlingd.core.records import LIFETIME
from starlingd.core.rules import Grace
from starlingd.ports import Unavailable
from starlingd.server.logins import HOLD, Full
from tests.unit.slots import KEY, House, claim_of


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.end()


# A store that fails in the middle


def test_a_record_that_cannot_be_kept_holds_no_slot(house: House) -> None:
    house.hand.down = True
    with pytest.raises(Unavailable):
        house.add(house.record(), 1)
    assert house.count == 0
    assert house.logins.find(claim_of(house.record())) is None


def test_a_record_kept_after_all_is_forgotten(house: House) -> None:
    house.hand.free = False
    adding = house.start(house.logins.add(house.record(), 1))
    house.hand.move(unheard=True)
    house.hand.free = True
    house.turn()
    assert isinstance(adding.exception(), Unavailable)
    assert (house.count, house.store.kept) == (0, {})


def test_a_login_that_hangs_up_while_it_is_being_kept_leaves_nothing(house: House) -> None:
    house.hand.free = False
    adding = house.start(house.logins.add(house.record(), 1))
    adding.cancel()
    house.turn()
    assert adding.cancelled()
    while house.hand:
        house.hand.move()
        house.turn()
    assert (house.count, house.store.kept) == (0, {})


def test_a_process_that_dies_while_its_record_is_being_kept_holds_nothing(house: House) -> None:
    record = house.record()
    house.hand.free = False
    house.start(house.logins.add(record, 1))
    house.die(record.caller, record.parent)
    assert house.count == 0
    while house.hand:
        house.hand.move()
        house.turn()
    assert (house.count, house.store.kept) == (0, {})


@pytest.mark.parametrize("unheard", [False, True])
def test_a_session_that_cannot_be_kept_is_none(house: House, unheard: bool) -> None:  # noqa: FBT001
    record = house.record(key=KEY)
    house.add(record, 1)
    house.hand.free = False
    opening = house.start(house.logins.open(claim_of(record), 1))
    house.hand.move(unmade=not unheard, unheard=unheard)
    house.hand.free = True
    house.turn()
    assert isinstance(opening.exception(), Unavailable)
    assert (house.count, house.store.kept, house.store.open) == (0, {}, {})
    assert house.logins.leases == []
    assert house.store.entries == {}, "no session, no grace"


# A stop


def test_what_was_cut_short_is_forgotten_before_the_daemon_ends_and_holds_no_slot_of_the_next(house: House) -> None:
    house.store.entries[KEY] = house.entry()
    house.store.reuse("login 0", KEY, "1000 alice", Grace(reuse_limit=5), house.entry().used)
    house.hand.free = False
    adding = house.start(house.logins.add(house.record(), 1))
    house.hand.move()  # it is on disk, and its login is cut short before anybody is told
    adding.cancel()
    house.turn()
    settling = house.start(house.logins.settle())
    assert not settling.done()
    house.hand.move()
    house.turn()
    assert settling.done()
    house.restart()
    assert (house.count, house.store.kept, house.store.entries[KEY].reuses) == (0, {}, 0)
    house.add(house.record(1), 1)


def test_what_the_store_could_not_forget_is_tried_once_more_before_the_daemon_ends(house: House) -> None:
    house.add(house.record())
    house.hand.down = True
    house.drop("login 0")
    assert set(house.store.kept) == {"login 0"}
    house.hand.down = False
    house.do(house.logins.settle())
    assert house.store.kept == {}


def test_a_store_that_fails_to_the_end_ends_no_daemon_with_an_error(house: House) -> None:
    house.add(house.record())
    house.hand.down = True
    house.drop("login 0")
    house.do(house.logins.settle())
    assert set(house.store.kept) == {"login 0"}


# A restart


def test_a_restart_keeps_the_sessions_of_the_living_and_frees_the_others(house: House) -> None:
    for number in range(4):
        house.add(house.record(number))
        house.open(house.record(number))
    house.gone |= {house.record(1).parent, house.record(3).parent}
    house.restart()
    assert [lease.login_id for lease in house.logins.leases] == ["login 0", "login 2"]
    assert house.count == 2
    assert set(house.store.open) == {"login 0", "login 2"}
    house.die(house.record(0).parent)
    assert house.count == 1
    assert [lease.login_id for lease in house.lost] == ["login 0"]


def test_a_reboot_frees_every_session_and_every_record(house: House) -> None:
    house.add(house.record(0))
    house.open(house.record(0))
    house.add(house.record(1))
    house.boot, house.boottime = "boot-2", 10.0
    house.restart()
    assert (house.count, house.logins.leases, house.store.open, house.store.kept) == (0, [], {}, {})


def test_a_restart_keeps_logins_on_their_way_and_their_slots(house: House) -> None:
    house.add(house.record(0), 1)
    house.restart()
    assert house.count == 1
    with pytest.raises(Full):
        house.add(house.record(1), 1)
    assert house.open(house.record(0), 1)
    assert house.count == 1


def test_a_login_whose_child_ended_before_the_restart_holds_its_slot_a_while(house: House) -> None:
    record = house.record(0)
    house.add(record, 1)
    house.gone.add(record.caller)
    house.restart()
    house.turn()
    assert house.count == 1
    house.pass_time(HOLD)
    assert house.count == 0
    assert house.open(record, 1)


def test_a_login_that_died_during_the_restart_is_forgotten(house: House) -> None:
    record = house.record(0)
    house.add(record, 1)
    house.gone |= {record.caller, record.parent}
    house.restart()
    house.turn()
    assert (house.count, house.store.kept) == (0, {})


@pytest.mark.parametrize("passed", [LIFETIME + 1, -1])
def test_a_restart_forgets_records_out_of_their_time_and_gives_back_what_they_reused(
    house: House, passed: float
) -> None:
    house.store.entries[KEY] = house.entry()
    house.store.reuse("login 0", KEY, "1000 alice", Grace(reuse_limit=5), house.entry().used)
    house.add(house.record(0))
    house.boottime += passed
    house.restart()
    assert (house.count, house.store.kept) == (0, {})
    assert house.store.entries[KEY].reuses == 0


def test_a_restart_gives_back_what_was_reused_by_logins_that_got_no_answer(house: House) -> None:
    house.store.entries[KEY] = house.entry()
    for login_id in ("login 0", "unanswered"):
        house.store.reuse(login_id, KEY, "1000 alice", Grace(reuse_limit=5), house.entry().used)
    house.add(house.record(0))
    house.restart()
    assert house.store.entries[KEY].reuses == 1
    assert set(house.store.reuses) == {"login 0"}


@pytest.mark.parametrize("works", range(5))
def test_reading_back_can_be_tried_again_after_it_failed_anywhere(house: House, works: int) -> None:
    for number in range(3):
        house.add(house.record(number))
    house.open(house.record(0))
    house.open(house.record(1))
    house.gone.add(house.record(1).parent)
    house.end()
    house.begin()
    house.hand.free = False
    loading = house.start(house.logins.load(house.is_alive))
    for _ in range(works):
        if house.hand:
            house.hand.move()
            house.turn()
    while house.hand:
        house.hand.move(unmade=True)
        house.turn()
    assert loading.done()
    house.hand.free = True
    if loading.exception():
        house.do(house.logins.load(house.is_alive))
    assert house.count == 2
    house.do(house.logins.sweep(house.is_alive))
    assert set(house.store.open) == {"login 0"}
    assert set(house.store.kept) == {"login 2"}
