"""The worlds of the contract suites."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from starlingd.adapters.sqlite import SqliteStore
from tests.contract.worlds import World, fake_world, sandbox_world
from tests.fakes import MemoryStore
from tests.sandbox.running import Sandbox
from tests.sandbox.running import sandbox as start_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlingd.ports import Store


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with start_sandbox() as running:
        yield running


@pytest.fixture(params=["fake", "starling"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    make = fake_world() if request.param == "fake" else sandbox_world(request.getfixturevalue("sandbox"))
    with make as made:
        yield made


@pytest.fixture(params=["fake", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "fake":
        yield MemoryStore()
    else:
        sqlite = SqliteStore(tmp_path / "state.db")
        yield sqlite
        sqlite.close()
