"""What every AuditLog keeps to, asked of the fake and of the journal's adapter where no journal runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from starlingd.adapters import journal
from starlingd.ports import AuditLog
from tests.fakes import AuditList

FIELDS = {"STARLING_EVENT": "login", "STARLING_USER": "alice"}
HOSTILE = [
    "",
    "two\nlines",
    "\x1b[2J\x07\r\x00",
    "\x9b31m\x85\u2028\u202e",
    "\udcff\ud800",
    "x" * 1_000_000,
    "a=b c='d' %s {0}",
]


@dataclass(frozen=True)
class World:
    """An audit log, and how many events it took so far."""

    log: AuditLog
    taken: Callable[[], int]


@pytest.fixture(params=["fake", "stderr"])
def world(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    if request.param == "fake":
        fake = AuditList()
        return World(fake, lambda: len(fake.events))
    monkeypatch.setattr(journal, "SOCKET", tmp_path / "no journal")
    return World(journal.JournalAuditLog(), lambda: len(capsys.readouterr().err.splitlines()))


@pytest.mark.parametrize("warning", [False, True])
def test_an_event_is_taken(world: World, *, warning: bool) -> None:
    world.log.write("login of alice", FIELDS, warning=warning)
    assert world.taken() == 1


@pytest.mark.parametrize("value", HOSTILE)
def test_whatever_a_value_holds_it_is_one_event(world: World, value: str) -> None:
    world.log.write(value, {**FIELDS, "STARLING_USER": value})
    assert world.taken() == 1


@pytest.mark.parametrize("fields", [{}, {f"STARLING_{number}": "x" for number in range(200)}])
def test_any_number_of_fields_is_one_event(world: World, fields: Mapping[str, str]) -> None:
    world.log.write("an event", fields)
    assert world.taken() == 1
