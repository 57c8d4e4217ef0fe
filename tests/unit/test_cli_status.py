"""starlingctl status and events: what is so first, counts that say since when, and events that are counted as such."""

from __future__ import annotations

import json
import re
import shlex
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from starlingd import VERSION
from starlingd.cli import status
from starlingd.cli.daemon import moment
from starlingd.cli.main import main
from tests.daemon_under_test import RIGHT_CODE, Bastion, Connection, Whole
from tests.unit.controlling import CACHED, controlled, starlingctl

OURS = ["_SYSTEMD_UNIT=starlingd.service", "_TRANSPORT=journal"]


# Status


def test_status_tells_version_start_and_each_outcome_with_its_number(tmp_path: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        await Connection(bastion, 1).authenticate(RIGHT_CODE)
        result = await starlingctl(whole, "status")
        assert result.exit_code == 0
        assert re.search(rf"^version +{re.escape(VERSION)} *$", result.output, re.MULTILINE)
        assert re.search(rf"^up since +{moment(bastion.host.started)} *$", result.output, re.MULTILINE)
        assert re.search(r"^rules +configured *$", result.output, re.MULTILINE)
        assert re.search(r"^allow +code_verified +1 *$", result.output, re.MULTILINE)
        assert f"since midnight or since the daemon started ({moment(bastion.host.started)})" in result.output
        assert "OBSERVING" not in result.output

    controlled(tmp_path, test)


def test_status_says_before_all_else_that_nobody_is_asked(tmp_path: Path) -> None:
    async def test(_: Bastion, whole: Whole) -> None:
        result = await starlingctl(whole, "status")
        assert result.output.startswith("OBSERVING: until ")
        assert "nobody is asked" in result.output.splitlines()[0]
        told = json.loads((await starlingctl(whole, "status", "--json")).output)
        assert next(iter(told)) == "observing"
        assert told["observing"] is True

    controlled(tmp_path, test, replace(CACHED, observe_until=time.time() + 3600))


def test_status_for_machines_says_that_the_rules_hold_once_the_day_is_over(tmp_path: Path) -> None:
    async def test(_: Bastion, whole: Whole) -> None:
        told = json.loads((await starlingctl(whole, "status", "--json")).output)
        assert told["observing"] is False
        assert told["version"] == VERSION
        assert told["started"] > 0

    controlled(tmp_path, test, replace(CACHED, observe_until=time.time() - 1))


# Events


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Offer a journalctl that writes down how it was called, and prints two events and a line that is none."""
    entries = [
        {"__REALTIME_TIMESTAMP": "1000000", "STARLING_EVENT": "login", "STARLING_USER": "a\x1b[2J"},
        {"__REALTIME_TIMESTAMP": "2000000", "MESSAGE": "ready"},
        {"__REALTIME_TIMESTAMP": "3000000", "STARLING_EVENT": "reload"},
    ]
    (tmp_path / "entries").write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="ascii")
    called, program = tmp_path / "called", tmp_path / "journalctl"
    called.touch()
    script = f"printf '%s\\n' \"$@\" > {shlex.quote(str(called))}; cat {shlex.quote(str(tmp_path / 'entries'))}"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setattr(status, "JOURNALCTL", str(program))
    return called


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ((), ["--lines=50", *OURS]),
        (("--lines", "3"), ["--lines=3", *OURS]),
        (("--since", "-1h"), ["--since=-1h", "--no-tail", *OURS]),
        (("--follow",), ["--lines=50", "--follow", *OURS]),
        (("--follow", "--since", "today"), ["--since=today", "--no-tail", "--follow", *OURS]),
        (("--user", "--all"), ["--lines=50", *OURS, "STARLING_USER=--all"]),
    ],
)
def test_the_journal_is_asked_for_events_alone(journal: Path, arguments: tuple[str, ...], asked: list[str]) -> None:
    result = CliRunner().invoke(main, ["events", *arguments])
    assert result.exit_code == 0, result.output
    assert journal.read_text(encoding="ascii").splitlines() == ["--output=json", "--all", "--quiet", *asked]


def test_what_is_no_event_is_not_shown(journal: Path) -> None:
    assert journal.exists()
    found = [json.loads(line) for line in CliRunner().invoke(main, ["events", "--json"]).output.splitlines()]
    assert [event["event"] for event in found] == ["login", "reload"]
    assert "ready" not in CliRunner().invoke(main, ["events"]).output


@pytest.mark.parametrize("how", [(), ("--follow",)])
def test_an_event_cannot_move_the_cursor(journal: Path, how: tuple[str, ...]) -> None:
    assert journal.exists()
    shown = CliRunner().invoke(main, ["events", *how]).output
    assert "\x1b" not in shown
    assert "a\\x1b[2J" in shown
