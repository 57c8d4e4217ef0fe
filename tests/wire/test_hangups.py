"""A client who hangs up is noticed in mid-wait and at the verdict, although a forked child keeps the socket open."""

from __future__ import annotations

import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.wire import stack as pam
from tests.wire.connection import Connection
from tests.wire.peer import ASK, HELLO, PATIENCE, READ, SUCCESS, Peer, Step, packet
from tests.wire.stack import Outcome, Stack
from tests.wire.test_refusals import assert_refused

if TYPE_CHECKING:
    from collections.abc import Iterator

GONE = "the client hung up"
BOTH = ("authenticate", "acct_mgmt")


@contextmanager
def child_that_holds(descriptor: int) -> Iterator[None]:
    """Keep a descriptor open in another process, as sshd's monitor does."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[descriptor]) as child:
        yield
        assert child.stdin
        child.stdin.close()


@pytest.mark.parametrize("operation", BOTH)
def test_a_hang_up_in_mid_wait_refuses_and_reaches_the_daemon(
    stack: Stack, connection: Connection, operation: str
) -> None:
    """The daemon's end of file comes long before the deadline: the script ends by waiting for it."""
    script: list[Step] = [HELLO, READ, connection.client.close]
    with child_that_holds(connection.server.fileno()), Peer(stack.socket, script):
        outcome = stack.run(operation, options=connection.options, descriptors=[connection.server.fileno()])
    assert_refused(outcome, GONE, operation, sentence="")


@pytest.mark.parametrize("operation", BOTH)
def test_a_hang_up_that_comes_with_the_verdict_refuses(stack: Stack, connection: Connection, operation: str) -> None:
    script: list[Step] = [HELLO, READ, connection.client.close, SUCCESS]
    with Peer(stack.socket, script):
        outcome = stack.run(operation, options=connection.options, descriptors=[connection.server.fileno()])
    assert_refused(outcome, GONE, operation, sentence="")


def test_a_client_who_only_stops_sending_has_hung_up(stack: Stack, connection: Connection) -> None:
    script: list[Step] = [HELLO, READ, lambda: connection.client.shutdown(socket.SHUT_WR)]
    with Peer(stack.socket, script):
        outcome = stack.run(options=connection.options, descriptors=[connection.server.fileno()])
    assert_refused(outcome, GONE, sentence="")


def test_a_client_who_was_reset_before_the_hook_is_gone(stack: Stack, connection: Connection) -> None:
    connection.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.client.close()
    with Peer(stack.socket):
        outcome = stack.run(options=connection.options, descriptors=[connection.server.fileno()])
    assert_refused(outcome, "the client's connection is gone", sentence="")


def test_a_connection_that_was_announced_and_is_not_ours_is_gone(stack: Stack, connection: Connection) -> None:
    with Peer(stack.socket):
        assert_refused(stack.run(options=connection.options), "the client's connection is gone", sentence="")


@pytest.mark.parametrize("operation", BOTH)
def test_a_client_who_stays_is_let_in_and_the_daemon_told_where_he_is(
    stack: Stack, connection: Connection, operation: str
) -> None:
    connection.client.send(b"what the client sends is not ours to read, and no hang-up")
    with Peer(stack.socket, [HELLO, READ, SUCCESS]) as peer:
        outcome = stack.run(operation, options=connection.options, descriptors=[connection.server.fileno()])
    assert outcome == Outcome(pam.SUCCESS, "", [])
    assert peer.received[0][0][1]["conn"] == connection.ends
    connection.server.settimeout(PATIENCE)
    assert connection.server.recv(100).startswith(b"what the client sends")


def test_the_one_connection_of_the_process_is_found_unannounced(stack: Stack, connection: Connection) -> None:
    with Peer(stack.socket, [HELLO, READ, connection.client.close]) as peer:
        outcome = stack.run(descriptors=[connection.server.fileno()])
    assert_refused(outcome, GONE, sentence="")
    assert peer.received[0][0][1]["conn"] == connection.ends


def test_a_hang_up_while_the_prompt_stands_is_noticed_after_it(stack: Stack, connection: Connection) -> None:
    script: list[Step] = [HELLO, READ, ASK, READ, connection.client.close, packet("done", result="success")]
    with Peer(stack.socket, script):
        outcome = stack.run(typed=b"123456\n", options=connection.options, descriptors=[connection.server.fileno()])
    assert (outcome.result, outcome.shown) == (pam.AUTH_ERR, "Code:")
    assert len(outcome.log) == 1
    assert outcome.log[0].endswith(GONE)


@pytest.mark.parametrize("operation", ["open_session", "close_session"])
def test_a_session_needs_no_client(stack: Stack, connection: Connection, operation: str) -> None:
    """They run in the monitor; sshd itself sees that the client is gone."""
    connection.client.close()
    with Peer(stack.socket, [HELLO, READ, SUCCESS]):
        outcome = stack.run(operation, options=connection.options, descriptors=[connection.server.fileno()])
    assert outcome == Outcome(pam.SUCCESS, "", [])


def test_a_terminal_has_no_client_to_watch(connection: Connection) -> None:
    """Whatever login inherits or is told, it runs on a terminal, whose end ends it."""
    connection.client.close()
    with Stack("login") as login, Peer(login.socket, [HELLO, READ, SUCCESS]) as peer:
        outcome = login.run(options=connection.options, descriptors=[connection.server.fileno()])
    assert outcome == Outcome(pam.SUCCESS, "", [])
    assert "conn" not in peer.received[0][0][1]
    assert float(peer.received[0][0][1]["deadline"]) <= 50
