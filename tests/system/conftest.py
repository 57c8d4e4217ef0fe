"""One sandbox for all system tests, and one bastion that each test configures anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox import running
from tests.sandbox.running import Sandbox
from tests.system import bastion as bastions
from tests.system.bastion import Bastion
from tests.system.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def sandbox(engine: Engine) -> Iterator[Sandbox]:
    """Offer a sandbox on the network of the run."""
    with running.sandbox(listen=f"{engine.gateway}:0") as started:
        yield started


@pytest.fixture(scope="session")
def booted(engine: Engine, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bastion]:
    """Offer the one bastion, in whatever state the last test left it."""
    with bastions.bastion(engine, sandbox, tmp_path_factory.mktemp("client")) as started:
        yield started


@pytest.fixture
def bastion(booted: Bastion) -> Iterator[Bastion]:
    """Offer the bastion in key mode."""
    booted.configure("key")
    yield booted
    for terminal in booted.terminals:
        terminal.close()
    booted.terminals.clear()
