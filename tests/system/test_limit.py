"""The connection limit through real sshd: n sessions are n, whatever runs in parallel and whatever dies."""

import json
import time

import pytest

from tests.system.bastion import Bastion
from tests.system.terminal import Terminal

pytestmark = pytest.mark.system

EXEMPT = {"whitelist source=user_list": "name = x", "user_list x": "allow = no_user\nexcept = approves"}
LIMIT = "connection_limit by=client_ip_gateway_user"
STAY = "echo in as $(id -un); exec sleep 600"


def sessions(bastion: Bastion) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(bastion.run("starlingctl", "sessions", "list", "--json"))
    return found


def await_sessions(bastion: Bastion, count: int) -> None:
    ends = time.monotonic() + 20
    while (found := len(sessions(bastion))) != count:
        assert time.monotonic() < ends, f"{found} sessions instead of {count}"
        time.sleep(0.1)


def settle(terminals: list[Terminal], patience: float) -> tuple[list[Terminal], list[Terminal]]:
    """Wait until each is in or refused; tell both."""
    ends = time.monotonic() + patience
    inside = [terminal for terminal in terminals if terminal.await_text_or_end("in as", ends - time.monotonic())]
    return inside, [terminal for terminal in terminals if terminal not in inside]


def kill_all_sshd_sessions(bastion: Bastion) -> None:
    pids = " ".join(str(session["pid"]) for session in sessions(bastion))
    bastion.shell(f"kill -9 {pids}")


@pytest.mark.parametrize("daemon_dies", [False, True], ids=["the daemon lives", "the daemon is killed in between"])
def test_a_hundred_at_once_against_a_limit_of_ten(bastion: Bastion, *, daemon_dies: bool) -> None:
    bastion.configure("key", sshd="MaxSessions 200", **EXEMPT, **{LIMIT: "limit = 10"})
    terminals = [bastion.ssh("approves", remote=STAY) for _ in range(100)]
    inside, outside = settle(terminals, 150)
    assert len(inside) == 10
    assert len(outside) == 90
    for terminal in outside:
        assert "Too many parallel sessions from your address (10 open)" in terminal.text
    if daemon_dies:
        bastion.shell("systemctl kill -s KILL starlingd.service")
        await_sessions(bastion, 10)
        assert "Too many parallel" in bastion.log_in("approves").text
    kill_all_sshd_sessions(bastion)
    again, refused = settle([bastion.ssh("approves", remote=STAY) for _ in range(10)], 60)
    assert (len(again), len(refused)) == (10, 0)


def test_sessions_that_end_give_their_slot_back(bastion: Bastion) -> None:
    bastion.configure("key", **EXEMPT, **{LIMIT: "limit = 1"})
    for _ in range(3):
        assert "in as approves" in bastion.log_in("approves").text
        await_sessions(bastion, 0)


def test_a_phone_does_not_ring_when_the_house_is_full(bastion: Bastion) -> None:
    bastion.configure("key", **{LIMIT: "limit = 1"})
    first = bastion.ssh("approves", remote=STAY)
    first.await_prompt()
    first.type("")
    first.await_text("in as")
    refused = bastion.log_in("approves")
    assert "Too many parallel sessions from your address (1 open)" in refused.text
    assert "Press Enter" not in refused.text


def test_sftp_and_a_session_without_a_shell_count_and_a_shared_connection_counts_once(bastion: Bastion) -> None:
    bastion.configure("key", **EXEMPT, **{LIMIT: "limit = 2"})
    shared = str(bastion.work / "shared")
    master = bastion.ssh("approves", "-o", "ControlMaster=yes", "-o", f"ControlPath={shared}", remote=STAY)
    master.await_text("in as")
    for _ in range(3):
        assert "in as approves" in bastion.log_in("approves", options=("-o", f"ControlPath={shared}")).text
    await_sessions(bastion, 1)
    forwarding = Terminal.run([*bastion.command("ssh", "-N"), f"approves@{bastion.address}"])
    bastion.terminals.append(forwarding)
    await_sessions(bastion, 2)
    assert "Too many parallel sessions from your address (2 open)" in bastion.log_in("approves").text


def test_an_administrator_ends_a_session(bastion: Bastion) -> None:
    bastion.configure("key", **EXEMPT)
    terminal = bastion.ssh("approves", remote=STAY)
    terminal.await_text("in as")
    await_sessions(bastion, 1)
    [session] = sessions(bastion)
    assert (session["user"], session["client_ip"], session["service"]) == ("approves", bastion.engine.gateway, "sshd")
    assert "ended" in bastion.run("starlingctl", "sessions", "end", str(session["login"]))
    assert terminal.await_end() != 0
    await_sessions(bastion, 0)
