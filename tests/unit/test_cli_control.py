"""starlingctl's operating commands against a daemon: tables, JSON, exit statuses, nothing that moves the cursor."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from starlingd.core.grace import Key
from starlingd.core.rules import Rules
from tests.daemon_under_test import RIGHT_CODE, Bastion, Connection, Whole
from tests.unit.controlling import ADDRESS, AWAY, BOB, CACHED, KEY, controlled, fill, run, starlingctl

ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202e"
EVERY = [
    ("explain", "alice"),
    ("grace", "list"),
    ("grace", "forget", "--all"),
    ("sessions", "list"),
    ("sessions", "end", "1"),
    ("unlock", "alice"),
    ("reload",),
]


# Explain


def test_explain_shows_each_step_its_rule_and_the_end(tmp_path: Path) -> None:
    async def test(_: Bastion, whole: Whole) -> None:
        result = await starlingctl(whole, "explain", "alice", "--from", ADDRESS)
        assert result.exit_code == 0
        lines = result.output.splitlines()
        assert lines[0].split() == ["step", "result", "rule"]
        steps = [line.split()[0] for line in lines[1:-2]]
        assert steps == ["account", "connection_limit", "grace", "mapping", "warning"]
        assert "usermapping source=explicit" in result.output
        assert result.output.splitlines()[-1] == "alice would be asked for a second factor, as five"
        assert result.output.splitlines()[-2] == ""

    controlled(tmp_path, test, replace(CACHED, connection_limit=3, explicit_mapping={"alice": "five"}))


def test_explain_json_is_the_documented_object(tmp_path: Path) -> None:
    async def test(_: Bastion, whole: Whole) -> None:
        result = await starlingctl(whole, "explain", "root", "--json")
        assert result.exit_code == 0
        assert json.loads(result.output) == {
            "outcome": "deny",
            "reason": "root_not_permitted",
            "rule": "auth.permit_root",
            "identity": None,
            "steps": [
                {"step": "account", "result": "root, uid 0", "rule": ""},
                {"step": "root", "result": "not permitted", "rule": "auth.permit_root"},
            ],
        }

    controlled(tmp_path, test)


def test_explain_passes_every_option_on(tmp_path: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        await Connection(bastion, 1).log_in(RIGHT_CODE)
        entry = bastion.store.entries.pop(KEY)
        bastion.store.entries |= {
            Key("alice", "tty7", "", ""): entry,
            KEY: entry,
        }

        async def outcome(*options: str) -> str:
            answer = json.loads((await starlingctl(whole, "explain", "alice", "--json", *options)).output)
            return str(answer["outcome"])

        assert await outcome("--tty", "tty7") == "cached"
        assert await outcome("--tty", "tty8") == "second_factor"
        assert await outcome("--from", ADDRESS, "--service", "login") == "cached"
        soon = datetime.fromtimestamp(entry.used.wall + 30, UTC)
        assert await outcome("--from", ADDRESS, "--at", soon.isoformat()) == "cached"
        assert await outcome("--from", ADDRESS, "--at", soon.astimezone().replace(tzinfo=None).isoformat()) == "cached"
        assert await outcome("--from", ADDRESS, "--at", "2199-01-01") == "second_factor"
        assert await outcome("--from", ADDRESS, "--at", "1970-01-01T00:00:00+00:00") == "second_factor"

    controlled(tmp_path, test)


@pytest.mark.parametrize(
    "when",
    ["tomorrow", "", "25:00", "2026-13-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"],
)
def test_a_time_that_is_none_is_wrong_usage(tmp_path: Path, when: str) -> None:
    result = run(tmp_path / "none.sock", "explain", "alice", "--at", when)
    assert result.exit_code == 2
    assert "is not a time" in result.output


def test_explain_with_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    async def test(_: Bastion, whole: Whole) -> None:
        result = await starlingctl(whole, "explain", "alice", "--from", "example.org")
        assert (result.exit_code, result.output) == (1, "starlingctl: 'example.org' is not an address\n")

    controlled(tmp_path, test)


# Grace


def test_grace_list_shows_a_table_or_json(tmp_path: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        empty = await starlingctl(whole, "grace", "list")
        assert (empty.exit_code, empty.output) == (0, "no entries\n")
        assert json.loads((await starlingctl(whole, "grace", "list", "--json")).output) == []
        fill(bastion, KEY, AWAY, BOB)
        table = (await starlingctl(whole, "grace", "list", "alice")).output.splitlines()
        assert table[0].split() == ["user", "from", "ssh", "key", "service", "authenticated", "last", "used", "reused"]
        assert len(table) == 3
        assert table[2].split()[:4] == ["alice", "2001:db8::1", "SHA256:abc", "sshd"]
        [entry] = json.loads((await starlingctl(whole, "grace", "list", "--json", "--from", "2001:db8:0::1")).output)
        wall = bastion.store.entries[AWAY].used.wall
        assert entry == {
            "user": "alice",
            "client_ip": "2001:db8::1",
            "ssh_key": "SHA256:abc",
            "service": "sshd",
            "last_authenticated": wall,
            "last_used": wall,
            "reuse_count": 1,
        }

    controlled(tmp_path, test)


def test_grace_forget_wants_to_know_whose_and_forgets_no_other(tmp_path: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        fill(bastion, KEY, AWAY, BOB)
        for vague in ((), ("",), ("--from", "")):
            result = await starlingctl(whole, "grace", "forget", *vague)
            assert result.exit_code == 2
            assert "name a USER" in result.output
        assert len(bastion.store.entries) == 3
        one = await starlingctl(whole, "grace", "forget", "alice", "--from", ADDRESS)
        assert (one.exit_code, one.output) == (0, "1 forgotten\n")
        assert set(bastion.store.entries) == {AWAY, BOB}
        assert (await starlingctl(whole, "grace", "forget", "--all")).output == "2 forgotten\n"
        assert (await starlingctl(whole, "grace", "forget", "--all")).output == "0 forgotten\n"
        both = await starlingctl(whole, "grace", "forget", "--all", "alice")
        assert both.exit_code == 2, "all, or alice?"

    controlled(tmp_path, test)


# Unlock and reload


def test_unlock_says_whether_there_was_anything_to_unlock(tmp_path: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        assert (await starlingctl(whole, "unlock", "alice")).output == "alice was not locked\n"
        await Connection(bastion, 1).authenticate("000000", "111111", "222222")
        result = await starlingctl(whole, "unlock", "ALICE")
        assert (result.exit_code, result.output) == (0, "alice unlocked\n")
        nobody = await starlingctl(whole, "unlock", "nobody-here")
        assert (nobody.exit_code, nobody.output) == (1, "starlingctl: there is no account 'nobody-here'\n")

    controlled(tmp_path, test)


def test_reload_says_what_changed_or_is_refused(tmp_path: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        assert bastion.host.current
        whole.loaded = (replace(bastion.host.current, rules=Rules(connection_limit=7)), "ready")
        result = await starlingctl(whole, "reload")
        assert result.exit_code == 0
        assert "connection_limit" in result.output
        whole.loaded = (None, "line 3: [auth] prompt: must not be empty")
        refused = await starlingctl(whole, "reload")
        assert (refused.exit_code, refused.output) == (1, "starlingctl: line 3: [auth] prompt: must not be empty\n")

    controlled(tmp_path, test)


# What a terminal gets


def test_what_would_move_the_cursor_is_shown_as_an_escape(tmp_path: Path) -> None:
    hostile = replace(KEY, user=f"mallory{ESCAPE}", service=ESCAPE, ssh_key="[red]")

    async def test(bastion: Bastion, whole: Whole) -> None:
        fill(bastion, hostile)
        outputs = [
            (await starlingctl(whole, *command)).output
            for command in (
                ("grace", "list"),
                ("grace", "list", "--json"),
                ("explain", f"a{ESCAPE}"),
                ("explain", "alice", "--from", ESCAPE),
                ("explain", "alice", "--service", ESCAPE, "--tty", ESCAPE, "--key", ESCAPE),
                ("unlock", ESCAPE),
                ("sessions", "end", ESCAPE),
            )
        ]
        whole.loaded = (None, f"bad {ESCAPE}")
        outputs.append((await starlingctl(whole, "reload")).output)
        for output in outputs:
            assert all(character.isprintable() or character == "\n" for character in output), repr(output)
        assert r"mallory\x1b]0;owned\x07" in outputs[0]
        assert "[red]" in outputs[0]
        assert json.loads(outputs[1])[0]["user"] == hostile.user

    controlled(tmp_path, test)


def test_a_table_in_a_pipe_is_not_cut_to_the_width_of_a_terminal(tmp_path: Path) -> None:
    long = Key("a" * 60, "2001:db8:1111:2222:3333:4444:5555:6666", "SHA256:" + "b" * 43, "sshd")

    async def test(bastion: Bastion, whole: Whole) -> None:
        fill(bastion, long)
        lines = (await starlingctl(whole, "grace", "list")).output.splitlines()
        assert len(lines) == 2
        assert lines[1].split()[:4] == [long.user, long.client_ip, long.ssh_key, "sshd"]

    controlled(tmp_path, test)


# A daemon that is not there


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_no_daemon_is_status_3(tmp_path: Path, command: tuple[str, ...]) -> None:
    missing = run(tmp_path / "none.sock", *command)
    assert missing.exit_code == 3
    assert "does not exist" in missing.output
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(tmp_path / "closed.sock"))
    refused = run(tmp_path / "closed.sock", *command)
    assert refused.exit_code == 3
    assert "the daemon does not answer" in refused.output


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[Path]:
    """Offer a control socket where every request gets this answer."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            thread.join(5)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    "answer",
    [b"", b"\n", b"no json\n", b"[]\n", b"{}\n", b"null\n", b"\xff\xfe\n", b'{"result": 1', b"[" * 60_000 + b"\n"],
)
def test_an_answer_that_is_none_is_status_3(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path / "control.sock", answer) as path:
        result = run(path, "grace", "list")
    assert result.exit_code == 3
    assert result.output.startswith("starlingctl: the daemon does not answer: ")
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [(), ("explain",), ("grace",), ("grace", "forgt"), ("sessions", "end"), ("unlock",), ("reload", "now"), ("brew",)],
)
def test_wrong_usage_is_status_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = run(tmp_path / "none.sock", *arguments)
    assert result.exit_code == (2 if arguments[-1:] not in {(), ("grace",)} else result.exit_code)
    assert "Usage:" in result.output


def test_times_are_shown_in_the_local_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()

    async def test(bastion: Bastion, whole: Whole) -> None:
        fill(bastion, KEY)
        entry = bastion.store.entries[KEY]
        moment = replace(entry.used, wall=0.0)
        bastion.store.entries[KEY] = replace(entry, used=moment)
        assert "1970-01-01 05:30:00" in (await starlingctl(whole, "grace", "list")).output

    try:
        controlled(tmp_path, test)
    finally:
        monkeypatch.undo()
        time.tzset()
