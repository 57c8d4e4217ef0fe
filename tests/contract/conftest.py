"""The worlds of the contract suites."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.worlds import World, fake_world

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=[fake_world])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with request.param() as made:
        yield made
