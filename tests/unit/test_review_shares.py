"""What one login or one client must not take from another: a push's place, descriptors, a grace entry, a call."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from starlingd.core.directory import Person
from starlingd.core.model import PushStatus
from starlingd.core.rules import DirectoryPolicy, DirectorySchema, FailMode, Grace, Provisioning, Rules, Tls
from starlingd.ports import Fault, Unavailable
from starlingd.server import control
from tests.daemon_under_test import RIGHT_CODE, Bastion, Connection, on_bastion, whole_daemon
from tests.fakes_directory import FakeDirectory

if TYPE_CHECKING:
    from pathlib import Path

    from starlingd.core.enrolment import Contact

PATIENCE = 5.0


def test_hanging_up_right_after_a_denial_counts_once() -> None:
    async def test(bastion: Bastion) -> None:
        noting, go = threading.Event(), threading.Event()
        note = bastion.store.add_push_failure

        def slow(user: str, at: float, *, denied: bool) -> None:
            noting.set()
            assert go.wait(PATIENCE)
            note(user, at, denied=denied)

        bastion.store.add_push_failure = slow  # type: ignore[method-assign]
        bastion.provider.statuses = [PushStatus.DENIED]
        module = await Connection(bastion, 1).begin()
        await module.answer("")
        assert await asyncio.to_thread(noting.wait, PATIENCE)
        module.hang_up()
        await bastion.settled()
        go.set()
        bastion.provider.statuses = [PushStatus.APPROVED]
        # One denial may be a slip, and a second failure of any kind would reach push_limit.
        assert (await Connection(bastion, 2).authenticate(""))["reason"] == "push_approved"

    on_bastion(test, Rules(poll_interval=0, push_limit=2))


def test_silent_clients_of_the_control_socket_use_up_no_more_than_their_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MOST_CLIENTS", 2)
    reader_of_all, root = control.Peer(1000, frozenset()), control.Peer(0, frozenset())
    who = [reader_of_all]

    async def test(bastion: Bastion) -> None:
        async with whole_daemon(bastion, tmp_path) as daemon:
            monkeypatch.setattr(control, "_peer_of", lambda _: who[0])
            clients = [await asyncio.open_unix_connection(daemon.control) for _ in range(3)]
            assert await asyncio.wait_for(clients[2][0].read(), PATIENCE) == b""
            who[0] = root
            for_root, to_daemon = await asyncio.open_unix_connection(daemon.control)
            to_daemon.write(b'{"command": "sessions list"}\n')
            assert await asyncio.wait_for(for_root.readline(), PATIENCE) == b'{"result": []}\n'
            for _, writer in [*clients, (for_root, to_daemon)]:
                writer.close()

    on_bastion(test)


@pytest.mark.parametrize("tty", ["ssh", ""])
def test_a_login_by_ssh_whose_address_nobody_knows_neither_reads_nor_writes_a_grace_entry(tty: str) -> None:
    async def test(bastion: Bastion) -> None:
        for number in (1, 2):
            connection = Connection(bastion, number, tty=tty, rhost="somewhere.example.org")
            connection.fields["conn"] = ""
            assert (await connection.log_in(RIGHT_CODE))["result"] == "success"
        assert not bastion.store.entries
        assert [call.split()[0] for call in bastion.provider.calls] == ["verify", "verify"]

    on_bastion(test, Rules(grace=Grace(soft_timeout=60, hard_timeout=60, reuse_limit=5)))


def test_who_hangs_up_while_the_service_is_probed_causes_no_second_probe() -> None:
    async def test(bastion: Bastion) -> None:
        probed, go = threading.Event(), threading.Event()
        bastion.provider.outage = Unavailable("starling", Fault.UNREACHABLE, "down")
        fail = bastion.provider.probe_token

        def slow(timeout: float) -> None:
            probed.set()
            assert go.wait(PATIENCE)
            fail(timeout)

        bastion.provider.probe_token = slow  # type: ignore[method-assign]
        impatient = await Connection(bastion, 1).begin()
        await impatient.answer(RIGHT_CODE)
        assert await asyncio.to_thread(probed.wait, PATIENCE)
        impatient.hang_up()
        await bastion.settled()
        patient = await Connection(bastion, 2).begin()
        await patient.answer(RIGHT_CODE)
        go.set()
        assert (await patient.done())["reason"] == "fail_open"
        assert bastion.provider.calls.count("probe") == 1

    on_bastion(test, Rules(fail_mode=FailMode.SAFE))


def test_however_many_logins_of_somebody_begin_one_call_at_a_time_enrols() -> None:
    policy = DirectoryPolicy("staff", ("ldaps://d",), "dc=x", DirectorySchema.RFC2307, Tls.LDAPS, "", "")
    attributes = {"mail": ("alice@example.org",), "mobile": ("+491701234567",)}

    async def test(bastion: Bastion) -> None:
        assert bastion.host.current is not None
        directory = FakeDirectory([Person("alice", "uid=alice", attributes=attributes)])
        bastion.host.current = replace(bastion.host.current, directory=directory)
        begun, go = threading.Semaphore(0), threading.Semaphore(0)
        under_way: list[Contact] = []
        together: list[int] = []

        def enrol(contact: Contact, _: float) -> str:
            under_way.append(contact)
            together.append(len(under_way))
            begun.release()
            go.acquire(timeout=PATIENCE)
            under_way.remove(contact)
            raise Unavailable("starling", Fault.BROKEN, "500")

        bastion.provider.enrol = enrol  # type: ignore[method-assign]
        logins = [asyncio.create_task(Connection(bastion, number).authenticate()) for number in (1, 2)]
        assert await asyncio.to_thread(begun.acquire, timeout=PATIENCE)
        go.release()
        assert (await next(asyncio.as_completed(logins)))["reason"] == "service_error"  # now the other one calls
        assert await asyncio.to_thread(begun.acquire, timeout=PATIENCE)
        logins.append(asyncio.create_task(Connection(bastion, 3).authenticate()))
        while len(directory.calls) < 3:
            await asyncio.to_thread(bool)
        for _ in range(20):  # turns enough for a third login that does not wait to get as far as its call
            await asyncio.to_thread(bool)
        go.release()
        assert await asyncio.to_thread(begun.acquire, timeout=PATIENCE)
        go.release()
        await asyncio.gather(*logins)
        assert together == [1, 1, 1]

    on_bastion(test, Rules(provisioning=Provisioning("mail", "mobile"), directory=policy))
