"""What applications and their users do that no decent one would: refuse, say nothing, say too much, say no text."""

from __future__ import annotations

import pytest

from tests.wire import stack as pam
from tests.wire.peer import ASK, HELLO, READ, SUCCESS, Peer, packet
from tests.wire.stack import Stack
from tests.wire.test_refusals import assert_refused

PAM_SUCCESS, PAM_AUTH_ERR = 0, 7
ASKS = [HELLO, READ, ASK]
UNREADABLE = "what the application or its user says is not UTF-8"


def why(log: list[str]) -> str:
    """Tell the one line of the log, without who writes it."""
    assert len(log) == 1, log
    return log[0].partition(": authenticate refused: ")[2]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, "the application gave no answer"),
        ("refuse", "the application refused: Conversation error"),
        ("ff", UNREADABLE),
        (b"1".hex() * 129, "too_long: an answer of more than 128 bytes"),
        ("é".encode().hex() * 65, "too_long: an answer of more than 128 bytes"),
    ],
)
def test_an_unusable_answer_refuses_and_never_reaches_the_daemon(
    stack: Stack, answer: str | None, expected: str
) -> None:
    with Peer(stack.socket, ASKS) as peer:
        outcome = stack.talk(answer)
    assert outcome["result"] == PAM_AUTH_ERR
    assert outcome["shown"] == ["Code: ", pam.FAILED]
    assert why(outcome["log"]) == expected
    assert len(peer.received[0]) == 1


@pytest.mark.parametrize("answer", ["", "123456", "é" * 64, "x\x1b[2Jy"])
def test_any_other_answer_reaches_the_daemon_as_it_is(stack: Stack, answer: str) -> None:
    with Peer(stack.socket, [*ASKS, READ, SUCCESS]) as peer:
        outcome = stack.talk(answer.encode().hex())
    assert (outcome["result"], outcome["log"]) == (PAM_SUCCESS, [])
    assert peer.received[0][1] == ("answer", {"text": answer})


def test_an_application_that_wants_no_texts_is_let_in_all_the_same(stack: Stack) -> None:
    with Peer(stack.socket, [HELLO, READ, packet("say", style="info", text="Push sent"), SUCCESS]):
        outcome = stack.talk("refuse all")
    assert outcome == {"result": PAM_SUCCESS, "shown": ["Push sent"], "log": []}


def test_an_application_that_wants_nothing_is_refused_with_one_line(stack: Stack) -> None:
    with Peer(stack.socket, ASKS):
        outcome = stack.talk("refuse all")
    assert outcome["result"] == PAM_AUTH_ERR
    assert why(outcome["log"]) == "the application refused: Conversation error"


@pytest.mark.parametrize("operation", ["authenticate", "acct_mgmt", "open_session", "close_session"])
def test_a_refusal_keeps_nothing_of_the_login_and_leaves_the_log_to_the_application(
    stack: Stack, operation: str
) -> None:
    """Whoever keeps pamh after pam_end crashes the application."""
    outcome = stack.talk("", operation, note="goes on")
    first, second = outcome["log"]
    assert first.startswith("pam_starling[")
    assert "pam_starling" not in second
    assert second.endswith("goes on")


def test_an_input_that_ends_refuses(stack: Stack) -> None:
    with Peer(stack.socket, ASKS):
        outcome = stack.run()
    assert (outcome.result, why(outcome.log)) == (pam.AUTH_ERR, "the application gave no answer")


@pytest.mark.parametrize(
    ("operation", "options"), [("authenticate", [b"-Irhost=\xff"]), ("acct_mgmt", [b"-Itty=\xff"])]
)
def test_an_item_that_is_not_utf8_refuses(stack: Stack, operation: str, options: list[bytes]) -> None:
    assert_refused(stack.run(operation, options=options), UNREADABLE, operation, pam.FAILED)


def test_a_user_who_is_not_utf8_is_refused(stack: Stack) -> None:
    assert_refused(stack.run(user=b"al\xffce"), UNREADABLE, sentence=pam.FAILED)


@pytest.mark.parametrize("variable", [b"SSH_AUTH_INFO_0", b"SSH_CONNECTION", b"PAM_STARLING_LOGIN"])
def test_a_variable_that_is_not_utf8_refuses(stack: Stack, variable: bytes) -> None:
    assert_refused(stack.run(options=[b"-E" + variable + b"=\xff"]), UNREADABLE, sentence=pam.FAILED)


def test_a_login_that_does_not_fit_into_a_packet_is_refused(stack: Stack) -> None:
    with Peer(stack.socket, [HELLO]) as peer:
        outcome = stack.run(options=["-ESSH_AUTH_INFO_0=" + "k" * 20000])
    assert_refused(outcome, "a packet to or from the daemon breaks the rules: packet empty or too long")
    assert peer.received == [[]]


def test_the_daemon_is_told_who_is_logging_in(stack: Stack) -> None:
    stack.option("first_factor=before", "deadline=30")
    options = ["-Irhost=192.0.2.9", "-Itty=ssh", "-ESSH_AUTH_INFO_0=publickey ssh-ed25519 AAAA\n"]
    with Peer(
        stack.socket,
        [HELLO, READ, packet("done", **{"result": "success", "env.PAM_STARLING_LOGIN": "id-1"})],
        [HELLO, READ, SUCCESS],
    ) as peer:
        outcome = stack.run("authenticate", "open_session", user="bärbel", options=options)
    assert (outcome.result, outcome.log) == (pam.SUCCESS, [])
    (first, told), (second, later) = peer.received[0][0], peer.received[1][0]
    assert (first, second) == ("authenticate", "open_session")
    common = {"v": "1", "user": "bärbel", "service": stack.service, "rhost": "192.0.2.9", "tty": "ssh"}
    assert common.items() <= told.items()
    assert common.items() <= later.items()
    assert 29 < float(told["deadline"]) <= 30
    assert told["authinfo"] == "publickey ssh-ed25519 AAAA\n"
    assert (told["first_factor"], told["login"], told["conn"]) == ("before", "", "")
    assert later["login"] == "id-1"
    assert {told[name] for name in ("start", "pstart", "ppid")} == {later[name] for name in ("start", "pstart", "ppid")}
    assert not {"conn", "authinfo", "first_factor"} & later.keys()
