"""The control socket, over real sockets: what each command answers, and what no junk can do."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from starlingd.core.grace import Key
from starlingd.core.rules import Rules
from starlingd.ports import Fault, Unavailable
from tests.daemon_under_test import RIGHT_CODE, Bastion, Connection, Whole
from tests.unit.controlling import ADDRESS, AWAY, BOB, KEY, ask, controlled, fill, send

UNKNOWN = "this daemon does not know that request; is it the same version as starlingctl?"


@pytest.fixture
def directory() -> Iterator[Path]:
    """Offer a directory that others may enter."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


# Grace, sessions, unlock, reload


def test_grace_is_listed_in_the_documented_shape(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        fill(bastion, KEY, AWAY)
        first, second = (await ask(whole, "grace list"))["result"]
        assert list(first) == [
            "user",
            "client_ip",
            "ssh_key",
            "service",
            "last_authenticated",
            "last_used",
            "reuse_count",
        ]
        assert (first["user"], first["client_ip"], first["ssh_key"], first["reuse_count"]) == ("alice", ADDRESS, "", 1)
        assert (second["client_ip"], second["ssh_key"], second["service"]) == ("2001:db8::1", "SHA256:abc", "sshd")
        assert first["last_used"] == bastion.store.entries[KEY].used.wall

    controlled(directory, test)


@pytest.mark.parametrize(
    ("request_", "gone"),
    [
        ({}, {KEY, BOB, AWAY}),
        ({"user": "alice"}, {KEY, AWAY}),
        ({"from": "::ffff:198.51.100.7"}, {KEY, BOB}),
        ({"user": "alice", "from": "2001:DB8:0::1"}, {AWAY}),
        ({"user": "ALICE"}, {KEY, AWAY}),
        ({"user": "nobody-here"}, set()),
    ],
)
def test_what_is_listed_is_what_is_forgotten(directory: Path, request_: dict[str, str], gone: set[Key]) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        fill(bastion, KEY, BOB, AWAY)
        listed = (await ask(whole, "grace list", **request_))["result"]
        assert {(entry["user"], entry["client_ip"]) for entry in listed} == {(key.user, key.client_ip) for key in gone}
        assert await ask(whole, "grace forget", **request_) == {"result": {"forgotten": len(gone)}}
        assert set(bastion.store.entries) == {KEY, BOB, AWAY} - gone

    controlled(directory, test)


def test_sessions_are_listed_with_what_names_their_process(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        assert await ask(whole, "sessions list") == {"result": []}
        alice = Connection(bastion, 1)
        await alice.log_in(RIGHT_CODE)
        [session] = (await ask(whole, "sessions list"))["result"]
        assert {"user", "client_ip", "service", "tty", "pid", "since", "login"} <= set(session)
        assert (session["user"], session["client_ip"], session["tty"]) == ("alice", ADDRESS, "ssh")
        assert (session["pid"], session["start"]) == (alice.monitor.pid, alice.monitor.start)
        assert session["login"] == bastion.events()[0]["STARLING_LOGIN"]

    controlled(directory, test)


def test_unlocking_lets_in_at_once_is_written_down_and_survives_a_restart(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        for number in (1, 2):
            await Connection(bastion, number).authenticate("000000", "111111", "222222")
        assert (await Connection(bastion, 3).authenticate(RIGHT_CODE))["reason"] == "too_many_attempts"
        answer = await ask(whole, "unlock", user="ALICE")
        assert answer == {"result": {"user": "alice", "had_failures": True}}
        assert (await Connection(bastion, 4).authenticate(RIGHT_CODE))["reason"] == "code_verified"
        assert bastion.store.wrong_codes == []
        [event] = bastion.events("unlock")
        assert (event["STARLING_USER"], event["STARLING_BY"], event["WARNING"]) == ("alice", "root", "True")
        assert (await ask(whole, "unlock", user="alice"))["result"]["had_failures"] is False

    controlled(directory, test)


def test_what_cannot_be_unlocked_for_good_is_not_unlocked_for_now(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        for number in (1, 2):
            await Connection(bastion, number).authenticate("000000", "111111", "222222")
        bastion.store.outage = Unavailable("store", Fault.BROKEN, "disk full")
        assert await ask(whole, "unlock", user="alice") == {"error": "store: disk full"}
        bastion.store.outage = None
        assert (await Connection(bastion, 3).authenticate(RIGHT_CODE))["reason"] == "too_many_attempts"
        assert bastion.events("unlock") == []

    controlled(directory, test)


def test_unlocking_whom_nobody_knows_is_refused(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        assert await ask(whole, "unlock", user="nobody\x1b") == {"error": r"there is no account 'nobody\x1b'"}
        assert "error" in await ask(whole, "unlock")
        assert bastion.events("unlock") == []

    controlled(directory, test)


def test_reload_tells_what_changed_or_why_not(directory: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        assert bastion.host.current
        whole.loaded = (replace(bastion.host.current, rules=Rules(connection_limit=7)), "ready")
        assert "connection_limit" in (await ask(whole, "reload"))["result"]["sentence"]
        assert bastion.host.current.rules.connection_limit == 7
        whole.loaded = (None, "line 3: [auth] prompt: must not be empty")
        assert await ask(whole, "reload") == {"error": "line 3: [auth] prompt: must not be empty"}
        assert bastion.host.current.rules.connection_limit == 7

    controlled(directory, test)


# Junk


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b'"explain"\n',
        b'{"command": "make coffee"}\n',
        b'{"command": ["explain"]}\n',
        b'{"command": null}\n',
        b'{"command": "explain"',
        b"\xff\xfe\x00\n",
        b"GET / HTTP/1.1\r\n",
        b"[" * 60_000 + b"\n",
        b'{"a":' * 12_000 + b"\n",
        b"9" * 60_000 + b"\n",
    ],
    ids=lambda line: repr(line[:20]),
)
def test_what_is_no_request_gets_one_word_and_ends_nothing(
    directory: Path, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(_: Bastion, whole: Whole) -> None:
        assert json.loads(await send(whole, line, end=True)) == {"error": UNKNOWN}
        assert "result" in await ask(whole, "sessions list")

    controlled(directory, test)
    assert "Traceback" not in caplog.text
    assert "exception" not in caplog.text


def test_a_line_that_does_not_end_is_not_read_to_its_end(directory: Path) -> None:
    async def test(_: Bastion, whole: Whole) -> None:
        answer = await send(whole, b'{"command": "' + b"x" * 1_000_000 + b'"}\n')
        assert b"result" not in answer
        assert "result" in await ask(whole, "sessions list")

    controlled(directory, test)


def test_whoever_says_nothing_or_hangs_up_keeps_nobody_waiting(directory: Path) -> None:
    async def test(_: Bastion, whole: Whole) -> None:
        idle = [socket.socket(socket.AF_UNIX) for _ in range(50)]
        for sock in idle:
            sock.connect(str(whole.control))
        idle[0].sendall(b'{"command": "explain", "user": "alice"}\n')
        idle[0].close()
        assert "result" in await ask(whole, "sessions list")
        for sock in idle[1:]:
            sock.close()

    controlled(directory, test)


def test_one_request_is_answered_per_connection(directory: Path) -> None:
    async def test(_: Bastion, whole: Whole) -> None:
        line = b'{"command": "sessions list"}\n'
        assert (await send(whole, line * 3)).count(b"result") == 1

    controlled(directory, test)
