"""Whoever goes away in the middle leaves nothing behind: no poll, no session, no record."""

import time

import pytest

from tests.sandbox.running import Sandbox
from tests.system.bastion import Bastion

pytestmark = pytest.mark.system

POLL = "GET /v1/ApprovalRequests/{id}"
POLL_PAUSE = 3.0
"""Seconds in which a login that is still polled would be polled at least once (starling.rest_poll_interval = 1)."""


def polling_has_stopped(sandbox: Sandbox) -> bool:
    before = sandbox.stats().get(POLL, 0)
    time.sleep(POLL_PAUSE)
    return before > 0 and sandbox.stats().get(POLL, 0) == before


def await_poll(sandbox: Sandbox) -> None:
    ends = time.monotonic() + 20
    while not sandbox.stats().get(POLL):
        assert time.monotonic() < ends, "nobody polls"
        time.sleep(0.05)


def test_a_client_that_vanishes_in_authenticate_stops_the_polling(bastion: Bastion, sandbox: Sandbox) -> None:
    bastion.configure("key", starling="rest_poll_interval = 1")
    terminal = bastion.ssh("manual")
    terminal.await_prompt()
    terminal.type("")
    push = sandbox.await_push()
    await_poll(sandbox)
    terminal.kill()
    [event] = bastion.await_audit(patience=5)
    assert event["STARLING_REASON"] == "hung_up"
    assert polling_has_stopped(sandbox)
    sandbox.approve(push["id"])  # too late for anybody
    assert bastion.audit("session_open") == []
    assert [event["STARLING_OUTCOME"] for event in bastion.audit()] == ["deny"]


def test_a_client_that_vanishes_in_the_account_hook_gets_no_session(bastion: Bastion, sandbox: Sandbox) -> None:
    bastion.configure("key-push", starling="rest_poll_interval = 1", account="without_second_factor = push")
    terminal = bastion.ssh("manual", "-o", "BatchMode=yes")
    push = sandbox.await_push()
    await_poll(sandbox)
    terminal.kill()
    [event] = bastion.await_audit(patience=5)
    assert event["STARLING_REASON"] == "hung_up"
    assert polling_has_stopped(sandbox)
    sandbox.approve(push["id"])
    assert bastion.audit("session_open") == []
    assert not any("session opened for user manual" in str(entry.get("MESSAGE")) for entry in bastion.journal())


def test_a_client_that_vanishes_at_the_prompt_is_a_denial(bastion: Bastion) -> None:
    terminal = bastion.ssh("manual")
    terminal.await_prompt()
    terminal.kill()
    # sshd's child waits in libpam's conversation, which nothing can interrupt: its own end is what the daemon sees.
    [event] = bastion.await_audit(patience=10)
    assert event["STARLING_REASON"] == "hung_up"


def test_login_grace_time_running_out_ends_the_push(bastion: Bastion, sandbox: Sandbox) -> None:
    bastion.configure("key", sshd="LoginGraceTime 15", starling="rest_poll_interval = 1")
    terminal = bastion.ssh("manual")
    terminal.await_prompt()
    terminal.type("")
    sandbox.await_push()
    terminal.await_end()
    [event] = bastion.await_audit(patience=10)
    assert event["STARLING_REASON"] == "hung_up"
    assert polling_has_stopped(sandbox)
