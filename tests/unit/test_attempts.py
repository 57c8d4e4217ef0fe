"""Answers per connection: counted across calls, forgotten in time, and bounded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from starlingd.core import attempts
from starlingd.core.attempts import LIFETIME, Attempts, Connection, connection_of
from starlingd.core.model import Process
from tests.unit.script import LOGIN, START

MONITOR = LOGIN.parent
CONNECTION = connection_of(LOGIN)


def connection(number: int) -> Connection:
    """Make one of many connections."""
    return Connection(Process(number, number), f"198.51.100.7 {number} 192.0.2.1 22")


def full(monkeypatch: pytest.MonkeyPatch, places: int = 2) -> Attempts:
    """Make a small table without a free place."""
    monkeypatch.setattr(attempts, "MOST_CONNECTIONS", places)
    table = Attempts()
    for number in range(places):
        table.add_answer(connection(number), START)
    return table


# Which connection a login belongs to


def test_each_authenticate_of_one_connection_has_a_child_of_its_own_and_the_same_count() -> None:
    again = replace(LOGIN, caller=Process(51, 510), auth_info="", user="bob", deadline=5.0)
    assert connection_of(again) == CONNECTION


@pytest.mark.parametrize(
    "change",
    [
        {"parent": Process(41, 400)},
        {"parent": Process(40, 401)},
        {"connection": "198.51.100.7 50001 192.0.2.1 22"},
        {"connection": "198.51.100.8 50000 192.0.2.1 22"},
    ],
    ids=str,
)
def test_another_monitor_or_another_port_or_address_is_another_connection(change: dict[str, object]) -> None:
    assert connection_of(replace(LOGIN, **change)) != CONNECTION  # type: ignore[arg-type]


def test_without_an_address_the_caller_is_the_connection_and_its_parent_is_not() -> None:
    console = replace(LOGIN, service="login", connection="", client_ip="")
    assert connection_of(console) == Connection(console.caller, "")
    assert connection_of(replace(console, parent=Process(1, 1))) == connection_of(console)
    assert connection_of(replace(console, caller=Process(50, 501))) != connection_of(console)


# What is counted


def test_a_connection_nobody_knows_has_spent_nothing_and_is_open() -> None:
    table = Attempts()
    assert (table.spent(CONNECTION, START), table.closed(CONNECTION, START)) == (0, False)


def test_a_closed_connection_stays_closed_and_keeps_its_count() -> None:
    table = Attempts()
    table.add_answer(CONNECTION, START)
    table.close(CONNECTION, START + 1)
    table.add_answer(CONNECTION, START + 2)
    assert (table.spent(CONNECTION, START + 3), table.closed(CONNECTION, START + 3)) == (2, True)


@pytest.mark.parametrize(("later", "spent"), [(LIFETIME, 1), (LIFETIME + 0.1, 0)])
def test_a_connection_is_forgotten_after_its_lifetime_and_not_before(later: float, spent: int) -> None:
    table = Attempts()
    table.add_answer(CONNECTION, START)
    table.close(CONNECTION, START)
    assert (table.spent(CONNECTION, START + later), table.closed(CONNECTION, START + later)) == (spent, bool(spent))


def test_what_is_forgotten_does_not_come_back_with_the_next_answer() -> None:
    table = Attempts()
    table.add_answer(CONNECTION, START)
    table.close(CONNECTION, START)
    table.add_answer(CONNECTION, START + LIFETIME + 1)
    assert table.spent(CONNECTION, START + LIFETIME + 1) == 1
    assert not table.closed(CONNECTION, START + LIFETIME + 1)


# The bound


def test_at_capacity_the_quietest_connection_makes_room_and_the_others_keep_their_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = full(monkeypatch)
    table.add_answer(connection(0), START)
    table.close(CONNECTION, START)
    assert table.closed(CONNECTION, START)
    assert table.spent(connection(0), START) == 2
    assert table.spent(connection(1), START) == 0


def test_a_flood_of_connections_shuts_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    table = full(monkeypatch)
    for number in range(100, 200):
        table.close(connection(number), START)
    assert not table.closed(CONNECTION, START)
    assert len(vars(table)["_counts"]) == 2


@dataclass
class Remembered:
    """What the model knows of a connection."""

    answers: list[float] = field(default_factory=list)
    closed: bool = False
    used: float = START


class AttemptsMachine(RuleBasedStateMachine):
    """Any use of the table, against a model that keeps every answer of the connections it has not forgotten."""

    numbers = st.integers(0, 3)

    def __init__(self) -> None:
        super().__init__()
        self.table = Attempts()
        self.now = START
        self.model: dict[int, Remembered] = {}

    def _known(self, number: int) -> Remembered:
        if self.now - self.model.get(number, Remembered()).used > LIFETIME:
            self.model.pop(number, None)
        return self.model.setdefault(number, Remembered())

    @rule(seconds=st.sampled_from([0.0, 1.0, 300.0, LIFETIME, LIFETIME + 1]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    @rule(number=numbers)
    def answer(self, number: int) -> None:
        """Count an answer."""
        known = self._known(number)
        known.answers.append(self.now)
        known.used = self.now
        self.table.add_answer(connection(number), self.now)

    @rule(number=numbers)
    def close(self, number: int) -> None:
        """Close a connection."""
        known = self._known(number)
        known.closed, known.used = True, self.now
        self.table.close(connection(number), self.now)

    @precondition(lambda self: bool(self.model))
    @rule()
    def prune(self) -> None:
        """Prune, which changes nothing that can be seen."""
        self.table.prune(self.now)

    @invariant()
    def agrees(self) -> None:
        """Say what the model says."""
        for number in range(4):
            known = self._known(number)
            assert self.table.spent(connection(number), self.now) == len(known.answers)
            assert self.table.closed(connection(number), self.now) == known.closed


AttemptsMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=30)
TestAttempts = AttemptsMachine.TestCase
