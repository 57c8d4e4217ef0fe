"""The worlds of the contract suites."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from starlingd.adapters.sqlite import SqliteStore
from starlingd.core.rules import DirectorySchema
from tests.contract.worlds import World, fake_world, sandbox_world, subscription_world
from tests.directory import slapd as slapds
from tests.directory.population import EVERYBODY
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


@pytest.fixture(params=["fake", "starling", "subscription"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "fake":
        make = fake_world()
    else:
        of_service = {"starling": sandbox_world, "subscription": subscription_world}[request.param]
        make = of_service(request.getfixturevalue("sandbox"))
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


@pytest.fixture(scope="session")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slapds.Slapd]:
    """Run a slapd that no test changes."""
    place = tmp_path_factory.mktemp("slapd") / "s"
    with slapds.running(place, DirectorySchema.RFC2307BIS, EVERYBODY) as running:
        yield running


@pytest.fixture
def own_slapd(tmp_path: Path) -> Iterator[slapds.Slapd]:
    """Run a slapd for one test."""
    with slapds.running(tmp_path / "own", DirectorySchema.RFC2307BIS, EVERYBODY) as running:
        yield running


@pytest.fixture
def other_slapd(tmp_path: Path) -> Iterator[slapds.Slapd]:
    """Run a second one."""
    with slapds.running(tmp_path / "other", DirectorySchema.RFC2307BIS, EVERYBODY) as running:
        yield running
