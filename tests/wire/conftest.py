"""What the wire tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.wire.connection import Connection
from tests.wire.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def stack() -> Iterator[Stack]:
    """Offer a PAM service whose hooks are ours."""
    with Stack() as made:
        yield made


@pytest.fixture
def sshd() -> Iterator[Stack]:
    """Offer a PAM service named sshd whose hooks are ours."""
    with Stack("sshd") as made:
        yield made


@pytest.fixture
def connection() -> Iterator[Connection]:
    """Offer a connection whose server's end pamtester may inherit."""
    made = Connection()
    yield made
    made.close()
