"""Wrong codes: when a user must wait, where, for how long, and what a flood of guesses can do."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from starlingd.core import failures
from starlingd.core.failures import DAILY_CEILING, DAY, LONGEST_WAIT, Admission, Failures
from starlingd.core.rules import Rules

RULES = Rules(max_failures=5, failure_window=300)
HOME, AWAY = "198.51.100.7", "203.0.113.9"


def guess(ledger: Failures, now: float, user: str = "alice", place: str = HOME, rules: Rules = RULES) -> Admission:
    """Make one wrong guess, if it is admitted."""
    admission = ledger.begin(user, place, rules, now)
    if admission is Admission.GO:
        ledger.fail(user, place, now)
    return admission


def guess_often(ledger: Failures, times: int, now: float, place: str = HOME, rules: Rules = RULES) -> None:
    for _ in range(times):
        assert guess(ledger, now, place=place, rules=rules) is Admission.GO


# --- who must wait, and for how long -------------------------------------------------------------------------------


def test_nobody_waits_before_max_failures() -> None:
    ledger = Failures()
    guess_often(ledger, 4, 1000.0)
    assert ledger.locked_until("alice", HOME, RULES, 1000.0) is None


def test_after_max_failures_in_the_window_a_user_waits_for_a_window() -> None:
    ledger = Failures()
    guess_often(ledger, 5, 1000.0)
    assert ledger.locked_until("alice", HOME, RULES, 1000.0) == 1300.0
    assert ledger.begin("alice", HOME, RULES, 1299.9) is Admission.LOCKED
    assert ledger.begin("alice", HOME, RULES, 1300.0) is Admission.GO


@pytest.mark.parametrize(("last", "locked"), [(1299.9, True), (1300.0, False)])
def test_only_failures_within_one_window_lock(last: float, *, locked: bool) -> None:
    ledger = Failures()
    guess_often(ledger, 4, 1000.0)
    guess_often(ledger, 1, last)
    assert (ledger.locked_until("alice", HOME, RULES, last) is not None) is locked


def test_each_further_series_waits_twice_as_long_up_to_an_hour() -> None:
    ledger, now, waits = Failures(), 1000.0, []
    for _ in range(7):
        guess_often(ledger, 5, now)
        until = ledger.locked_until("alice", HOME, RULES, now)
        assert until is not None
        waits.append(until - now)
        now = until
    assert waits == [300.0, 600.0, 1200.0, 2400.0, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT]


def test_a_window_longer_than_an_hour_makes_nobody_wait_longer_than_an_hour() -> None:
    ledger, rules = Failures(), Rules(max_failures=2, failure_window=7200)
    guess_often(ledger, 2, 0.0, rules=rules)
    assert ledger.locked_until("alice", HOME, rules, 0.0) == LONGEST_WAIT
    guess_often(ledger, 1, LONGEST_WAIT, rules=rules)
    assert ledger.locked_until("alice", HOME, rules, LONGEST_WAIT) == 2 * LONGEST_WAIT


def test_with_one_failure_allowed_every_wrong_code_waits() -> None:
    ledger, rules, now = Failures(), Rules(max_failures=1, failure_window=10), 0.0
    for wait in (10.0, 20.0, 40.0):
        guess_often(ledger, 1, now, rules=rules)
        assert ledger.locked_until("alice", HOME, rules, now) == now + wait
        now += wait


def test_a_day_later_the_waits_begin_anew() -> None:
    ledger = Failures()
    guess_often(ledger, 5, 0.0)
    guess_often(ledger, 5, 300.0)
    ledger.prune(300.0 + DAY)
    guess_often(ledger, 5, 300.0 + DAY)
    assert ledger.locked_until("alice", HOME, RULES, 300.0 + DAY) == 600.0 + DAY


def test_a_stranger_elsewhere_locks_nobody_out() -> None:
    ledger = Failures()
    guess_often(ledger, 5, 0.0, AWAY)
    assert ledger.locked_until("alice", AWAY, RULES, 0.0)
    assert ledger.locked_until("alice", HOME, RULES, 0.0) is None
    assert ledger.locked_until("bob", AWAY, RULES, 0.0) is None


# --- the ceiling of a day ------------------------------------------------------------------------------------------


def test_fifty_wrong_codes_in_a_day_lock_a_user_everywhere_until_the_first_is_a_day_old() -> None:
    ledger = Failures()
    for number in range(DAILY_CEILING):
        guess_often(ledger, 1, float(number), f"192.0.2.{number}")
    for place in (HOME, "192.0.2.7", ""):
        assert ledger.locked_until("alice", place, RULES, 60.0) == DAY
        assert ledger.begin("alice", place, RULES, DAY - 0.1) is Admission.LOCKED
    assert ledger.locked_until("bob", HOME, RULES, 60.0) is None
    assert ledger.begin("alice", HOME, RULES, DAY) is Admission.GO


def test_right_codes_do_not_lift_the_ceiling() -> None:
    ledger = Failures()
    for number in range(DAILY_CEILING):
        guess_often(ledger, 1, float(number))
        if number < DAILY_CEILING - 1:
            assert ledger.begin("alice", HOME, RULES, float(number)) is Admission.GO
            assert ledger.succeed("alice", HOME)
    assert ledger.locked_until("alice", AWAY, RULES, 100.0) == DAY


# --- the ends of a guess -------------------------------------------------------------------------------------------


def test_a_right_code_starts_the_count_at_its_address_anew() -> None:
    ledger = Failures()
    guess_often(ledger, 4, 0.0)
    guess_often(ledger, 4, 0.0, AWAY)
    assert ledger.begin("alice", HOME, RULES, 0.0) is Admission.GO
    assert ledger.succeed("alice", HOME)
    guess_often(ledger, 4, 0.0)
    assert ledger.locked_until("alice", HOME, RULES, 0.0) is None
    guess_often(ledger, 1, 0.0, AWAY)
    assert ledger.locked_until("alice", AWAY, RULES, 0.0)


def test_a_right_code_ends_the_growth_of_waits() -> None:
    ledger = Failures()
    guess_often(ledger, 5, 0.0)
    assert ledger.begin("alice", HOME, RULES, 300.0) is Admission.GO
    ledger.succeed("alice", HOME)
    guess_often(ledger, 5, 301.0)
    assert ledger.locked_until("alice", HOME, RULES, 301.0) == 601.0


def test_a_wrong_code_in_the_same_moment_after_a_right_one_counts() -> None:
    ledger, rules = Failures(), Rules(max_failures=1)
    assert ledger.begin("alice", HOME, rules, 0.0) is Admission.GO
    ledger.succeed("alice", HOME)
    guess_often(ledger, 1, 0.0, rules=rules)
    assert ledger.locked_until("alice", HOME, rules, 0.0)


def test_without_wrong_codes_before_it_a_right_one_clears_nothing() -> None:
    ledger = Failures()
    ledger.begin("alice", HOME, RULES, 0.0)
    assert ledger.succeed("alice", HOME) is False


def test_a_guess_nobody_could_tell_about_counts_nothing() -> None:
    ledger = Failures()
    for _ in range(100):
        assert ledger.begin("alice", HOME, RULES, 0.0) is Admission.GO
        ledger.release("alice", HOME)
    assert ledger.locked_until("alice", HOME, RULES, 0.0) is None


def test_unlocking_lifts_the_wait_and_the_ceiling_everywhere_but_of_nobody_else() -> None:
    ledger = Failures()
    for number in range(DAILY_CEILING):
        guess_often(ledger, 1, float(number), f"192.0.2.{number}")
    for _ in range(5):
        guess(ledger, 60.0, "bob")
    assert ledger.unlock("alice")
    assert ledger.locked_until("alice", HOME, RULES, 60.0) is None
    assert ledger.locked_until("bob", HOME, RULES, 60.0)
    assert not ledger.unlock("alice")
    assert not ledger.unlock("nobody")


def test_a_guess_under_way_while_its_user_is_unlocked_still_counts() -> None:
    ledger = Failures()
    guess_often(ledger, 4, 0.0)
    assert ledger.begin("alice", HOME, RULES, 0.0) is Admission.GO
    ledger.unlock("alice")
    ledger.fail("alice", HOME, 1.0)
    guess_often(ledger, 4, 1.0)
    assert ledger.locked_until("alice", HOME, RULES, 1.0)


# --- parallel guesses ----------------------------------------------------------------------------------------------


def test_no_more_guesses_are_checked_at_a_time_than_may_fail() -> None:
    ledger = Failures()
    guess_often(ledger, 2, 0.0)
    admitted = [ledger.begin("alice", HOME, RULES, 0.0) for _ in range(10)]
    assert Counter(admitted) == {Admission.GO: 3, Admission.WAIT: 7}
    for _ in range(3):
        ledger.fail("alice", HOME, 1.0)
    assert ledger.begin("alice", HOME, RULES, 1.0) is Admission.LOCKED


def test_one_that_waits_goes_when_another_was_right_or_could_not_be_checked() -> None:
    ledger = Failures()
    for _ in range(5):
        assert ledger.begin("alice", HOME, RULES, 0.0) is Admission.GO
    assert ledger.begin("alice", HOME, RULES, 0.0) is Admission.WAIT
    ledger.succeed("alice", HOME)
    assert ledger.begin("alice", HOME, RULES, 0.0) is Admission.GO
    assert ledger.begin("alice", HOME, RULES, 0.0) is Admission.WAIT
    ledger.release("alice", HOME)
    assert ledger.begin("alice", HOME, RULES, 0.0) is Admission.GO


def test_guesses_from_everywhere_at_once_do_not_pass_the_ceiling() -> None:
    ledger = Failures()
    places = [f"192.0.2.{number}" for number in range(200)]
    going = [place for place in places if ledger.begin("alice", place, RULES, 0.0) is Admission.GO]
    assert len(going) == DAILY_CEILING
    for place in going:
        ledger.fail("alice", place, 1.0)
    assert {ledger.begin("alice", place, RULES, 1.0) for place in places} == {Admission.LOCKED}


# --- after a restart -----------------------------------------------------------------------------------------------


def test_what_was_known_before_a_restart_counts_in_whatever_order_it_comes() -> None:
    ledger = Failures([("alice", HOME, float(at), False) for at in (4, 0, 3, 1, 2)])
    assert ledger.locked_until("alice", HOME, RULES, 5.0) == 304.0


def test_what_a_right_code_had_followed_counts_for_the_day_only() -> None:
    known = [("alice", HOME, float(at), at < 45) for at in range(49)]
    ledger = Failures(known)
    assert ledger.locked_until("alice", HOME, RULES, 49.0) is None
    guess_often(ledger, 1, 49.0)
    assert ledger.locked_until("alice", AWAY, RULES, 49.0) == DAY


def test_a_wall_clock_that_went_back_over_a_restart_clears_nothing() -> None:
    """Then all ages are nought, and all failures seem to be of one moment."""
    known = [("alice", HOME, 100.0, True)] + [("alice", HOME, 100.0, False)] * 5
    assert Failures(known).locked_until("alice", HOME, RULES, 100.0) == 400.0


# --- whatever an attacker sends ------------------------------------------------------------------------------------


def places_in(ledger: Failures) -> int:
    """Count what the table holds."""
    return sum(len(places) for places in vars(ledger)["_users"].values())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """Make the table small."""
    monkeypatch.setattr(failures, "MOST_PLACES", 20)
    return 20


def test_a_flood_of_addresses_fills_the_users_table_and_is_locked_out_of_it(small: int) -> None:
    ledger = Failures()
    flood = [guess(ledger, 0.0, f"user{number}", f"192.0.2.{number % 7}") for number in range(100)]
    assert flood == [Admission.GO] * small + [Admission.LOCKED] * (100 - small)
    assert places_in(ledger) == small
    assert ledger.locked_until("alice", HOME, RULES, 0.0) == RULES.failure_window
    ledger.prune(DAY)
    assert places_in(ledger) == 0
    assert ledger.locked_until("alice", HOME, RULES, DAY) is None


def test_who_is_in_a_full_table_goes_on_as_before(small: int) -> None:
    ledger = Failures()
    guess_often(ledger, 1, 0.0)
    for number in range(small):
        guess(ledger, 0.0, f"user{number}")
    guess_often(ledger, 4, 1.0)
    assert ledger.locked_until("alice", HOME, RULES, 1.0) == 301.0


def test_right_codes_leave_nothing_in_the_table(small: int) -> None:
    ledger = Failures()
    for number in range(3 * small):
        assert ledger.begin(f"user{number}", HOME, RULES, 0.0) is Admission.GO
        ledger.succeed(f"user{number}", HOME)
    assert places_in(ledger) == 0


def test_guesses_that_wait_or_are_locked_leave_nothing_in_the_table(small: int) -> None:
    ledger, rules = Failures(), Rules(max_failures=DAILY_CEILING)
    guess_often(ledger, DAILY_CEILING - 1, 0.0, rules=rules)
    assert ledger.begin("alice", HOME, rules, 301.0) is Admission.GO
    for number in range(3 * small):
        assert ledger.begin("alice", f"192.0.2.{number}", rules, 301.0) is Admission.WAIT
    assert places_in(ledger) == 1
    ledger.fail("alice", HOME, 302.0)
    for number in range(3 * small):
        assert ledger.begin("alice", f"192.0.2.{number}", rules, 302.0) is Admission.LOCKED
    assert places_in(ledger) == 1


# --- any guesses at all --------------------------------------------------------------------------------------------

USERS, PLACES = st.sampled_from(["alice", ":alice"]), st.sampled_from([HOME, AWAY])
STEPS = st.sampled_from([0, 1, 9, 10, 11, 150, 300, 301, 3600, 7200, 43200, 86399, 86400])


class _Guessing(RuleBasedStateMachine):
    """Parallel guesses, right codes, outages, restarts and unlocks, against a plain list of what failed when."""

    @initialize(allowed=st.integers(1, 6), window=st.sampled_from([1, 10, 300, 3600, 86400]))
    def begin(self, allowed: int, window: int) -> None:
        self.policy = Rules(max_failures=allowed, failure_window=window)
        self.ledger = Failures()
        self.now = 100_000
        self.failed: list[tuple[str, str, float, bool]] = []
        self.under_way: list[tuple[str, str]] = []

    def here(self, user: str, place: str, seconds: float) -> list[float]:
        """Tell when the wrong codes came that no right one followed, in the last ``seconds``."""
        young = (failure for failure in self.failed if failure[2] > self.now - seconds)
        return [at for who, where, at, cleared in young if (who, where) == (user, place) and not cleared]

    def today(self, user: str) -> int:
        return sum(who == user and at > self.now - DAY for who, _, at, _ in self.failed)

    def must_wait(self, user: str, place: str) -> bool:
        if self.today(user) >= DAILY_CEILING:
            return True
        times = self.here(user, place, DAY)
        series, newest = len(times) // self.policy.max_failures, times[-self.policy.max_failures :]
        if not series or newest[-1] - newest[0] >= self.policy.failure_window:
            return False
        return self.now < newest[-1] + min(3600, self.policy.failure_window * 2.0 ** (series - 1))

    @rule(user=USERS, place=PLACES)
    def one_more_guess(self, user: str, place: str) -> None:
        admission = self.ledger.begin(user, place, self.policy, self.now)
        assert (admission is Admission.LOCKED) == self.must_wait(user, place)
        if admission is Admission.WAIT:
            assert user in {who for who, _ in self.under_way}, "nobody waits for nothing"
        if admission is Admission.GO:
            self.under_way.append((user, place))

    @rule(user=USERS, place=PLACES, guesses=st.integers(1, 60))
    def a_burst_of_wrong_guesses(self, user: str, place: str, guesses: int) -> None:
        for _ in range(guesses):
            if self.ledger.begin(user, place, self.policy, self.now) is Admission.GO:
                self.ledger.fail(user, place, self.now)
                self.failed.append((user, place, self.now, False))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def it_was_wrong(self, data: st.DataObject) -> None:
        user, place = self.end(data)
        self.ledger.fail(user, place, self.now)
        self.failed.append((user, place, self.now, False))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def it_was_right(self, data: st.DataObject) -> None:
        user, place = self.end(data)
        self.ledger.succeed(user, place)
        self.failed = [(*failure[:3], failure[3] or failure[:2] == (user, place)) for failure in self.failed]

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def nobody_could_tell(self, data: st.DataObject) -> None:
        self.ledger.release(*self.end(data))

    def end(self, data: st.DataObject) -> tuple[str, str]:
        return self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))

    @rule(seconds=STEPS)
    def time_passes(self, seconds: int) -> None:
        # A guess ends before its login's deadline; only then may much time pass.
        if seconds <= 100 or not self.under_way:
            self.now += seconds

    @rule()
    def old_ones_are_forgotten(self) -> None:
        self.ledger.prune(self.now)

    @rule(user=USERS)
    def unlocked(self, user: str) -> None:
        self.ledger.unlock(user)
        self.failed = [failure for failure in self.failed if failure[0] != user]

    @rule()
    def restarted(self) -> None:
        self.ledger = Failures(failure for failure in self.failed if failure[2] > self.now - DAY)
        self.under_way = []

    @invariant()
    def whoever_must_wait_is_told_so(self) -> None:
        for user in ("alice", ":alice"):
            for place in (HOME, AWAY, "192.0.2.1"):
                until = self.ledger.locked_until(user, place, self.policy, self.now)
                assert (until is not None) == self.must_wait(user, place)
                assert until is None or until > self.now

    @invariant()
    def no_window_holds_more_than_may_fail_and_no_day_more_than_its_ceiling(self) -> None:
        guessing = Counter(self.under_way)
        for user in ("alice", ":alice"):
            going = sum(count for (who, _), count in guessing.items() if who == user)
            assert self.today(user) + going <= DAILY_CEILING
            window = min(self.policy.failure_window, LONGEST_WAIT)  # nobody waits longer than an hour
            for place in (HOME, AWAY):
                assert len(self.here(user, place, window)) + guessing[user, place] <= self.policy.max_failures

    @invariant()
    def the_table_holds_only_what_it_must(self) -> None:
        assert places_in(self.ledger) <= len({failure[:2] for failure in self.failed} | set(self.under_way))


TestGuessing = _Guessing.TestCase
TestGuessing.settings = settings(max_examples=300, stateful_step_count=50)


def test_a_flood_of_made_up_names_locks_nobody_who_has_one_and_no_stranger_either(small: int) -> None:
    ledger = Failures()
    assert {guess(ledger, 0.0, f":made-up-{number}") for number in range(5 * small)} == {Admission.GO}
    assert places_in(ledger) == small
    assert ledger.locked_until(":one-more", HOME, RULES, 0.0) is None
    assert ledger.locked_until("alice", HOME, RULES, 0.0) is None


def test_the_oldest_stranger_is_forgotten_and_no_guess_under_way(small: int) -> None:
    ledger = Failures()
    assert ledger.begin(":waiting", HOME, RULES, 0.0) is Admission.GO
    for number in range(small):
        for _ in range(RULES.max_failures):
            assert guess(ledger, 0.0, f":made-up-{number}") is Admission.GO
    assert ledger.locked_until(":made-up-0", HOME, RULES, 0.0) is None
    assert ledger.locked_until(f":made-up-{small - 1}", HOME, RULES, 0.0) == RULES.failure_window
    ledger.fail(":waiting", HOME, 0.0)
    assert places_in(ledger) == small
