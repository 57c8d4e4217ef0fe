"""What a bug, a silent scraper or a directory that looks wrong must not keep busy, hold, or leave unsaid."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from starlingd.core.rules import Grace, Rules
from starlingd.server import metrics
from tests.daemon_under_test import RIGHT_CODE, Bastion, Connection, on_bastion

if TYPE_CHECKING:
    from starlingd.core.model import Check

PATIENCE = 5.0


def break_down(*_: object) -> Check:
    """Fail as no provider should."""
    raise ZeroDivisionError


def test_a_guess_that_a_bug_ends_counts_and_is_not_under_way_for_ever() -> None:
    async def test(bastion: Bastion) -> None:
        bastion.provider.verify = break_down  # type: ignore[method-assign]
        reasons = []
        for number in range(3):
            module = await Connection(bastion, number).begin()
            await module.answer("000000")
            reasons.append((await module.done())["reason"])
        assert reasons == ["internal_error", "internal_error", "too_many_attempts"]

    on_bastion(test, Rules(max_failures=2))


def test_a_login_that_a_bug_ends_is_written_down_and_gives_back_the_reuse_it_took() -> None:
    async def test(bastion: Bastion) -> None:
        assert (await Connection(bastion, 1).log_in(RIGHT_CODE))["result"] == "success"

        def no_record(*_: object) -> None:
            raise ZeroDivisionError

        bastion.store.save_record = no_record  # type: ignore[method-assign]
        refused = await Connection(bastion, 2).authenticate()
        assert (refused["result"], refused["reason"]) == ("auth_err", "internal_error")
        await bastion.settled()
        await bastion.host.logins.sweep(lambda _: True)
        await bastion.host.pools.store.run(PATIENCE, bool)  # whatever the cleaner began comes before it
        assert [entry.reuses for entry in bastion.store.entries.values()] == [0]
        last = bastion.events()[-1]
        assert (last["STARLING_OUTCOME"], last["STARLING_REASON"]) == ("deny", "internal_error")

    on_bastion(test, Rules(grace=Grace(soft_timeout=60, hard_timeout=60, reuse_limit=1)))


def test_a_session_that_is_cut_short_is_written_down() -> None:
    async def test(bastion: Bastion) -> None:
        def break_down_too(*_: object) -> None:
            raise ZeroDivisionError

        connection = Connection(bastion, 1)
        login = (await connection.authenticate(RIGHT_CODE))["env.PAM_STARLING_LOGIN"]
        bastion.store.open_session = break_down_too  # type: ignore[method-assign]
        assert (await connection.hook("open_session", login))["result"] == "session_err"
        assert [event["STARLING_REASON"] for event in bastion.events("session_open")] == ["internal_error"]

    on_bastion(test)


def test_a_scraper_who_says_nothing_does_not_keep_the_daemon_from_stopping() -> None:
    async def test(bastion: Bastion) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            address = probe.getsockname()
        end = metrics.serve(f"127.0.0.1:{address[1]}", bastion.host, lambda: 0, lambda: None)
        with socket.create_connection(address) as scraper:
            scraper.sendall(b"GET /metr")
            await asyncio.wait_for(asyncio.to_thread(end), PATIENCE)

    on_bastion(test)
