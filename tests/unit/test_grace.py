"""The grace period: each line of SEMANTICS §4, and any interleaving of logins, clocks, restarts and reboots.

The state machine knows only a list of what really happened, and asks the store as the daemon does. Two moments of real
clocks are never quite the same, so each thing that happens takes a little while.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from starlingd.adapters.sqlite import SqliteStore
from starlingd.core.grace import Entry, Key, Miss, Moment, age, judge, key_of
from starlingd.core.model import Factor, Process, Reason
from starlingd.core.records import FRESH, Lease, Record
from starlingd.core.rules import Bind, Grace
from starlingd.ports import Store
from tests.fakes import MemoryStore
from tests.unit.script import LOGIN

RULE = Grace(soft_timeout=15.0, hard_timeout=90.0, reuse_limit=3)
THEN = Moment(1000.0, 500.0, "boot-1")
ENTRY = Entry("basis", THEN, THEN)


def later(seconds: float, then: Moment = THEN) -> Moment:
    """Tell the moment so many seconds later by both clocks."""
    return Moment(then.wall + seconds, then.boottime + seconds, then.boot)


def used(seconds: float, reuses: int = 1) -> Entry:
    """Make an entry that was last used so many seconds after its authentication."""
    return replace(ENTRY, used=later(seconds), reuses=reuses)


# --- the lines of SEMANTICS §4 -------------------------------------------------------------------------------------


def test_a_hit_moves_the_last_use_and_counts_but_never_moves_the_authentication() -> None:
    assert judge(used(3.0), "basis", RULE, later(10.0)) == Entry("basis", THEN, later(10.0), 2)


def test_without_an_entry_one_is_asked() -> None:
    assert judge(None, "basis", RULE, THEN) is Miss.NO_ENTRY


@pytest.mark.parametrize(("seconds", "hit"), [(0.0, True), (15.0, True), (15.001, False)])
def test_exactly_at_soft_timeout_is_still_a_hit(seconds: float, *, hit: bool) -> None:
    found = judge(used(70.0), "basis", RULE, later(70.0 + seconds))
    assert isinstance(found, Entry) if hit else found is Miss.SOFT_TIMEOUT


@pytest.mark.parametrize(("seconds", "hit"), [(89.999, True), (90.0, True), (90.001, False)])
def test_exactly_at_hard_timeout_is_still_a_hit(seconds: float, *, hit: bool) -> None:
    found = judge(used(80.0), "basis", RULE, later(seconds))
    assert isinstance(found, Entry) if hit else found is Miss.HARD_TIMEOUT


def test_hits_in_a_row_end_at_hard_timeout() -> None:
    entry, endless = ENTRY, replace(RULE, reuse_limit=-1)
    for seconds in range(10, 100, 10):
        found = judge(entry, "basis", endless, later(seconds))
        assert isinstance(found, Entry)
        entry = found
    assert judge(entry, "basis", endless, later(91.0)) is Miss.HARD_TIMEOUT


def test_a_hard_timeout_below_the_soft_one_is_legal_and_wins() -> None:
    rule = replace(RULE, soft_timeout=90.0, hard_timeout=15.0)
    assert isinstance(judge(ENTRY, "basis", rule, later(15.0)), Entry)
    assert judge(used(14.0), "basis", rule, later(16.0)) is Miss.HARD_TIMEOUT


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_a_limit_of_n_is_n_reuses(limit: int) -> None:
    entry, rule = ENTRY, replace(RULE, reuse_limit=limit)
    for number in range(1, limit + 1):
        found = judge(entry, "basis", rule, THEN)
        assert isinstance(found, Entry)
        assert found.reuses == number
        entry = found
    assert judge(entry, "basis", rule, THEN) is Miss.REUSE_LIMIT


@pytest.mark.parametrize("limit", [-1, -7])
def test_a_negative_limit_is_none(limit: int) -> None:
    assert isinstance(judge(used(1.0, 10**6), "basis", replace(RULE, reuse_limit=limit), later(2.0)), Entry)


def test_a_limit_of_nought_is_off() -> None:
    assert judge(ENTRY, "basis", replace(RULE, reuse_limit=0), THEN) is Miss.OFF
    assert key_of(LOGIN, "alice", replace(RULE, reuse_limit=0)) is Miss.OFF


def test_an_entry_that_rests_on_something_else_does_not_help() -> None:
    assert judge(ENTRY, "another", RULE, THEN) is Miss.OTHER_BASIS


# --- the clocks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "seconds"),
    [
        (Moment(1010.0, 510.0, "boot-1"), 10.0),
        (Moment(1010.0, 540.0, "boot-1"), 40.0),
        (Moment(1040.0, 510.0, "boot-1"), 40.0),
        (Moment(1000.0, 540.0, "boot-1"), 40.0),
        (Moment(1000.0, 500.0, "boot-1"), 0.0),
        (Moment(999.999, 500.0, "boot-1"), None),
        (Moment(999.999, 540.0, "boot-1"), None),
        (Moment(1010.0, 540.0, "boot-2"), 10.0),
        (Moment(1010.0, 5.0, "boot-2"), 10.0),
        (Moment(999.999, 540.0, "boot-2"), None),
    ],
)
def test_an_age_is_the_larger_of_both_clocks_and_of_another_boot_the_wall_clocks(
    now: Moment, seconds: float | None
) -> None:
    assert age(THEN, now) == seconds


def test_a_wall_clock_that_went_back_asks_whichever_moment_it_went_behind() -> None:
    assert judge(ENTRY, "basis", RULE, Moment(999.0, 501.0, "boot-1")) is Miss.CLOCK_WENT_BACK
    assert judge(used(10.0), "basis", RULE, Moment(1009.0, 511.0, "boot-1")) is Miss.CLOCK_WENT_BACK


def test_a_wall_clock_that_stands_still_lengthens_nothing() -> None:
    assert judge(ENTRY, "basis", RULE, Moment(1000.0, 516.0, "boot-1")) is Miss.SOFT_TIMEOUT
    assert judge(ENTRY, "basis", RULE, Moment(1000.0, 591.0, "boot-1")) is Miss.HARD_TIMEOUT


def test_after_a_reboot_an_entry_lives_on_by_the_wall_clock() -> None:
    found = judge(used(10.0), "basis", RULE, Moment(1020.0, 3.0, "boot-2"))
    assert isinstance(found, Entry)
    assert found.authenticated == THEN
    assert judge(used(10.0), "basis", RULE, Moment(1026.0, 3.0, "boot-2")) is Miss.SOFT_TIMEOUT


moments = st.builds(Moment, st.floats(0, 300), st.floats(0, 300), st.sampled_from(["boot-1", "boot-2"]))
grace_rules = st.builds(
    Grace,
    soft_timeout=st.sampled_from([0.0, 1.0, 15.0, 90.0]) | st.floats(0, 300),
    hard_timeout=st.sampled_from([0.0, 1.0, 15.0, 90.0]) | st.floats(0, 300),
    reuse_limit=st.integers(-2, 4),
)


@settings(max_examples=500)
@given(authenticated=moments, last=moments, reuses=st.integers(0, 5), rule=grace_rules, now=moments)
def test_no_hit_breaks_any_promise(authenticated: Moment, last: Moment, reuses: int, rule: Grace, now: Moment) -> None:
    entry = Entry("basis", authenticated, last, reuses)
    found = judge(entry, "basis", rule, now)
    if isinstance(found, Miss):
        return
    assert found == replace(entry, used=now, reuses=reuses + 1)
    assert rule.reuse_limit < 0 or found.reuses <= rule.reuse_limit
    for then, longest in ((authenticated, rule.hard_timeout), (last, rule.soft_timeout)):
        assert 0.0 <= now.wall - then.wall <= longest
        assert then.boot != now.boot or now.boottime - then.boottime <= longest


# --- whose entry it is, and who earns one --------------------------------------------------------------------------


def test_a_login_whose_key_is_unknown_has_no_entry_where_the_key_counts() -> None:
    bound = replace(RULE, bind=frozenset({Bind.USER, Bind.SSH_KEY}))
    assert key_of(replace(LOGIN, ssh_key=""), "alice", bound) is Miss.UNKNOWN_KEY
    assert key_of(replace(LOGIN, ssh_key="SHA256:x"), "alice", bound) == Key("alice", "", "SHA256:x", "")


def test_an_entry_is_of_the_canonical_user_and_a_console_is_a_place() -> None:
    assert key_of(replace(LOGIN, user="ALICE"), "alice", RULE) == Key("alice", LOGIN.client_ip, "", "")
    assert key_of(replace(LOGIN, client_ip="", tty="tty1"), "alice", RULE) == Key("alice", "tty1", "", "")


def test_a_user_name_is_data() -> None:
    key = key_of(LOGIN, "../../x", RULE)
    assert isinstance(key, Key)
    assert key.user == "../../x"


RECORD = Record(
    login_id="one",
    user="alice",
    service="sshd",
    caller=Process(50, 500),
    parent=Process(40, 400),
    client_ip=LOGIN.client_ip,
    tty="ssh",
    auth_info="",
    factor=Factor.CODE,
    reason=Reason.CODE_VERIFIED,
    boot="boot-1",
    made=500.0,
    wall=1000.0,
    key=Key("alice", LOGIN.client_ip, "", ""),
    basis="basis",
)


@pytest.mark.parametrize("factor", Factor)
def test_only_a_fresh_second_factor_earns_an_entry_of_the_moment_it_was_shown(factor: Factor) -> None:
    earned = replace(RECORD, factor=factor).earned
    assert earned == ((RECORD.key, ENTRY) if factor in {Factor.PUSH, Factor.CODE, Factor.TOTP} else None)
    assert (factor in FRESH) == (earned is not None)


def test_a_login_without_a_key_earns_nothing() -> None:
    assert replace(RECORD, key=None).earned is None


# --- what the store gives back -------------------------------------------------------------------------------------

KEY = Key("alice", LOGIN.client_ip, "", "")


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Offer a store in which Alice has shown her second factor, as login "one"."""
    sqlite = SqliteStore(tmp_path / "state.db")
    offered: Store = MemoryStore() if request.param == "memory" else sqlite
    offered.open_session(_lease(RECORD), RECORD.earned)
    yield offered
    sqlite.close()


def come_again(store: Store, login_id: str, now: Moment) -> Entry | Miss:
    """Reuse, and be let in on it."""
    found = store.reuse(login_id, KEY, "basis", RULE, now)
    if isinstance(found, Entry):
        store.save_record(replace(RECORD, login_id=login_id, factor=Factor.NONE, reason=Reason.CACHED))
    return found


def reuses(store: Store) -> int:
    entry = store.grace_entry(KEY)
    assert entry
    return entry.reuses


def test_a_login_without_a_session_gives_back_one_reuse_once(store: Store) -> None:
    for number in range(2):
        assert isinstance(come_again(store, f"again-{number}", later(1.0)), Entry)
    for _ in range(2):
        store.forget_records(["again-1"])
        assert reuses(store) == 1


def test_a_session_keeps_its_reuse_over_its_end_and_a_restart(store: Store) -> None:
    come_again(store, "again", later(1.0))
    again = replace(RECORD, login_id="again", factor=Factor.NONE)
    store.open_session(_lease(again), again.earned)
    store.give_back_orphans()
    store.forget_records(["again"])
    store.close_sessions(["again"])
    assert reuses(store) == 1


def test_a_reuse_of_an_earlier_authentication_is_not_given_back_to_a_later_one(store: Store) -> None:
    come_again(store, "early", later(1.0))
    anew = replace(RECORD, login_id="two", wall=RECORD.wall + 2.0, made=RECORD.made + 2.0)
    store.open_session(_lease(anew), anew.earned)
    come_again(store, "late", later(3.0))
    store.forget_records(["early"])
    assert reuses(store) == 1


def test_a_miss_leaves_the_entry_as_it_is(store: Store) -> None:
    assert come_again(store, "again", later(16.0)) is Miss.SOFT_TIMEOUT
    assert store.grace_entry(KEY) == ENTRY
    assert isinstance(come_again(store, "again", later(15.0)), Entry)


# --- any interleaving ----------------------------------------------------------------------------------------------

TICK = 2.0**-10
PAUSES = st.sampled_from([0.0, 0.0, 1.0, 7.0, 14.0, 15.0, 16.0, 40.0, 75.0, 89.0, 90.0, 91.0, 400.0])
ALICE, MALLORY = Key("alice", "198.51.100.7", "", ""), Key("../../x", "2001:db8::1", "SHA256:'; --", "sshd")
keys = st.sampled_from([ALICE, ALICE, ALICE, MALLORY])
mostly = st.sampled_from([True, True, True, False])
RULES = [
    Grace(soft_timeout=400.0, hard_timeout=400.0, reuse_limit=2),
    Grace(soft_timeout=40.0, hard_timeout=400.0, reuse_limit=5),
    Grace(soft_timeout=90.0, hard_timeout=15.0, reuse_limit=1),
    Grace(soft_timeout=40.0, hard_timeout=400.0, reuse_limit=-1),
    RULE,
    Grace(reuse_limit=0),
]


@dataclass
class _Authentication:
    """What really happened since somebody showed a second factor and his session opened."""

    basis: str
    at: Moment
    uses: dict[str, Moment] = field(default_factory=dict)
    """The logins that went in on it, or are about to, and when; in their order."""

    @property
    def last(self) -> Moment:
        """When it was last of use to somebody."""
        return next(reversed(self.uses.values()), self.at)


class _Interleaved(RuleBasedStateMachine):
    """Logins of two users, with everything that can happen in between."""

    def store_again(self) -> Store:
        """Open the store, as the daemon does when it starts."""
        raise NotImplementedError

    @initialize(policy=st.sampled_from(RULES))
    def begin(self, policy: Grace) -> None:
        self.store = self.store_again()
        self.policy, self.basis = policy, "basis"
        self.now = Moment(10_000.0, 100.0, "boot-0")
        self.numbers = itertools.count(1)
        self.real: dict[Key, _Authentication] = {}
        self.waiting: dict[str, Record] = {}
        """Logins that were let in and have no session yet."""
        self.opened: set[str] = set()

    def pass_time(self, seconds: float) -> Moment:
        elapsed = seconds + TICK
        self.now = Moment(self.now.wall + elapsed, self.now.boottime + elapsed, self.now.boot)
        return self.now

    def remember(self, login_id: str, key: Key, factor: Factor) -> None:
        now = self.now
        record = replace(RECORD, login_id=login_id, key=key, basis=self.basis, factor=factor)
        self.waiting[login_id] = replace(record, boot=now.boot, made=now.boottime, wall=now.wall)
        self.store.save_record(self.waiting[login_id])

    # what users do

    @rule(key=keys, opens=mostly, factor=st.sampled_from([Factor.CODE, Factor.CODE, Factor.CODE, Factor.NONE]))
    def somebody_is_let_in(self, key: Key, factor: Factor, *, opens: bool) -> None:
        """Let somebody in by a second factor, or by an exemption, which earns nothing."""
        self.pass_time(0.0)
        login_id = f"first-{next(self.numbers)}"
        self.remember(login_id, key, factor)
        if opens:
            self.open(login_id)

    @rule(key=keys, number=st.sampled_from([1, 1, 2, 5]), saved=mostly, opens=st.booleans())
    def some_come_again_at_once(self, key: Key, number: int, *, saved: bool, opens: bool) -> None:
        """Let several logins ask in one transaction; where they are not ``saved``, the daemon dies before that."""
        logins = [f"again-{next(self.numbers)}" for _ in range(number)]
        with self.store.together():
            for login_id in logins:
                now = self.pass_time(0.0)
                found = self.store.reuse(login_id, key, self.basis, self.policy, now)
                assert isinstance(found, Entry) == self.may_go_in(key)
                if isinstance(found, Entry):
                    self.check_promises(key, found)
                    self.real[key].uses[login_id] = now
                    if saved:
                        self.remember(login_id, key, Factor.NONE)
        if not saved:
            self.the_daemon_restarts()
        elif opens and logins[0] in self.waiting:
            self.open(logins[0])

    def may_go_in(self, key: Key) -> bool:
        """Tell from what really happened whether somebody need not be asked."""
        real, policy = self.real.get(key), self.policy
        if real is None or real.basis != self.basis or policy.reuse_limit == 0:
            return False
        if 0 < policy.reuse_limit <= len(real.uses):
            return False
        ages = age(real.at, self.now), age(real.last, self.now)
        return None not in ages and ages[0] <= policy.hard_timeout and ages[1] <= policy.soft_timeout  # type: ignore[operator]

    def check_promises(self, key: Key, found: Entry) -> None:
        real, policy, now = self.real[key], self.policy, self.now
        assert (found.authenticated, found.used) == (real.at, now)
        assert policy.reuse_limit < 0 or len(real.uses) + 1 <= policy.reuse_limit
        for then, longest in ((real.at, policy.hard_timeout), (real.last, policy.soft_timeout)):
            assert 0.0 <= now.wall - then.wall <= longest
            assert then.boot != now.boot or 0.0 <= now.boottime - then.boottime <= longest

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def a_session_opens(self, data: st.DataObject) -> None:
        self.open(data.draw(st.sampled_from(sorted(self.waiting))))

    def open(self, login_id: str) -> None:
        record = self.waiting.pop(login_id)
        self.opened.add(login_id)
        self.store.open_session(_lease(record), record.earned)
        if record.factor is Factor.CODE and record.key:
            at = Moment(record.wall, record.made, record.boot)
            self.real[record.key] = _Authentication(record.basis, at)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def somebody_hangs_up_before_his_session(self, data: st.DataObject) -> None:
        login_id = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[login_id]
        self.store.forget_records([login_id])
        self.give_back(login_id)

    def give_back(self, login_id: str) -> None:
        for real in self.real.values():
            real.uses.pop(login_id, None)

    # what time, machines and administrators do

    @rule(seconds=PAUSES)
    def time_passes(self, seconds: float) -> None:
        self.pass_time(seconds)

    @rule(seconds=PAUSES, sign=st.sampled_from([-1, 1]))
    def the_wall_clock_steps(self, seconds: float, sign: int) -> None:
        self.pass_time(0.0)
        self.now = replace(self.now, wall=self.now.wall + sign * seconds)

    @rule()
    def the_daemon_restarts(self) -> None:
        self.store = self.store_again()
        self.store.give_back_orphans()
        for real in self.real.values():
            known = self.waiting.keys() | self.opened
            real.uses = {login_id: at for login_id, at in real.uses.items() if login_id in known}

    @rule(seconds=PAUSES)
    def the_machine_reboots(self, seconds: float) -> None:
        self.pass_time(seconds)
        self.now = Moment(self.now.wall, 1.0 + TICK * next(self.numbers), f"boot-{next(self.numbers)}")
        self.store = self.store_again()
        self.store.forget_records([record.login_id for record in self.store.records() if record.boot != self.now.boot])
        for login_id in list(self.waiting):
            del self.waiting[login_id]
            self.give_back(login_id)
        self.the_daemon_restarts()

    @rule(key=keys, basis=st.sampled_from(["basis", "another"]), policy=st.sampled_from(RULES), what=st.integers(0, 4))
    def an_administrator_is_at_work(self, key: Key, basis: str, policy: Grace, what: int) -> None:
        """Reload other rules, map somebody anew, forget his entry or old entries, or only look."""
        before = self.now.wall - 400.0
        if what == 0:
            self.policy = policy
        elif what == 1:
            self.basis = basis
        elif what == 2:
            self.store.forget_grace([key])
            self.real.pop(key, None)
        elif what == 3:
            self.store.forget_grace_before(before)
            self.real = {key: real for key, real in self.real.items() if real.at.wall >= before}

    # what must hold whatever happens

    @invariant()
    def entries_hold_what_really_happened(self) -> None:
        kept = {
            key: (entry.basis, entry.authenticated, entry.used, entry.reuses)
            for key, entry in self.store.grace_entries()
        }
        happened = {key: (real.basis, real.at, real.last, len(real.uses)) for key, real in self.real.items()}
        assert kept == happened


def _lease(record: Record) -> Lease:
    return Lease(
        login_id=record.login_id,
        user=record.user,
        service=record.service,
        client_ip=record.client_ip,
        tty=record.tty,
        process=record.caller,
        boot=record.boot,
        since=record.wall,
        factor=record.factor,
        reason=record.reason,
    )


class _InMemory(_Interleaved):
    """With the store that other tests use."""

    memory: MemoryStore | None = None

    def store_again(self) -> Store:
        self.memory = self.memory or MemoryStore()
        return self.memory


class _OnDisk(_Interleaved):
    """With SQLite; every restart closes the file and opens it anew."""

    def __init__(self) -> None:
        self.place = tempfile.TemporaryDirectory()
        self.sqlite: SqliteStore | None = None
        super().__init__()

    def store_again(self) -> Store:
        if self.sqlite:
            self.sqlite.close()
        self.sqlite = SqliteStore(Path(self.place.name) / "state.db")
        return self.sqlite

    def teardown(self) -> None:
        if self.sqlite:
            self.sqlite.close()
        self.place.cleanup()


TestInMemory = _InMemory.TestCase
TestInMemory.settings = settings(max_examples=300, stateful_step_count=40)
TestOnDisk = _OnDisk.TestCase
TestOnDisk.settings = settings(max_examples=150, stateful_step_count=40)
