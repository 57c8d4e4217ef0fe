"""starlingctl sessions: what is open, and an end of it that hits that very process and no other."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from starlingd.core.model import Process
from starlingd.core.rules import Rules
from starlingd.server.processes import is_alive
from tests.daemon_under_test import RIGHT_CODE, Bastion, Connection, Whole
from tests.unit.children import child
from tests.unit.controlling import ADDRESS, controlled, starlingctl

TREE = Path(__file__).resolve().parents[2]
NOBODY = 65534
STARLINGCTL = ("/usr/bin/python3", "-c", "from starlingd.cli.main import main; main()")
STUBBORN = (
    "/usr/bin/python3",
    "-c",
    "import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); signal.pause()",
)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Offer a directory that others may enter."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


async def open_session(bastion: Bastion, monitor: Process, number: int = 1) -> str:
    """Open a session of alice's in this process; return its login id."""
    alice = Connection(bastion, number)
    alice.monitor = monitor
    alice.fields |= {"ppid": str(monitor.pid), "pstart": str(monitor.start)}
    login = (await alice.authenticate(RIGHT_CODE))["env.PAM_STARLING_LOGIN"]
    assert (await alice.hook("open_session", login))["result"] == "success"
    return login


def ended(process: Process) -> signal.Signals:
    """Reap a child; tell what ended it."""
    _, status = os.waitpid(process.pid, 0)
    return signal.Signals(os.WTERMSIG(status))


def is_running(process: Process) -> bool:
    """Tell whether a child has not ended, not even as a zombie."""
    return os.waitpid(process.pid, os.WNOHANG) == (0, 0)


def test_sessions_are_listed_in_a_table_or_in_json(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        empty = await starlingctl(whole, "sessions", "list")
        assert (empty.exit_code, empty.output) == (0, "no sessions\n")
        login = await open_session(bastion, Process(2001, 7))
        head, line = (await starlingctl(whole, "sessions", "list")).output.splitlines()
        assert head.split() == ["user", "from", "service", "tty", "pid", "since", "login"]
        assert line.split()[:5] == ["alice", ADDRESS, "sshd", "ssh", "2001"]
        assert line.split()[-1] == login
        [session] = json.loads((await starlingctl(whole, "sessions", "list", "--json")).output)
        since = bastion.host.logins.leases[0].since
        assert session == {
            "user": "alice",
            "client_ip": ADDRESS,
            "service": "sshd",
            "tty": "ssh",
            "pid": 2001,
            "since": since,
            "login": login,
        }

    controlled(directory, test, Rules())


@pytest.mark.parametrize("by", ["pid", "login"])
def test_ending_a_session_ends_its_process(directory: Path, by: str) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        with child() as process, child() as other:
            login = await open_session(bastion, process, 1)
            await open_session(bastion, other, 2)
            result = await starlingctl(whole, "sessions", "end", login if by == "login" else process.pid)
            assert (result.exit_code, result.output) == (0, "ended\n")
            assert ended(process) is signal.SIGTERM
            assert is_alive(other)

    controlled(directory, test, Rules())


def test_a_session_that_does_not_want_to_end_is_killed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starlingd.cli.sessions.PATIENCE", 0.2)

    async def test(bastion: Bastion, whole: Whole) -> None:
        with child(*STUBBORN, ready=True) as process:
            await open_session(bastion, process)
            result = await starlingctl(whole, "sessions", "end", process.pid)
            assert (result.exit_code, result.output) == (0, "ended\n")
            assert ended(process) is signal.SIGKILL

    controlled(directory, test, Rules())


def test_a_process_that_took_over_the_pid_is_left_alone(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        with child() as process:
            await open_session(bastion, Process(process.pid, process.start - 1))
            result = await starlingctl(whole, "sessions", "end", process.pid)
            assert (result.exit_code, result.output) == (0, "ended\n"), "that session has ended before"
            assert is_alive(process)
            assert is_running(process)

    controlled(directory, test, Rules())


def test_a_session_whose_process_is_gone_has_ended(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        with child() as process:
            pass
        await open_session(bastion, process)
        result = await starlingctl(whole, "sessions", "end", process.pid)
        assert (result.exit_code, result.output) == (0, "ended\n")

    controlled(directory, test, Rules())


def test_a_process_that_ends_on_its_own_in_that_moment_has_ended(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = signal.pidfd_send_signal

    async def test(bastion: Bastion, whole: Whole) -> None:
        with child() as process:
            await open_session(bastion, process)

            def too_late(descriptor: int, number: int) -> None:
                os.kill(process.pid, signal.SIGKILL)
                os.waitpid(process.pid, 0)
                real(descriptor, number)

            monkeypatch.setattr("starlingd.cli.sessions.signal.pidfd_send_signal", too_late)
            result = await starlingctl(whole, "sessions", "end", process.pid)
            assert (result.exit_code, result.output) == (0, "ended\n")

    controlled(directory, test, Rules())


@pytest.mark.parametrize("which", ["0", "1", "-1", "alice", "", "2001x"])
def test_only_a_session_can_be_ended(directory: Path, which: str) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        await open_session(bastion, Process(2001, 7))
        result = await starlingctl(whole, "sessions", "end", "--", which)
        assert result.exit_code == 1
        assert result.output.startswith(f"starlingctl: there is no session {which!a}")

    controlled(directory, test, Rules())


def test_who_is_not_root_ends_nothing(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        whole.control.chmod(0o666)
        with child() as process:
            await open_session(bastion, process)
            done = await asyncio.to_thread(
                subprocess.run,
                [*STARLINGCTL, "--socket", str(whole.control), "sessions", "end", str(process.pid)],
                env={"PYTHONPATH": f"{TREE}:{TREE / 'daemon'}"},
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            assert (done.returncode, done.stderr) == (1, "starlingctl: ending a session needs root\n")
            assert is_alive(process)
            assert bastion.host.logins.leases

    controlled(directory, test, Rules())
