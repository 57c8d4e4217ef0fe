"""Whatever the daemon does wrong refuses, with one line in the log and one sentence for the person who watches."""

from __future__ import annotations

import re
import socket
import time

import pytest

from pam_starling.protocol import MAX_PACKET, VERSION
from tests.wire import stack as pam
from tests.wire.peer import ASK, CLOSE, HELLO, READ, SUCCESS, Peer, Step, packet
from tests.wire.stack import Outcome, Stack

HOOKS = {
    "authenticate": ("authenticate", pam.AUTH_ERR),
    "acct_mgmt": ("account", pam.PERM_DENIED),
    "open_session": ("open_session", pam.SESSION_ERR),
}
"""What pamtester calls an operation, what the log calls it, and how it is refused."""
LATE = 3
"""Seconds of grace that the module leaves the daemon, which keeps the deadline."""


def assert_refused(
    outcome: Outcome, why: str, operation: str = "authenticate", sentence: str = pam.UNAVAILABLE
) -> None:
    hook, result = HOOKS[operation]
    assert outcome.result == result
    assert outcome.shown == sentence
    assert len(outcome.log) == 1, outcome.log
    assert re.fullmatch(rf"pam_starling\[\d+\]: {hook} refused: {re.escape(why)}", outcome.log[0])


@pytest.mark.parametrize("operation", HOOKS)
def test_no_daemon_refuses_at_once(stack: Stack, operation: str) -> None:
    began = time.monotonic()
    outcome = stack.run(operation)
    assert time.monotonic() - began < 1
    assert_refused(outcome, "cannot reach the daemon: No such file or directory", operation)


def test_a_socket_at_which_nobody_listens_refuses_at_once(stack: Stack) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as deaf:
        deaf.bind(str(stack.socket))
        began = time.monotonic()
        outcome = stack.run()
    assert time.monotonic() - began < 1
    assert_refused(outcome, "cannot reach the daemon: Connection refused")


def test_a_daemon_that_does_not_greet_is_waited_for_as_long_as_connect_timeout_says(stack: Stack) -> None:
    stack.option("connect_timeout=1", "deadline=10")
    began = time.monotonic()
    with Peer(stack.socket, []):
        outcome = stack.run()
    assert 1 <= time.monotonic() - began < 2
    assert_refused(outcome, "the daemon did not answer in time")


def test_a_daemon_whose_backlog_is_full_is_tried_as_long_as_connect_timeout_says(stack: Stack) -> None:
    stack.option("connect_timeout=1", "deadline=10")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as busy,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other,
    ):
        busy.bind(str(stack.socket))
        busy.listen(0)
        other.connect(str(stack.socket))
        began = time.monotonic()
        outcome = stack.run()
    assert 1 <= time.monotonic() - began < 2
    assert_refused(outcome, "the daemon accepts no connection")


def test_a_daemon_that_never_decides_is_left_after_the_deadline(stack: Stack) -> None:
    stack.option("deadline=1")
    began = time.monotonic()
    with Peer(stack.socket, [HELLO, READ]):
        outcome = stack.run()
    assert 1 + LATE <= time.monotonic() - began < 2 + LATE
    assert_refused(outcome, "the daemon did not answer in time")


GREETINGS = [
    (packet("hello", v=str(VERSION + 1)), "the daemon speaks another version of the protocol"),
    (packet("hello"), "the daemon speaks another version of the protocol"),
    (SUCCESS, "the daemon speaks another version of the protocol"),
    (packet("error", reason="busy"), "the daemon turned us away: busy"),
    (b"hello", "a packet to or from the daemon breaks the rules: malformed or repeated field"),
]


@pytest.mark.parametrize(("greeting", "why"), GREETINGS)
def test_a_wrong_greeting_refuses_although_success_follows(stack: Stack, greeting: bytes, why: str) -> None:
    with Peer(stack.socket, [greeting, SUCCESS, CLOSE]):
        assert_refused(stack.run(), why)


UNKNOWN = "the daemon sent something unknown"
FOREIGN = "the daemon gave a result that this hook cannot have"
NOT_OURS = "the daemon wants to set a variable that is not ours"
WRONG_PACKETS = [
    (SUCCESS[:-2], FOREIGN),
    (SUCCESS[:-9], "a packet to or from the daemon breaks the rules: malformed or repeated field"),
    (SUCCESS[:5], UNKNOWN),
    (SUCCESS + b"\0", "a packet to or from the daemon breaks the rules: malformed or repeated field"),
    (SUCCESS + b"\0result=success", "a packet to or from the daemon breaks the rules: malformed or repeated field"),
    (SUCCESS + b"\0reason=\xff", "a packet to or from the daemon breaks the rules: packet is not UTF-8"),
    (b"result=success", "a packet to or from the daemon breaks the rules: packet without an operation"),
    (
        SUCCESS + b"".join(b"\0f%d=" % n for n in range(63)),
        "a packet to or from the daemon breaks the rules: too many fields",
    ),
    (
        SUCCESS + b"\0reason=" + b"x" * MAX_PACKET,
        "a packet to or from the daemon breaks the rules: packet empty or too long",
    ),
    (packet("success"), UNKNOWN),
    (packet("hello", v="1"), UNKNOWN),
    (packet("ask", style="info", text="?"), UNKNOWN),
    (packet("ask", style="echo_on"), UNKNOWN),
    (packet("say", text="?"), UNKNOWN),
    (packet("done"), FOREIGN),
    (packet("done", result=""), FOREIGN),
    (packet("done", result="0"), FOREIGN),
    (packet("done", result="Success"), FOREIGN),
    (packet("done", result="acct_denied"), FOREIGN),
    (packet("done", result="session_err"), FOREIGN),
    (packet("error"), "the daemon turned us away: no reason given"),
    (packet("error", result="success", reason="a\nb"), "the daemon turned us away: a\\nb"),
    (packet("done", **{"result": "success", "env.PATH": "/tmp"}), NOT_OURS),
    (packet("done", **{"result": "success", "env.PAM_STARLING_": "1", "env.LD_PRELOAD": "x"}), NOT_OURS),
    (packet("done", **{"result": "success", "env.": "x"}), NOT_OURS),
    (packet("done", **{"result": "ignore", "env.pam_starling_login": "x"}), NOT_OURS),
]


@pytest.mark.parametrize(("wrong", "why"), WRONG_PACKETS)
def test_a_wrong_packet_refuses_although_success_follows(stack: Stack, wrong: bytes, why: str) -> None:
    with Peer(stack.socket, [HELLO, READ, wrong, SUCCESS, CLOSE]):
        assert_refused(stack.run(), why)


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        ("acct_mgmt", "auth_err"),
        ("acct_mgmt", "maxtries"),
        ("open_session", "ignore"),
        ("open_session", "acct_denied"),
    ],
)
def test_a_result_of_another_hook_refuses(stack: Stack, operation: str, result: str) -> None:
    with Peer(stack.socket, [HELLO, READ, packet("done", result=result), CLOSE]):
        assert_refused(stack.run(operation), FOREIGN, operation)


CLOSED = "the daemon closed the connection"
LOST = [HELLO, READ, CLOSE]


@pytest.mark.parametrize("lost", [[CLOSE], LOST, [HELLO, READ, packet("say", style="info", text="One moment"), CLOSE]])
@pytest.mark.parametrize("times", [1, 2])
def test_a_daemon_that_is_lost_before_it_asked_is_tried_again(stack: Stack, lost: list[Step], times: int) -> None:
    with Peer(stack.socket, *[lost] * times, [HELLO, READ, SUCCESS]) as peer:
        outcome = stack.run()
    assert (outcome.result, outcome.log) == (pam.SUCCESS, [])
    [(op, fields)] = peer.received[times]
    assert op == "authenticate"
    for _, before in peer.received[0]:
        assert float(fields["deadline"]) <= float(before["deadline"])
        assert {**fields, "deadline": ""} == {**before, "deadline": ""}


def test_a_daemon_that_is_lost_three_times_refuses(stack: Stack) -> None:
    with Peer(stack.socket, LOST, LOST, LOST) as peer:
        outcome = stack.run()
    assert_refused(outcome, CLOSED)
    assert len(peer.received) == 3


def test_a_daemon_that_is_lost_three_times_before_its_greeting_refuses(stack: Stack) -> None:
    with Peer(stack.socket, [CLOSE], [CLOSE], [CLOSE]):
        assert_refused(stack.run(), CLOSED)


@pytest.mark.parametrize("lost", [[READ, CLOSE], [CLOSE]])
def test_a_daemon_that_is_lost_after_it_asked_refuses(stack: Stack, lost: list[Step]) -> None:
    with Peer(stack.socket, [HELLO, READ, ASK, *lost]) as peer:
        outcome = stack.run(typed=b"123456\n")
    assert outcome.result == pam.AUTH_ERR
    assert outcome.shown.endswith(pam.UNAVAILABLE)
    assert len(outcome.log) == 1
    assert len(peer.received) == 1
    assert "123456" not in outcome.log[0]


def test_a_daemon_that_hangs_up_while_we_speak_does_not_kill_us(stack: Stack) -> None:
    """A SIGPIPE would: pamtester would end without a word."""
    with Peer(stack.socket, [HELLO, CLOSE], [HELLO, CLOSE], [HELLO, CLOSE]):
        assert_refused(stack.run(), CLOSED)
