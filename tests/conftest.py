"""What system and packaging tests share: one engine, one package, one set of images for the whole run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.system import bastion as bastions
from tests.system import engine as engines
from tests.system import package
from tests.system.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# No example is timed: what is slow is measured in bench/, and a busy machine fails no test.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def deb() -> Path:
    """Offer the package built from this tree."""
    return package.build()


@pytest.fixture(scope="session")
def engine(deb: Path) -> Iterator[Engine]:
    """Offer an engine with the images built from this tree."""
    with engines.engine() as started:
        engines.build_image(started, deb, bastions.people())
        yield started
