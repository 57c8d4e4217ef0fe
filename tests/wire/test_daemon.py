"""The module and the daemon's own server: pamtester logs in through both."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from starlingd.core.model import PushStatus
from starlingd.core.rules import Rules
from starlingd.core.sentences import NOT_WORKING, TIME_UP
from starlingd.server.listener import Listener, bind
from tests.daemon_under_test import RIGHT_CODE, Bastion, on_bastion
from tests.wire import stack as pam
from tests.wire.connection import Connection
from tests.wire.stack import PATIENCE, Outcome, Stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

LOGIN = ("authenticate", "acct_mgmt", "open_session", "close_session")

ADDRESS = "-Irhost=198.51.100.7"


@asynccontextmanager
async def listening(bastion: Bastion, sshd: Stack) -> AsyncIterator[Listener]:
    """Let the bastion's server listen where the module connects."""
    with bind(sshd.socket, socket.SOCK_SEQPACKET) as sock:
        listener = Listener(bastion.host, sock)
        task = asyncio.create_task(listener.run())
        try:
            yield listener
            await listener.end_sessions(PATIENCE)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def pamtester(
    sshd: Stack, *operations: str, typed: bytes = b"", options: Sequence[str] = (), descriptors: Sequence[int] = ()
) -> Outcome:
    """Run pamtester beside the daemon."""
    command = sshd.command(*operations or ("authenticate",), options=options)
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={},
        pass_fds=descriptors,
    )
    output, _ = await asyncio.wait_for(process.communicate(typed), PATIENCE)
    return sshd.outcome(output.decode())


def on_daemon(sshd: Stack, test: Callable[[Bastion, Listener], Awaitable[None]]) -> None:
    """Run the coroutine function ``test`` with a daemon at the stack's socket."""

    async def run(bastion: Bastion) -> None:
        async with listening(bastion, sshd) as listener:
            await test(bastion, listener)

    on_bastion(run, Rules(poll_interval=0.01))


def test_a_code_logs_in_through_all_hooks_as_one_login(sshd: Stack) -> None:
    async def test(bastion: Bastion, _: Listener) -> None:
        outcome = await pamtester(sshd, *LOGIN, typed=RIGHT_CODE.encode() + b"\n", options=[ADDRESS])
        assert (outcome.result, outcome.log) == (pam.SUCCESS, [])
        [event] = bastion.events()
        assert (event["STARLING_OUTCOME"], event["STARLING_REASON"]) == ("allow", "code_verified")
        assert event["STARLING_CLIENT_IP"] == "198.51.100.7"
        assert not bastion.store.kept
        assert not bastion.store.open

    on_daemon(sshd, test)


def test_an_empty_answer_is_a_push_whose_approval_logs_in(sshd: Stack) -> None:
    async def test(bastion: Bastion, _: Listener) -> None:
        bastion.provider.statuses = [PushStatus.PENDING, PushStatus.PENDING, PushStatus.APPROVED]
        outcome = await pamtester(sshd, typed=b"\n", options=[ADDRESS])
        assert (outcome.result, outcome.log) == (pam.SUCCESS, [])
        assert outcome.shown.startswith("Press Enter for push notification (number ")

    on_daemon(sshd, test)


def test_three_wrong_codes_are_too_many(sshd: Stack) -> None:
    async def test(_bastion: Bastion, _: Listener) -> None:
        outcome = await pamtester(sshd, typed=b"654321\n" * 3, options=[ADDRESS])
        assert (outcome.result, outcome.log) == (pam.MAXTRIES, [])

    on_daemon(sshd, test)


def test_a_forged_login_id_opens_no_session(sshd: Stack) -> None:
    async def test(_bastion: Bastion, _: Listener) -> None:
        forged = "-EPAM_STARLING_LOGIN=00000000-0000-4000-8000-000000000000"
        outcome = await pamtester(sshd, "open_session", options=[ADDRESS, forged])
        assert (outcome.result, outcome.log) == (pam.SESSION_ERR, [])

    on_daemon(sshd, test)


def test_a_daemon_that_stops_tells_those_who_wait(sshd: Stack) -> None:
    async def test(bastion: Bastion, listener: Listener) -> None:
        bastion.provider.statuses = [PushStatus.PENDING]
        waiting = asyncio.create_task(pamtester(sshd, typed=b"\n", options=[ADDRESS]))
        assert await asyncio.to_thread(bastion.provider.polled.wait, PATIENCE)
        await listener.end_sessions(PATIENCE)
        outcome = await waiting
        assert (outcome.result, outcome.log) == (pam.AUTH_ERR, [])
        assert NOT_WORKING in outcome.shown

    on_daemon(sshd, test)


def test_no_push_is_sent_that_does_not_fit_into_the_deadline_of_the_pamd_line(sshd: Stack) -> None:
    async def test(bastion: Bastion, _: Listener) -> None:
        bastion.provider.statuses = [PushStatus.PENDING]
        sshd.option("deadline=1")
        outcome = await pamtester(sshd, typed=b"\n", options=[ADDRESS])
        assert (outcome.result, outcome.log) == (pam.AUTH_ERR, [])
        assert TIME_UP in outcome.shown
        assert not bastion.provider.calls

    on_daemon(sshd, test)


def test_a_client_who_hangs_up_in_mid_push_ends_the_polling(sshd: Stack, connection: Connection) -> None:
    async def test(bastion: Bastion, listener: Listener) -> None:
        bastion.provider.statuses = [PushStatus.PENDING]
        waiting = asyncio.create_task(
            pamtester(sshd, typed=b"\n", options=connection.options, descriptors=[connection.server.fileno()])
        )
        assert await asyncio.to_thread(bastion.provider.polled.wait, PATIENCE)
        connection.client.close()
        outcome = await waiting
        assert outcome.result == pam.AUTH_ERR
        assert len(outcome.log) == 1
        assert outcome.log[0].endswith("authenticate refused: the client hung up")
        await listener.end_sessions(PATIENCE)
        [event] = bastion.events()
        assert (event["STARLING_OUTCOME"], event["STARLING_REASON"]) == ("deny", "hung_up")
        assert not bastion.store.kept

    on_daemon(sshd, test)


def test_an_answer_that_is_too_long_leaves_no_code_to_check(sshd: Stack) -> None:
    async def test(bastion: Bastion, _: Listener) -> None:
        outcome = await pamtester(sshd, typed=b"1" * 129 + b"\n", options=[ADDRESS])
        assert outcome.result == pam.AUTH_ERR
        assert len(outcome.log) == 1
        assert "too_long" in outcome.log[0]
        assert not bastion.provider.calls

    on_daemon(sshd, test)
