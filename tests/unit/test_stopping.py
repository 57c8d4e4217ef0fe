"""What a daemon still has to do when it is told to stop."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from starlingd.core.grace import Entry, Key
from starlingd.core.rules import Rules
from starlingd.server.host import boottime
from starlingd.server.logins import Logins
from tests.daemon_under_test import Bastion, on_bastion, whole_daemon
from tests.unit.slots import House

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

P = ParamSpec("P")
T = TypeVar("T")

TURNS = 1000
"""Many more turns of the event loop than a stop takes that waits for nobody."""


class Late:
    """A store's worker that makes each call many turns of the event loop after it was asked to."""

    name = "store"
    under_way = 0

    async def run(self, wait: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call, late."""
        assert wait > 0
        for _ in range(TURNS):
            await asyncio.sleep(0)
        return call(*args, **kwargs)

    def close(self) -> None:
        """End."""


def test_a_login_that_was_cut_short_is_forgotten_before_the_daemon_ends(tmp_path: Path) -> None:
    async def test(bastion: Bastion) -> None:
        late, house = Late(), House()
        record = house.record()
        house.end()
        bastion.host.pools = replace(bastion.host.pools, store=late)
        bastion.host.logins = Logins(bastion.store, late, "boot-1", boottime, bastion.deaths)
        async with whole_daemon(bastion, tmp_path):
            await bastion.host.logins.add(record, 1)
            assert set(bastion.store.kept) == {record.login_id}
            bastion.host.logins.drop(record.login_id)
        assert bastion.store.kept == {}

    on_bastion(test)


def test_a_reload_right_before_a_stop_still_drops_the_grace_it_makes_invalid(tmp_path: Path) -> None:
    async def test(bastion: Bastion) -> None:
        bastion.host.pools = replace(bastion.host.pools, store=Late())
        moment = bastion.host.moment()
        async with whole_daemon(bastion, tmp_path) as whole:
            bastion.store.entries[Key("alice", "198.51.100.7", "", "")] = Entry("1000 alice", moment, moment)
            assert bastion.host.current
            exempting = replace(bastion.host.current, rules=Rules(break_glass=frozenset({"alice"})))
            await whole.reload((exempting, "ready"))
        assert bastion.store.entries == {}

    on_bastion(test)
