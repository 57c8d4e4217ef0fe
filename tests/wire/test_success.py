"""The daemon's answers become PAM's results, hook by hook."""

from __future__ import annotations

import pytest

from tests.wire import stack as pam
from tests.wire.peer import ASK, HELLO, READ, Peer, packet
from tests.wire.stack import Outcome, Stack

RESULTS = [
    ("authenticate", "success", pam.SUCCESS),
    ("authenticate", "auth_err", pam.AUTH_ERR),
    ("authenticate", "maxtries", pam.MAXTRIES),
    ("authenticate", "ignore", pam.IGNORE),
    ("acct_mgmt", "success", pam.SUCCESS),
    ("acct_mgmt", "acct_denied", pam.PERM_DENIED),
    ("acct_mgmt", "ignore", pam.IGNORE),
    ("open_session", "success", pam.SUCCESS),
    ("open_session", "session_err", pam.SESSION_ERR),
    ("close_session", "success", pam.SUCCESS),
]


@pytest.mark.parametrize(("operation", "result", "expected"), RESULTS)
def test_every_result_of_a_hook_is_returned_as_it_is(stack: Stack, operation: str, result: str, expected: str) -> None:
    with Peer(stack.socket, [HELLO, READ, packet("done", result=result, reason="any")]):
        outcome = stack.run(operation)
    assert outcome == Outcome(expected, "", [])


def test_an_answer_goes_to_the_daemon_and_what_it_says_is_shown(stack: Stack) -> None:
    say = packet("say", style="error", text="Wrong code")
    info = packet("say", style="info", text="Push sent")
    with Peer(stack.socket, [HELLO, READ, ASK, READ, say, ASK, READ, info, packet("done", result="success")]) as peer:
        outcome = stack.run(typed=b"123456\n\n")
    assert [fields for _, fields in peer.received[0][1:]] == [{"text": "123456"}, {"text": ""}]
    assert sorted(outcome.shown.replace("Code: ", "").split()) == sorted(["Wrong", "code", "Push", "sent"])
    assert outcome.result == pam.SUCCESS
    assert not outcome.log
