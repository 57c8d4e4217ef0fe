"""What doctor says of files, units, the daemon's answer, the rules, the service and the clock."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

import pytest

from starlingd import VERSION
from starlingd.cli.doctor import clock, daemon, facts, files, service
from starlingd.cli.doctor.files import Fact
from starlingd.cli.doctor.finding import Finding
from starlingd.cli.pam.places import Done
from starlingd.cli.pam.stack import Mode
from starlingd.config import Problem
from starlingd.core.model import Fault, Unavailable
from starlingd.core.rules import Rules, WithoutSecondFactor

FILE, FOLDER, SOCKET, LINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFSOCK, stat.S_IFLNK


def told(findings: Iterable[Finding]) -> dict[str, str]:
    return {finding.id: finding.severity for finding in findings}


# Files


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        (Fact("/x", FILE | 0o644, "root", "root"), {}),
        (Fact("/x", LINK | 0o777, "root", "root"), {}),
        (Fact("/x"), {"files.missing": "error"}),
        (Fact("/x", FILE | 0o644, "bob", "root"), {"files.owner": "error"}),
        (Fact("/x", FILE | 0o664, "root", "root"), {"files.writable": "error"}),
        (Fact("/x", FOLDER | 0o757, "root", "root"), {"files.writable": "error"}),
    ],
)
def test_what_pam_runs_is_roots_alone(fact: Fact, expected: dict[str, str]) -> None:
    assert told(files.check_code([fact])) == expected


def test_everything_that_the_entry_imports_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "versions/1/pam_starling").mkdir(parents=True)
    (tmp_path / "versions/1/pam_starling/login.py").touch()
    (tmp_path / "current").symlink_to("versions/1")
    seen = {fact.path: fact.exists for fact in facts.code(tmp_path)}
    assert seen[str(tmp_path / "versions/1/pam_starling/login.py")]
    assert seen[str(tmp_path / "versions/1")]
    assert seen[str(tmp_path / "current/pam_starling/login.py")]
    assert not seen[str(tmp_path / "entry.py")]
    assert not seen[str(tmp_path / "current/pam_starling/client.py")]


@pytest.mark.parametrize(
    ("path", "mode", "group", "expected"),
    [
        ("/run/starlingd/pam.sock", SOCKET | 0o600, "root", {}),
        ("/run/starlingd/control.sock", SOCKET | 0o660, "starling-admin", {}),
        ("/run/starlingd/control.sock", SOCKET | 0o660, "users", {"socket.mode": "error"}),
        ("/run/starlingd/pam.sock", SOCKET | 0o666, "root", {"socket.mode": "error"}),
        ("/run/starlingd/pam.sock", FILE | 0o600, "root", {"socket.mode": "error"}),
        ("/run/starlingd/pam.sock", 0, "", {"socket.missing": "error"}),
    ],
)
def test_the_sockets_have_their_owners_and_modes(path: str, mode: int, group: str, expected: dict[str, str]) -> None:
    assert told(files.check_sockets([Fact(path, mode, "root", group)])) == expected


@pytest.mark.parametrize(
    ("mode", "user", "bad"),
    [
        (FILE | 0o600, "root", False),
        (FILE | 0o400, "root", False),
        (FILE | 0o640, "root", True),
        (FILE | 0o600, "bob", True),
        (LINK | 0o777, "root", True),
    ],
)
def test_a_credential_is_roots_alone(mode: int, user: str, bad: bool) -> None:  # noqa: FBT001
    found = told(files.check_private("x", [(Fact("/c", mode, user, "root"), files.PRIVATE_FILE)]))
    assert found == ({"x": "error"} if bad else {})


def test_free_space_and_inodes_have_two_marks_and_one() -> None:
    assert told(files.check_space("/s", 2**40, None)) == {}
    assert told(files.check_space("/s", 2**27, 10**6)) == {"state.space": "warning"}
    assert told(files.check_space("/s", 2**20, 3)) == {"state.space": "error", "state.inodes": "error"}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], {"files.pam-python": "error"}),
        ([Fact("/lib/security/pam_python.so", FILE | 0o644, "root", "root")], {}),
        ([Fact("/lib/security/pam_python.so", FILE | 0o644, "bob", "root")], {"files.owner": "error"}),
        ([Fact("/lib/security/pam_python.so", FILE | 0o666, "root", "root")], {"files.writable": "error"}),
    ],
)
def test_pam_python_is_there_and_roots_alone(found: list[Fact], expected: dict[str, str]) -> None:
    assert told(files.check_module(found)) == expected


def test_a_pam_python_with_two_names_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "security").mkdir()
    (tmp_path / "security/pam_python.so").touch(mode=0o640)
    (tmp_path / "lib").symlink_to("security")
    monkeypatch.setattr(facts, "MODULES", (str(tmp_path / "security"), str(tmp_path / "lib")))
    [fact] = facts.modules()
    assert fact.path == os.path.realpath(tmp_path / "security/pam_python.so")
    assert fact.mode == FILE | 0o640


def test_what_lies_hidden_beside_a_pam_service_is_none(tmp_path: Path) -> None:
    for name in ("sshd", ".sshd.pam-starling-new"):
        (tmp_path / name).write_text("auth required x.so\n", encoding="ascii")
    assert list(facts.pam_files(tmp_path)) == ["sshd"]


def installed(lib: Path, shipped: dict[str, str], used: dict[str, str]) -> list[str]:
    """Make the folders of an installed package; tell the files that differ."""
    for folder, texts in (("module", shipped), ("versions/1", used)):
        (lib / folder / "pam_starling").mkdir(parents=True)
        for name, text in texts.items():
            (lib / folder / "pam_starling" / name).write_text(text, encoding="ascii")
    (lib / "current").symlink_to("versions/1")
    return facts.foreign_code(lib)


@pytest.mark.parametrize(
    ("shipped", "used", "foreign"),
    [
        ({"login.py": "new", "client.py": "same"}, {"login.py": "new", "client.py": "same"}, []),
        ({"login.py": "new", "client.py": "same"}, {"login.py": "old", "client.py": "same"}, ["login.py"]),
        ({"login.py": "new", "more.py": "new"}, {"login.py": "new"}, ["more.py"]),
        ({"login.py": "new"}, {"login.py": "new", "less.py": "old"}, ["less.py"]),
        ({}, {"login.py": "old"}, ["login.py"]),
    ],
)
def test_an_upgrade_that_did_not_reach_pam_is_told(
    tmp_path: Path, shipped: dict[str, str], used: dict[str, str], foreign: list[str]
) -> None:
    assert installed(tmp_path, shipped, used) == foreign
    assert told(files.check_version(foreign)) == ({"files.version": "warning"} if foreign else {})


# The daemon

ACTIVE = {"ActiveState": "active", "LoadState": "loaded", "UnitFileState": "enabled", "NRestarts": "0"}
UNITS = dict.fromkeys((*daemon.SOCKETS, daemon.SERVICE), ACTIVE)


@pytest.mark.parametrize(
    ("unit", "changed", "expected"),
    [
        (daemon.SERVICE, {}, {}),
        (daemon.SERVICE, {"ActiveState": "failed"}, {"daemon.inactive": "error"}),
        (daemon.SERVICE, {"LoadState": "masked"}, {"daemon.masked": "error"}),
        (daemon.SERVICE, {"StatusText": "misconfigured, every login is denied"}, {"daemon.misconfigured": "error"}),
        (daemon.SERVICE, {"NRestarts": "7"}, {"daemon.restarts": "warning"}),
        ("starlingd.socket", {"UnitFileState": "disabled"}, {"daemon.disabled": "error"}),
    ],
)
def test_units_run_and_start_at_boot(unit: str, changed: dict[str, str], expected: dict[str, str]) -> None:
    assert told(daemon.check_units(UNITS | {unit: ACTIVE | changed})) == expected


def test_the_daemons_answer_is_compared_with_us() -> None:
    assert told(daemon.check_answer({"version": VERSION, "health": {"service": None}}, "")) == {}
    assert told(daemon.check_answer({"version": "0.0.9"}, "")) == {"daemon.version": "warning"}
    outage = {"version": VERSION, "health": {"directory": {"outage": "refused"}}}
    assert told(daemon.check_answer(outage, "")) == {"daemon.directory-outage": "warning"}
    assert told(daemon.check_answer(None, "no socket")) == {"daemon.no-answer": "error"}


def test_problems_and_warnings_of_the_configuration_are_told() -> None:
    problems = [Problem("auth", "x", "is unknown")] * 9
    found = list(daemon.check_configuration(problems, [Problem("auth", "fail_mode", "is safe")]))
    assert [finding.id for finding in found] == ["config.problem"] * daemon.SHOWN + ["config.auth.fail_mode"]
    assert found[-1].severity == "warning"


def test_rules_that_contradict_the_stack_are_told() -> None:
    assert told(daemon.check_rules(Rules(), Mode.KEY)) == {}
    assert told(daemon.check_rules(Rules(), Mode.KEY_PUSH)) == {"config.key-push": "error"}
    push = Rules(without_second_factor=WithoutSecondFactor.PUSH, break_glass=frozenset({"root"}))
    assert told(daemon.check_rules(push, Mode.KEY_PUSH)) == {"config.break-glass": "note"}


# The service and the clock


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.UNREACHABLE, "service.unreachable"),
        (Fault.MISCONFIGURED, "service.refused"),
        (Fault.BROKEN, "service.broken"),
    ],
)
def test_a_token_that_is_not_had_tells_whose_fault_it_is(fault: Fault, expected: str) -> None:
    outage = Unavailable("service", fault, "because")
    [found] = service.check_token(outage, 0.1)
    assert (found.id, found.severity) == (expected, "error")
    assert "because" in found.reason


def test_a_token_that_is_had_is_nothing_to_tell_unless_slow() -> None:
    assert told(service.check_token(None, 0.1)) == {}
    assert told(service.check_token(None, 5.0)) == {"service.slow": "warning"}


def test_names_and_the_directory_are_told() -> None:
    assert told(service.check_names({"sts.invalid": "not found"})) == {"service.name": "error"}
    outage = Unavailable("directory", Fault.UNREACHABLE, "refused")
    assert told(service.check_directory(outage)) == {"directory.unavailable": "error"}
    assert told(service.check_directory(None)) == {}


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (0.9, {}),
        (-9.0, {}),
        (-11.0, {"clock.offset": "warning"}),
        (61.0, {"clock.offset": "error"}),
        (None, {"clock.unknown": "note"}),
    ],
)
def test_a_clock_that_is_off_is_told(offset: float | None, expected: dict[str, str]) -> None:
    assert told(clock.check(offset)) == expected


@pytest.mark.parametrize(
    ("printed", "seen", "expected"),
    [
        (Done(0, "yes"), True, {}),
        (Done(0, "no"), False, {"clock.unsynchronised": "warning"}),
        (Done(0, ""), None, {"clock.unknown": "note"}),
        (Done(1, "no"), None, {"clock.unknown": "note"}),
        (Done(127, "/usr/bin/timedatectl: missing"), None, {"clock.unknown": "note"}),
    ],
)
def test_without_a_service_it_counts_whether_something_keeps_the_clock_right(
    monkeypatch: pytest.MonkeyPatch,
    printed: Done,
    seen: bool | None,  # noqa: FBT001
    expected: dict[str, str],
) -> None:
    monkeypatch.setattr(facts, "run", lambda *_: printed)
    assert facts.clock_is_synchronised() is seen
    assert told(clock.check_own(seen)) == expected
