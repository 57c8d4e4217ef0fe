"""The daemon killed as by the kernel: nobody is let in by it, and who was let in before is let on after it."""

from __future__ import annotations

import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from starlingd.adapters.sqlite import SqliteStore
from tests.sandbox.running import Sandbox
from tests.sandbox.running import sandbox as start_sandbox
from tests.wire import process
from tests.wire.process import APPROVES, DENIES, MANUAL, Daemon, Gone, start_time

LOGIN = "env.PAM_STARLING_LOGIN"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with start_sandbox() as running:
        yield running


@pytest.fixture
def daemon(sandbox: Sandbox) -> Iterator[Daemon]:
    """Offer a daemon that runs."""
    sandbox.forget()
    with closing(process.make()) as made:
        made.configure(sandbox, auth="push_limit = 2")
        made.start()
        yield made


def restart(daemon: Daemon) -> None:
    daemon.kill()
    with closing(sqlite3.connect(daemon.state)) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    daemon.start()


def log_in(daemon: Daemon, user: str = APPROVES) -> dict[str, str]:
    return daemon.call("authenticate", user).answer("").done()


def kept(daemon: Daemon) -> tuple[int, int]:
    """Tell how many records and sessions are in the file."""
    with closing(SqliteStore(daemon.state)) as store:
        return len(store.records()), len(store.sessions())


def test_a_login_in_mid_push_is_lost_and_its_approval_lets_nobody_in(daemon: Daemon, sandbox: Sandbox) -> None:
    waiting = daemon.call("authenticate", MANUAL).answer("")
    push = sandbox.await_push()
    daemon.kill()
    with pytest.raises(Gone):
        waiting.done()
    sandbox.approve(push["id"])
    assert kept(daemon) == (0, 0)
    calls = len(sandbox.log())
    daemon.start()
    assert daemon.call("account", MANUAL).done()["result"] == "acct_denied"
    assert daemon.call("open_session", MANUAL).done()["result"] == "session_err"
    assert len(sandbox.log()) == calls, "nobody asks for a push of the dead"


def test_whoever_lost_the_daemon_in_mid_push_can_log_in_at_once_after_it(daemon: Daemon, sandbox: Sandbox) -> None:
    daemon.call("authenticate", MANUAL).answer("")
    old = sandbox.await_push()
    restart(daemon)
    again = daemon.call("authenticate", MANUAL).answer("")
    while not (new := [push for push in sandbox.pending() if push["id"] != old["id"]]):
        continue
    sandbox.approve(new[0]["id"])
    assert again.done()["result"] == "success"


def test_a_login_that_was_let_in_is_let_on_and_once_only(daemon: Daemon) -> None:
    login = log_in(daemon)[LOGIN]
    restart(daemon)
    assert daemon.call("account", APPROVES, login=login).done()["result"] == "success"
    restart(daemon)
    assert daemon.call("open_session", APPROVES, login=login).done()["result"] == "success"
    assert daemon.call("open_session", APPROVES, login=login).done()["reason"] == "no_record"
    restart(daemon)
    assert daemon.call("open_session", APPROVES, login=login).done()["reason"] == "no_record"
    assert kept(daemon) == (0, 1)
    closed = daemon.call("close_session", APPROVES).done()
    assert (closed["result"], closed["reason"]) == ("success", "push_approved")


@pytest.mark.parametrize(
    "claim",
    [
        {"user": MANUAL},
        {"service": "login"},
        {"login": ""},
        {"login": "00000000-0000-4000-8000-000000000000"},
        {"start": str(int(start_time("self")) + 1)},
        {"start": str(int(start_time("self")) + 1), "ppid": "1", "pstart": "1"},
    ],
    ids=["user", "service", "no-id", "other-id", "reused-pid", "same-parent"],
)
def test_the_record_of_a_killed_daemon_is_nobody_elses(daemon: Daemon, claim: dict[str, str]) -> None:
    login = log_in(daemon)[LOGIN]
    restart(daemon)
    claimed = {"login": login, **claim}
    user = claimed.pop("user", APPROVES)
    assert daemon.call("account", user, **claimed).done()["result"] == "acct_denied"
    assert daemon.call("open_session", user, **claimed).done()["result"] == "session_err"
    assert daemon.call("open_session", APPROVES, login=login).done()["result"] == "success", "and it is still its own"


def test_denied_pushes_count_after_a_kill(daemon: Daemon, sandbox: Sandbox) -> None:
    for _ in range(2):
        assert log_in(daemon, DENIES)["reason"] == "push_denied"
        restart(daemon)
    calls = len(sandbox.log())
    refused = daemon.call("authenticate", DENIES).answer("")
    op, fields = refused.receive()
    assert (op, "No more push notifications" in fields["text"]) == ("say", True)
    assert len(sandbox.log()) == calls


def test_a_login_that_was_not_accepted_yet_is_the_next_daemon_s(daemon: Daemon) -> None:
    """With the socket systemd's, a killed daemon costs whoever is waiting in it nothing."""
    daemon.kill()
    daemon.socket.unlink()
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as sock:
        sock.bind(str(daemon.socket))
        sock.listen(16)
        daemon.activate(sock).expect("READY=1")
        daemon.signal(signal.SIGSTOP)
        early = daemon.module()
        daemon.kill()
        daemon.activate(sock)
        assert early.ask_for("authenticate", APPROVES).answer("").done()["result"] == "success"
