"""starlingctl check-config --sps: told for people and programs, written once and over nothing, with a status."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from starlingd import config
from starlingd.cli.main import main

DATA = Path(__file__).parents[1] / "data"
VERSION_1 = DATA / "sps-version-1.cfg"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["check-config", *(str(argument) for argument in arguments)])


def old(directory: Path, text: str) -> Path:
    path = directory / "plugin.cfg"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_sample_is_fine_and_leaves_the_credential_to_do() -> None:
    result = run("--sps", DATA / "sps-sample.cfg")
    assert result.exit_code == 0
    first, last = result.output.splitlines()
    assert first.startswith("to do: write the client_id:client_secret")
    assert last == "fine"


def test_every_option_has_its_line() -> None:
    lines = run("--sps", VERSION_1).output.splitlines()
    assert "line 5: [starling] timeout: kept" in lines
    assert "line 9: [users] alice: renamed to [usermapping source=explicit] alice" in lines
    assert "line 13: [plugin] config_version: not applicable: the layout is recognised by itself" in lines
    assert lines[-1] == "fine"


def test_json_is_one_object_with_the_same_content(tmp_path: Path) -> None:
    target = tmp_path / "starling.conf"
    report = json.loads(run("--sps", VERSION_1, "--write", target, "--json").output)
    assert (report["file"], report["fine"], report["problems"]) == (str(VERSION_1), True, [])
    assert report["written"] == str(target)
    assert report["options"][4] == {
        "section": "users",
        "key": "alice",
        "line": 9,
        "result": "renamed",
        "to": {"section": "usermapping source=explicit", "key": "alice"},
        "reason": "",
    }
    assert report["options"][0]["result"] == "kept"
    (gone,) = (option for option in report["options"] if option["key"] == "config_version")
    assert (gone["result"], gone["to"]) == ("not_applicable", None)
    assert any("[user_list robots]" in each for each in report["to_do"])
    assert any(warning["line"] == 18 for warning in report["warnings"])


@pytest.mark.parametrize("name", ["sps-sample.cfg", "sps-version-1.cfg", "sps-version-2.cfg"])
def test_what_is_written_is_a_configuration_that_only_some_may_read(tmp_path: Path, name: str) -> None:
    target = tmp_path / "starling.conf"
    before = os.umask(0o077)
    try:
        assert run("--sps", DATA / name, "--write", target).exit_code == 0
    finally:
        os.umask(before)
    assert target.stat().st_mode & 0o7777 == 0o640
    assert run("--without-secrets", target).output.endswith("fine\n")
    assert "s3cret" not in target.read_text()


def test_nothing_is_written_over_anything(tmp_path: Path) -> None:
    target = tmp_path / "starling.conf"
    target.write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("starling.conf", "link"):
        result = run("--sps", VERSION_1, "--write", tmp_path / name)
        assert result.exit_code == 1
        assert "exists, and nothing is written over it" in result.output
    assert target.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_nothing_is_written_while_there_is_a_problem(tmp_path: Path) -> None:
    target = tmp_path / "starling.conf"
    result = run("--sps", old(tmp_path, "[starling]\ntimeout = 5\n"), "--write", target)
    assert result.exit_code == 1
    assert result.output.splitlines()[-2:] == [
        "line 2: [starling] timeout: must be from 6 to 600 seconds",
        "1 problem",
    ]
    assert not target.exists()
    assert json.loads(run("--sps", tmp_path / "plugin.cfg", "--write", target, "--json").output)["written"] is None


def test_half_a_file_is_not_left_behind(tmp_path: Path) -> None:
    target = tmp_path / "starling.conf"
    with pytest.raises(UnicodeEncodeError):
        config.write_new(target, "\ud800")
    assert not target.exists()


@pytest.mark.parametrize("name", ["absent/starling.conf", "x" * 300])
def test_a_place_that_cannot_be_written_is_a_problem(tmp_path: Path, name: str) -> None:
    result = run("--sps", VERSION_1, "--write", f"{tmp_path}/{name}")
    assert result.exit_code == 1
    assert "cannot be written: " in result.output


def test_a_missing_old_file_is_a_problem(tmp_path: Path) -> None:
    result = run("--sps", tmp_path / "absent")
    assert result.exit_code == 1
    assert "cannot be read: No such file" in result.output


@pytest.mark.parametrize(
    "arguments",
    [("--write", "x"), ("--sps", "a", "b"), ("--sps", "a", "--without-secrets"), ("--sps",), ("--sps", "a", "--write")],
)
def test_wrong_usage_has_its_own_status(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_no_value_and_nothing_raw_reaches_the_terminal(tmp_path: Path) -> None:
    evil = "a\x1b[2J\x9b\u202eb"
    path = old(tmp_path, f"[{evil}]\n{evil} = Zs3cretZ\n[whitelist source=user_list]\nname = {evil}\n"
               "[starling]\napi_key = Zs3cretZ\ntimeout = Zs3cretZ\n[https_proxy]\npassword = Zs3cretZ\n")  # fmt: skip
    for arguments in (("--sps", path), ("--sps", path, "--json")):
        output = run(*arguments).output
        assert "s3cret" not in output
        assert all(line.isprintable() for line in output.split("\n"))
