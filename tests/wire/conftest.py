"""What the wire tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.wire.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stack() -> Iterator[Stack]:
    """Offer a PAM service whose hooks are ours."""
    with Stack() as made:
        yield made
