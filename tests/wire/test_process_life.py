"""The daemon as a process, from READY to its end: what it tells systemd, its sockets, reload and stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.sandbox.running import Sandbox
from tests.sandbox.running import sandbox as start_sandbox
from tests.wire import process
from tests.wire.process import APPROVES, HOLE, MANUAL, PYTHON, Daemon, Module

STOP_TIME = 5.0
MANY, ROUNDS = 60, 4
LIMITED = {
    "whitelist source=user_list": "name = calm",
    "user_list calm": f"allow = no_user\nexcept = {APPROVES}",
    "connection_limit by=client_ip_gateway_user": f"limit = {MANY}",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with start_sandbox() as running:
        yield running


@pytest.fixture
def daemon(sandbox: Sandbox) -> Iterator[Daemon]:
    """Offer a daemon that is configured and not started."""
    sandbox.forget()
    with closing(process.make()) as made:
        made.configure(sandbox)
        yield made


def listening(path: Path, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(str(path))
    sock.listen(16)
    return sock


def logged_in(module: Module, answer: str = "") -> bool:
    return module.answer(answer).done()["result"] == "success"


# What systemd is told


def test_it_is_ready_when_logins_are_served_and_says_when_it_stops(daemon: Daemon) -> None:
    daemon.start()
    assert daemon.expect("STATUS=") == ["STATUS=ready"]
    assert logged_in(daemon.call("authenticate", APPROVES))
    daemon.signal(signal.SIGTERM)
    daemon.expect("STOPPING=1")
    assert daemon.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_daemon_ends_by_a_signal_without_an_error(daemon: Daemon, number: signal.Signals) -> None:
    daemon.start().signal(number)
    assert daemon.wait() == 0
    assert "Traceback" not in daemon.log


def test_the_watchdog_is_answered_again_and_again(daemon: Daemon) -> None:
    daemon.start(environment={"WATCHDOG_USEC": "2000000"})
    daemon.expect("WATCHDOG=1")
    began = time.monotonic()
    for _ in range(2):
        daemon.expect("WATCHDOG=1")
    assert 1 <= time.monotonic() - began < 2 * 2


@pytest.mark.parametrize("usec", ["0", "soon", ""])
def test_without_a_watchdog_none_is_answered(daemon: Daemon, usec: str) -> None:
    daemon.start(environment={"WATCHDOG_USEC": usec})
    daemon.signal(signal.SIGTERM)
    assert not [line for line in daemon.expect("STOPPING=1") if "WATCHDOG" in line]
    assert daemon.wait() == 0


# Sockets


def test_a_login_that_came_before_the_daemon_is_served_once_it_is_there(daemon: Daemon) -> None:
    with closing(listening(daemon.socket, socket.SOCK_SEQPACKET)) as sock:
        early = daemon.module()
        daemon.activate(sock)
        assert logged_in(early.ask_for("authenticate", APPROVES))
        daemon.expect("READY=1")
        assert daemon.stop() == 0
        between = daemon.module()
        daemon.activate(sock)
        assert logged_in(between.ask_for("authenticate", APPROVES))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_each_inherited_socket_is_known_by_its_kind_and_outlives_the_daemon(
    daemon: Daemon, order: tuple[int, int]
) -> None:
    control = daemon.folder / "control.sock"
    with (
        closing(listening(daemon.socket, socket.SOCK_SEQPACKET)) as pam,
        closing(listening(control, socket.SOCK_STREAM)) as other,
    ):
        for _ in range(2):
            daemon.activate(*((pam, other)[number] for number in order))
            daemon.expect("READY=1")
            assert logged_in(daemon.call("authenticate", APPROVES))
            assert asked(control, "sessions list") == {"result": []}
            assert daemon.stop() == 0
            assert daemon.socket.is_socket()
            assert control.is_socket()


def asked(path: Path, command: str) -> object:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as sock:
        sock.settimeout(process.PATIENCE)
        sock.connect(str(path))
        sock.sendall(json.dumps({"command": command}).encode() + b"\n")
        return json.loads(sock.makefile("rb").readline())


def test_two_sockets_of_one_kind_are_refused(daemon: Daemon) -> None:
    with (
        closing(listening(daemon.socket, socket.SOCK_SEQPACKET)) as pam,
        closing(listening(daemon.folder / "other", socket.SOCK_SEQPACKET)) as other,
    ):
        assert daemon.activate(pam, other).wait() != 0
    assert "neither the PAM nor the control socket" in daemon.log


def test_a_socket_of_the_internet_is_refused(daemon: Daemon) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        assert daemon.activate(sock).wait() != 0
    assert "neither the PAM nor the control socket" in daemon.log


def test_without_any_socket_it_says_how_to_start_it(daemon: Daemon) -> None:
    daemon.launch([PYTHON, "-m", "starlingd.main"])
    assert daemon.wait() == 1
    assert "start it through starlingd.socket" in daemon.log
    assert "Traceback" not in daemon.log


def test_sockets_meant_for_another_process_are_not_taken(daemon: Daemon) -> None:
    daemon.launch([PYTHON, "-m", "starlingd.main"], {"LISTEN_PID": "1", "LISTEN_FDS": "1"})
    assert daemon.wait() == 1
    assert "start it through starlingd.socket" in daemon.log


# Reload


def test_a_good_file_is_taken_and_a_bad_one_is_not(daemon: Daemon, sandbox: Sandbox) -> None:
    daemon.start()
    daemon.expect("STATUS=")
    daemon.configure(sandbox, auth="prompt = First question:")
    daemon.signal(signal.SIGHUP)
    assert daemon.expect("STATUS=") == ["STATUS=ready"]
    assert prompt(daemon) == "First question: "
    daemon.configure(sandbox, auth="prompt = Second question:\nmax_atempts = 3")
    daemon.signal(signal.SIGHUP)
    [status] = daemon.expect("STATUS=")
    assert status.startswith("STATUS=reload refused: ")
    assert "max_atempts" in status
    assert prompt(daemon) == "First question: "
    assert sandbox.credential.partition(":")[2] not in daemon.log


def test_a_file_that_is_gone_changes_nothing(daemon: Daemon) -> None:
    daemon.start()
    daemon.expect("STATUS=")
    daemon.config.unlink()
    daemon.signal(signal.SIGHUP)
    [status] = daemon.expect("STATUS=")
    assert status.startswith("STATUS=reload refused: ")
    assert logged_in(daemon.call("authenticate", APPROVES))


def prompt(daemon: Daemon) -> str:
    op, fields = daemon.call("authenticate", MANUAL).receive()
    assert op == "ask"
    return fields["text"]


# Stop


def test_logins_that_wait_are_answered_when_it_stops(daemon: Daemon, sandbox: Sandbox) -> None:
    daemon.start()
    in_mid_push = daemon.call("authenticate", MANUAL).answer("")
    push = sandbox.await_push()
    asked = daemon.call("authenticate", APPROVES)
    assert asked.receive()[0] == "ask"
    silent = daemon.module().greet()
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < STOP_TIME + 1
    with pytest.raises(process.Gone):  # nobody was asked anything: the module asks the next daemon
        silent.done()
    for waiting in (in_mid_push, asked):
        verdict = waiting.done()
        assert (verdict["result"], verdict["reason"]) == ("auth_err", "busy")
        assert not [name for name in verdict if name.startswith("env.")]
    sandbox.approve(push["id"])
    assert daemon.log.count("reason='push_approved'") == 0


def records(daemon: Daemon) -> set[str]:
    """Tell the logins on disk."""
    with closing(sqlite3.connect(daemon.state)) as database:
        return {login_id for (login_id,) in database.execute("select login_id from records")}


def let_in(module: Module) -> str:
    """Tell the id of a login that was let in, or "" where the daemon went without a word: the next one is asked."""
    try:
        verdict = module.done()
    except process.Gone:
        return ""
    assert verdict["reason"] == "exempt_user_list"
    return verdict["env.PAM_STARLING_LOGIN"]


def test_a_stop_in_the_middle_of_many_logins_takes_none_of_their_slots(daemon: Daemon, sandbox: Sandbox) -> None:
    daemon.configure(sandbox, **LIMITED)
    for _ in range(ROUNDS):
        daemon.start()
        modules = [daemon.module() for _ in range(MANY)]
        for module in modules:
            module.ask_for("authenticate", APPROVES)
        ends = time.monotonic() + process.PATIENCE
        while not records(daemon):
            assert time.monotonic() < ends
            os.sched_yield()
        assert daemon.stop() == 0
        told = {login for login in map(let_in, modules) if login}
        assert records(daemon) == told
        daemon.start()
        assert all(let_in(daemon.call("authenticate", APPROVES)) for _ in range(MANY - len(told)))
        assert daemon.call("authenticate", APPROVES).done()["reason"] == "connection_limit"
        daemon.kill()
        for file in daemon.folder.glob(f"{daemon.state.name}*"):
            file.unlink()


def test_a_service_that_hangs_holds_up_no_stop(daemon: Daemon, sandbox: Sandbox) -> None:
    daemon.start()
    hanging = daemon.call("authenticate", HOLE).answer(sandbox.code_for("black-hole"))
    process.await_call(sandbox, "verify")
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < STOP_TIME + 1
    assert hanging.done()["result"] == "auth_err"
