"""The hooks that ask nobody, and a pam.d line that is not understood: a misspelt option is never a weaker one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.wire import stack as pam
from tests.wire.peer import CLOSE, HELLO, READ, SUCCESS, Peer, packet
from tests.wire.stack import ENTRY, Outcome, Stack
from tests.wire.test_refusals import FOREIGN, HOOKS, assert_refused

if TYPE_CHECKING:
    from pathlib import Path

NOT_UNDERSTOOD = "arguments of the pam.d line not understood: services={service} socket={socket} "
TIMES = "times on the pam.d line must be 1 to 600 seconds"
NO_SENSE = "first_factor= or socket= of the pam.d line makes no sense"
LINES = [
    ("conect_timeout=5", NOT_UNDERSTOOD + "conect_timeout=5"),
    ("debug", NOT_UNDERSTOOD + "debug"),
    ("deadline", NOT_UNDERSTOOD + "deadline"),
    ("deadline=", NOT_UNDERSTOOD + "deadline="),
    ("=5", NOT_UNDERSTOOD + "=5"),
    ("deadline=5 deadline=5", NOT_UNDERSTOOD + "deadline=5 deadline=5"),
    ("services=sshd", NOT_UNDERSTOOD + "services=sshd"),
    ("deadline=0", TIMES),
    ("deadline=601", TIMES),
    ("deadline=-1", TIMES),
    ("deadline=1.5", TIMES),
    ("deadline=٣", TIMES),
    ("connect_timeout=0600", TIMES),
    ("connect_timeout=5s", TIMES),
    ("first_factor=after", NO_SENSE),
]


@pytest.mark.parametrize("operation", HOOKS)
@pytest.mark.parametrize(("line", "why"), LINES)
def test_a_pamd_line_that_is_not_understood_refuses(stack: Stack, operation: str, line: str, why: str) -> None:
    stack.option(line)
    assert_refused(stack.run(operation), why.format(service=stack.service, socket=stack.socket), operation)


def test_a_socket_that_is_no_path_refuses(stack: Stack) -> None:
    stack.configure(f"services={stack.service}", "socket=pam.sock")
    assert_refused(stack.run(), NO_SENSE)


@pytest.mark.parametrize("operation", HOOKS)
@pytest.mark.parametrize("services", [[], ["services=sshd,login"], ["services={service}x,x{service}"]])
def test_a_service_that_is_not_named_is_refused(stack: Stack, operation: str, services: list[str]) -> None:
    stack.configure(*[option.format(service=stack.service) for option in services], f"socket={stack.socket}")
    with Peer(stack.socket):
        outcome = stack.run(operation)
    assert_refused(outcome, f"the PAM service {stack.service} is not among services=", operation)


def test_one_of_several_services_is_served(stack: Stack) -> None:
    stack.configure(f"services=sshd,{stack.service}", f"socket={stack.socket}")
    with Peer(stack.socket, [HELLO, READ, SUCCESS]):
        assert stack.run() == Outcome(pam.SUCCESS, "", [])


def test_setcred_succeeds_and_asks_nobody(stack: Stack) -> None:
    """It grants nothing: after a refused authenticate there is nothing it could give."""
    with Peer(stack.socket):
        assert stack.run("setcred") == Outcome(pam.SUCCESS, "", [])


def test_a_new_password_is_not_our_business(stack: Stack) -> None:
    with Peer(stack.socket):
        assert stack.run("chauthtok") == Outcome(pam.IGNORE, "", [])


def test_a_session_ends_without_a_daemon_and_the_log_says_so(stack: Stack) -> None:
    outcome = stack.run("close_session")
    assert (outcome.result, outcome.shown) == (pam.SUCCESS, "")
    assert len(outcome.log) == 1
    assert outcome.log[0].endswith("close_session not recorded: cannot reach the daemon: No such file or directory")


def test_a_session_ends_whatever_the_daemon_says(stack: Stack) -> None:
    with Peer(stack.socket, [HELLO, READ, packet("done", result="session_err"), CLOSE]):
        outcome = stack.run("close_session")
    assert (outcome.result, outcome.shown) == (pam.SUCCESS, "")
    assert len(outcome.log) == 1
    assert outcome.log[0].endswith("close_session not recorded: " + FOREIGN)


def test_half_an_installation_refuses(stack: Stack, tmp_path: Path) -> None:
    """The file that pam_python runs is there, the code that belongs to it is not."""
    entry = tmp_path / "lib" / "entry.py"
    entry.parent.mkdir()
    entry.write_text(ENTRY.read_text(encoding="utf-8"), encoding="utf-8")
    stack.configure(f"services={stack.service}", f"socket={stack.socket}", entry=entry)
    for operation in HOOKS:
        assert_refused(stack.run(operation), "a bug: ModuleNotFoundError", operation, sentence="")


@pytest.mark.parametrize("result", ["True", "False", "0.0", "'success'", "None", "-1", "26", "1 / 0", "exit()"])
def test_a_bug_refuses(stack: Stack, tmp_path: Path, result: str) -> None:
    """False equals PAM_SUCCESS, and is none."""
    code = tmp_path / "pam_starling"
    code.mkdir()
    (code / "entry.py").write_text(ENTRY.read_text(encoding="utf-8"), encoding="utf-8")
    (code / "login.py").write_text(f"def run(*_):\n    return {result}\n", encoding="utf-8")
    stack.configure(f"services={stack.service}", entry=code / "entry.py")
    for operation in HOOKS:
        outcome = stack.run(operation)
        assert (outcome.result, outcome.shown) == (HOOKS[operation][1], "")
        assert len(outcome.log) == 1
        assert "refused: a bug: " in outcome.log[0]
