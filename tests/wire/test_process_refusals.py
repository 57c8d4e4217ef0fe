"""The daemon as a process: whom it turns away, and what it denies while something of its own is broken."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from starlingd.core.sentences import NOT_SET_UP, NOT_WORKING
from starlingd.server.listener import MOST_SESSIONS
from tests.sandbox.running import Sandbox
from tests.sandbox.running import sandbox as start_sandbox
from tests.wire import process
from tests.wire.process import APPROVES, PATIENCE, PYTHON, Daemon, Gone, Module

NOBODY = 65534
CONNECT = """
import socket, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.connect(sys.argv[1])
while data := sock.recv(65536):
    print(data.decode().replace(chr(0), " "))
"""
REFUSALS = {"authenticate": "auth_err", "account": "acct_denied", "open_session": "session_err"}


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


def logged_in(daemon: Daemon) -> bool:
    return daemon.call("authenticate", APPROVES).answer("").done()["result"] == "success"


# Peers


def connect_as_nobody(daemon: Daemon, *prefix: str) -> subprocess.CompletedProcess[str]:
    command = [*prefix, PYTHON, "-c", CONNECT, str(daemon.socket)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={},
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
    )


@pytest.mark.parametrize("prefix", [[], ["/usr/bin/unshare", "--user", "--map-root-user"]], ids=["user", "namespace"])
def test_only_root_is_spoken_to_and_not_who_is_root_in_a_namespace_of_his_own(
    daemon: Daemon, prefix: list[str]
) -> None:
    daemon.start()
    daemon.socket.chmod(0o666)
    told = connect_as_nobody(daemon, *prefix)
    assert (told.stdout, told.stderr) == ("op=error reason=protocol_error\n", "")
    assert f"of uid {NOBODY} spoke on the PAM socket" in daemon.log
    assert logged_in(daemon)


def test_nobody_but_root_can_open_the_socket_it_makes(daemon: Daemon) -> None:
    daemon.start()
    assert "PermissionError" in connect_as_nobody(daemon).stderr


# How many


def test_at_the_admission_limit_the_next_is_refused_until_somebody_leaves(daemon: Daemon) -> None:
    daemon.start()
    modules = [daemon.module() for _ in range(MOST_SESSIONS)]
    over = daemon.module()
    assert over.receive() == ("error", {"reason": "busy"})
    with pytest.raises(Gone):
        over.receive()
    modules[0].close()
    assert until(lambda: greeted(daemon.module()))
    assert modules[-1].ask_for("close_session", APPROVES).done()["result"] == "success"
    for module in modules:
        module.close()
    assert until(lambda: logged_in(daemon))


def test_without_file_descriptors_logins_wait_and_are_served_once_there_are_some(daemon: Daemon) -> None:
    command = ["/usr/bin/prlimit", "--nofile=64", PYTHON, "-m", "starlingd.main", "--socket", str(daemon.socket)]
    daemon.launch(command)
    daemon.expect("READY=1")
    modules = [daemon.module() for _ in range(100)]
    assert until(lambda: "accept failed" in daemon.log)
    for module in modules[:80]:
        module.close()
    for module in modules[80:]:
        module.greet()
        module.close()
    assert logged_in(daemon)
    assert daemon.log.count("accept failed") < 100


def greeted(module: Module) -> bool:
    return module.receive()[0] == "hello"


def until(condition: Callable[[], bool]) -> bool:
    """Ask again and again, for PATIENCE at most."""
    ends = time.monotonic() + PATIENCE
    while not (true := condition()) and time.monotonic() < ends:
        continue
    return true


# A configuration that is of no use


def nonsense(daemon: Daemon) -> None:
    daemon.write(daemon.config.read_text(encoding="utf-8") + "[auth]\nmax_atempts = 3")


def empty(daemon: Daemon) -> None:
    daemon.write("")


def binary(daemon: Daemon) -> None:
    daemon.config.write_bytes(b"\xff\x00\x1b[2J" * 100)


def missing(daemon: Daemon) -> None:
    daemon.config.unlink()


def folder(daemon: Daemon) -> None:
    daemon.config.unlink()
    daemon.config.mkdir()


def authority_missing(daemon: Daemon) -> None:
    text = daemon.config.read_text(encoding="utf-8")
    daemon.write(text.replace("/ca.pem", "/no.pem"))


@pytest.mark.parametrize("spoil", [nonsense, empty, binary, missing, folder, authority_missing])
def test_with_an_unusable_configuration_it_is_up_says_why_and_denies(
    daemon: Daemon, sandbox: Sandbox, spoil: Callable[[Daemon], None]
) -> None:
    spoil(daemon)
    daemon.start()
    [status] = daemon.expect("STATUS=")
    assert status.startswith("STATUS=misconfigured, every login is denied: ")
    for operation, result in REFUSALS.items():
        verdict = daemon.call(operation, APPROVES).done()
        assert verdict == {"result": result, "reason": "misconfigured", "said": NOT_SET_UP}
    assert daemon.call("close_session", APPROVES).done()["result"] == "success"
    assert sandbox.log() == []
    assert "Traceback" not in daemon.log
    if daemon.config.is_dir():
        daemon.config.rmdir()
    daemon.configure(sandbox)
    daemon.signal(signal.SIGHUP)
    assert daemon.expect("STATUS=") == ["STATUS=ready"]
    assert logged_in(daemon)


# A state file that is of no use


def state_is_a_folder(daemon: Daemon) -> None:
    daemon.state.mkdir(0o700)


def state_is_junk(daemon: Daemon) -> None:
    daemon.state.touch(0o600)
    daemon.state.write_bytes(b"this is no database" * 1000)


def state_is_from_the_future(daemon: Daemon) -> None:
    daemon.state.touch(0o600)
    with closing(sqlite3.connect(daemon.state)) as database:
        database.execute("pragma journal_mode = wal")
        database.execute("pragma user_version = 1000")


@pytest.mark.parametrize("spoil", [state_is_a_folder, state_is_junk, state_is_from_the_future])
def test_with_an_unusable_state_file_it_is_up_and_denies_until_there_is_a_good_one(
    daemon: Daemon, sandbox: Sandbox, spoil: Callable[[Daemon], None]
) -> None:
    spoil(daemon)
    before = None if daemon.state.is_dir() else daemon.state.read_bytes()
    daemon.start()
    for operation, result in REFUSALS.items():
        verdict = daemon.call(operation, APPROVES).done()
        assert verdict == {"result": result, "reason": "store_unavailable", "said": NOT_WORKING}
    assert sandbox.log() == []
    if before is None:
        daemon.state.rmdir()
    else:
        assert daemon.state.read_bytes() == before
        daemon.state.unlink()
    assert until(lambda: daemon.call("account", APPROVES).done()["reason"] != "store_unavailable")
    assert logged_in(daemon)


def test_what_cannot_be_kept_is_not_let_in(daemon: Daemon) -> None:
    """The file fails while the daemon runs: approved or not, there is no login without a record."""
    daemon.start()
    assert logged_in(daemon)
    with closing(sqlite3.connect(daemon.state)) as database:
        database.execute("drop table records")
    verdict = daemon.call("authenticate", APPROVES).answer("").done()
    assert verdict == {"result": "auth_err", "reason": "store_unavailable", "said": NOT_WORKING}
    assert "Traceback" not in daemon.log
