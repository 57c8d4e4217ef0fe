"""While it is not known what an earlier daemon kept, everybody is denied; afterwards all of it counts."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from starlingd.core.model import Process
from starlingd.core.rules import Rules
from starlingd.ports import Fault, Unavailable
from starlingd.server import processes
from tests.contract.stores import LEASE
from tests.daemon_under_test import RIGHT_CODE, Bastion, on_bastion, whole_daemon

MONITOR, NOBODY = Process(40, 400), Process(99, 990)
REFUSED = {"authenticate": "auth_err", "account": "acct_denied", "open_session": "session_err"}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starlingd.server.daemon.RECOVERY_INTERVAL", 0.01)
    monkeypatch.setattr(processes, "is_alive", lambda _: True)


@pytest.mark.parametrize("operation", REFUSED)
def test_until_it_is_known_every_operation_is_refused_unasked(operation: str) -> None:
    async def test(bastion: Bastion) -> None:
        bastion.host.recovered = False
        done = await (await bastion.call(operation, MONITOR)).done()
        assert (done["result"], done["reason"]) == (REFUSED[operation], "store_unavailable")
        assert "env.PAM_STARLING_LOGIN" not in done
        assert bastion.provider.calls == []
        assert [event["STARLING_REASON"] for event in bastion.events()] == ["store_unavailable"]

    on_bastion(test)


def test_closing_a_session_is_never_refused() -> None:
    async def test(bastion: Bastion) -> None:
        bastion.host.recovered = False
        assert (await (await bastion.call("close_session", MONITOR)).done())["result"] == "success"

    on_bastion(test)


async def recovered(bastion: Bastion) -> None:
    """Ask until the daemon knows what was kept."""
    reason = "store_unavailable"
    while reason == "store_unavailable":
        reason = (await (await bastion.call("close_session", NOBODY)).done())["reason"]


def test_sessions_wrong_codes_and_pushes_count_once_the_store_can_be_read(tmp_path: Path) -> None:
    async def test(bastion: Bastion) -> None:
        store, now = bastion.store, time.time()
        store.open_session(replace(LEASE, client_ip="198.51.100.9"), None)
        for _ in range(5):
            store.add_failure("alice", "198.51.100.7", now)
        for _ in range(3):
            store.add_push_failure("alice", now, denied=True)
        store.outage = Unavailable("store", Fault.BROKEN, "a disk that comes late")
        bastion.host.recovered = False
        async with whole_daemon(bastion, tmp_path):
            first = await (await bastion.call("authenticate")).done()
            assert first["reason"] == "store_unavailable"
            store.outage = None
            await recovered(bastion)
            full = await (await bastion.call("authenticate", conn="198.51.100.9 50000 192.0.2.1 22")).done()
            assert full["reason"] == "connection_limit"
            locked = await bastion.call("authenticate")
            await locked.answer(RIGHT_CODE)
            assert (await locked.done())["reason"] == "too_many_attempts"
            assert bastion.provider.calls == []

    on_bastion(test, Rules(connection_limit=1))


@pytest.mark.parametrize("call", ["sessions", "records", "failures", "push_failures", "give_back_orphans"])
def test_any_part_that_cannot_be_read_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    async def test(bastion: Bastion) -> None:
        bastion.store.open_session(LEASE, None)
        real, failed = getattr(bastion.store, call), []

        def fail_twice(*arguments: object) -> object:
            if len(failed) < 2:
                failed.append(call)
                raise Unavailable("store", Fault.BROKEN, "not now")
            return real(*arguments)

        monkeypatch.setattr(bastion.store, call, fail_twice)
        bastion.host.recovered = False
        async with whole_daemon(bastion, tmp_path):
            await recovered(bastion)
            assert len(failed) == 2
            assert bastion.host.logins.count("alice", LEASE.client_ip) == 1

    on_bastion(test)
