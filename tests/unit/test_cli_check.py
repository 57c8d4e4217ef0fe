"""starlingctl check-config: every problem on its line, a status for programs, nothing that moves the cursor."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from starlingd import config
from starlingd.cli.main import main

GOOD = "[starling]\ncredential = id:s3cret\n"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def conf(directory: Path, text: str) -> Path:
    path = directory / "starling.conf"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o640)
    return path


def test_a_good_file_is_fine(tmp_path: Path) -> None:
    result = run("check-config", conf(tmp_path, GOOD))
    assert (result.exit_code, result.output) == (0, "fine\n")


def test_warnings_are_told_and_do_not_fail(tmp_path: Path) -> None:
    result = run("check-config", conf(tmp_path, GOOD + "[auth]\ndisable_echo = yes\n"))
    assert result.exit_code == 0
    first, last = result.output.splitlines()
    assert first.startswith("warning: line 4: [auth] disable_echo: is dangerous")
    assert last == "fine"


def test_every_problem_is_told_with_section_and_key_before_the_warnings(tmp_path: Path) -> None:
    result = run("check-config", conf(tmp_path, GOOD + "timeut = 1\n[auth]\nmax_attempts = 0\ndisable_echo = yes\n"))
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0] == "line 3: [starling] timeut: is unknown: did you mean timeout?"
    assert lines[1] == "line 5: [auth] max_attempts: must be from 1 to 100"
    assert lines[2].startswith("warning: line 6: [auth] disable_echo")
    assert lines[3] == "2 problems"


def test_json_is_one_object_with_the_same_content(tmp_path: Path) -> None:
    path = conf(tmp_path, GOOD + "timeut = 1\n[auth]\ndisable_echo = yes\n")
    result = run("check-config", "--json", path)
    assert result.exit_code == 1
    report = json.loads(result.output)
    assert report["file"] == str(path)
    assert report["fine"] is False
    assert report["problems"] == [
        {"section": "starling", "key": "timeut", "message": "is unknown: did you mean timeout?", "line": 3}
    ]
    assert [warning["key"] for warning in report["warnings"]] == ["disable_echo"]
    assert json.loads(run("check-config", "--json", conf(tmp_path, GOOD)).output)["fine"] is True


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    result = run("check-config", tmp_path / "absent")
    assert result.exit_code == 1
    assert "cannot be read: No such file" in result.output


@pytest.mark.parametrize("arguments", [["check-config", "a", "b"], ["check-config", "--frobnicate"], ["frobnicate"]])
def test_wrong_usage_has_its_own_status(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_secrets_are_looked_up_unless_told_not_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = conf(tmp_path, "[starling]\ncredential = $\n")
    monkeypatch.setattr(config, "AdministratorFiles", lambda _: files)
    files = config.secrets.AdministratorFiles(tmp_path, os.getuid())
    assert "found nowhere" in run("check-config", path).output
    assert run("check-config", "--without-secrets", path).output == "fine\n"
    kept = tmp_path / "starling.credential"
    kept.write_text("id:s3cret\n")
    kept.chmod(0o644)
    assert "chmod 0600" in run("check-config", path).output
    kept.chmod(0o600)
    assert run("check-config", path).output == "fine\n"


def test_nothing_of_the_file_reaches_the_terminal_raw(tmp_path: Path) -> None:
    evil = "a\x1b[2J\x9b\u202e\u2028b"
    result = run("check-config", conf(tmp_path, f"{GOOD}[{evil}]\nx = 1\n[auth]\n{evil} = {evil}\nprompt = {evil}\n"))
    assert result.exit_code == 1
    assert all(line.isprintable() for line in result.output.split("\n"))
    assert r"a\x1b[2J\x9b\u202e\u2028b" in result.output


def test_no_secret_is_printed(tmp_path: Path) -> None:
    path = conf(
        tmp_path,
        "[starling]\ncredential = s3cret\ncredentail = s3cret:s3cret\ns3cret\n[https_proxy]\npassword=s3cret\n",
    )
    assert "s3cret" not in run("check-config", path).output + run("check-config", "--json", path).output


def test_a_locale_without_the_character_does_not_end_the_command(tmp_path: Path) -> None:
    path = conf(tmp_path, GOOD + "[čítání]\na = 1\n")
    result = CliRunner(charset="latin-1").invoke(main, ["check-config", str(path)])
    assert result.exit_code == 1
    assert r"\u010dítání" in result.output


def test_the_version_is_told() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.output.startswith("starlingctl, version ")
