"""What starlingctl join takes, and that a secret which cannot be kept leaves what was kept before."""

import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from starlingd import config
from starlingd.cli import join, keeping
from starlingd.cli.keeping import Keeper, KeptSecrets, NotKept
from starlingd.cli.main import main
from starlingd.core.model import Fault, Unavailable

NAME, SECRET = "starling.credential", "an-id:tOps3cret"
CONF = "[starling]\n#credential = $\n[usermapping source=explicit]\nalice = 5551234\n"


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    made = Keeper(tmp_path)
    made.plain(NAME).parent.mkdir(parents=True, mode=0o700)
    return made


@pytest.fixture
def host(tmp_path: Path, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> Keeper:
    """Offer a host without systemd's help, whose service takes everything."""
    (tmp_path / "starling.conf").write_text(CONF, encoding="utf-8")
    monkeypatch.setattr(config, "FILE", tmp_path / "starling.conf")
    monkeypatch.setattr(join, "Keeper", lambda: keeper)
    monkeypatch.setattr(keeping, "CREDS", "/nonexistent/systemd-creds")
    monkeypatch.setattr(join, "SYSTEMCTL", "/bin/true")
    monkeypatch.setattr(join.outside, "token", lambda _: None)
    return keeper


def run(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(main, ["join", *arguments], input=typed)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_plain_one_is_roots_alone_whatever_the_umask(keeper: Keeper) -> None:
    before = os.umask(0)
    try:
        keeper.keep_plain(NAME, SECRET)
    finally:
        os.umask(before)
    assert mode(keeper.plain(NAME)) == 0o600
    assert keeper.plain(NAME).read_text(encoding="utf-8") == f"{SECRET}\n"
    assert [path.name for path in keeper.plain("").iterdir()] == [NAME]


def test_a_secret_that_systemd_does_not_hand_over_leaves_what_was_kept(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.keep_plain(NAME, "the-old:one")
    creds, handing = tmp_path / "creds", tmp_path / "run"
    creds.write_text('#!/bin/sh\ncat > "$4"\n', encoding="utf-8")
    handing.write_text("#!/bin/sh\necho something else\n", encoding="utf-8")
    for program in (creds, handing):
        program.chmod(0o755)
    monkeypatch.setattr(keeping, "CREDS", str(creds))
    monkeypatch.setattr(keeping, "RUN", str(handing))
    with pytest.raises(NotKept, match="something else"):
        keeper.keep_encrypted(NAME, SECRET)
    assert keeper.plain(NAME).read_text(encoding="utf-8") == "the-old:one\n"
    assert not keeper.drop_in(NAME).exists()
    assert list(keeper.encrypted("").iterdir()) == []


def test_what_systemd_hands_over_takes_the_place_of_the_plain_one(
    keeper: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.keep_plain(NAME, "the-old:one")
    creds, handing = tmp_path / "creds", tmp_path / "run"
    creds.write_text('#!/bin/sh\ncase $1 in encrypt) cat > "$4";; *) cat "$4";; esac\n', encoding="utf-8")
    handing.write_text(f"#!/bin/sh\nprintf %s {SECRET}\n", encoding="utf-8")
    for program in (creds, handing):
        program.chmod(0o755)
    monkeypatch.setattr(keeping, "CREDS", str(creds))
    monkeypatch.setattr(keeping, "RUN", str(handing))
    keeper.keep_encrypted(NAME, SECRET)
    assert not keeper.plain(NAME).exists()
    assert mode(keeper.encrypted(NAME)) == 0o600
    assert f"LoadCredentialEncrypted={NAME}:{keeper.encrypted(NAME)}\n" in keeper.drop_in(NAME).read_text("utf-8")
    assert KeptSecrets(keeper).find("starling", "credential") == SECRET


def test_what_no_program_can_decrypt_is_missing(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper.encrypted(NAME).parent.mkdir()
    keeper.encrypted(NAME).write_text("not for us", encoding="utf-8")
    monkeypatch.setattr(keeping, "CREDS", "/bin/false")
    with pytest.raises(config.SecretMissingError, match="cannot be decrypted"):
        KeptSecrets(keeper).find("starling", "credential")


@pytest.mark.parametrize("typed", [SECRET, f"{SECRET}\n", "an-id\ntOps3cret\n", "an-id\r\ntOps3cret\r\n"])
def test_it_takes_one_line_or_two(host: Keeper, typed: str) -> None:
    assert run("--file", "-", typed=typed).exit_code == 0
    assert host.plain(NAME).read_text(encoding="utf-8") == f"{SECRET}\n"
    assert "\ncredential = $\n" in config.FILE.read_text(encoding="utf-8")


def test_it_asks_for_both_and_shows_no_secret(host: Keeper) -> None:
    done = run(typed="an-id\ntOps3cret\n")
    assert done.exit_code == 0
    assert "tOps3cret" not in done.output
    assert host.plain(NAME).exists()


@pytest.mark.parametrize("typed", ["", "one", "a b c", ":", "id:", ":secret"])
def test_what_is_no_credential_is_refused(host: Keeper, typed: str) -> None:
    assert run("--file", "-", typed=typed).exit_code == 1
    assert not host.plain(NAME).exists()
    assert config.FILE.read_text(encoding="utf-8") == CONF


def test_a_credential_in_the_file_itself_is_not_shadowed(host: Keeper) -> None:
    config.FILE.write_text(CONF.replace("#credential = $", "credential = other:one"), encoding="utf-8")
    config.FILE.chmod(0o600)
    done = run("--file", "-", typed=SECRET)
    assert done.exit_code == 1
    assert "has a credential of its own" in done.output
    assert not host.plain(NAME).exists()


def test_what_the_service_refuses_is_not_kept(host: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Unavailable("starling", Fault.MISCONFIGURED, "token request: 401")
    monkeypatch.setattr(join.outside, "token", lambda _: refused)
    done = run("--file", "-", typed=SECRET)
    assert done.exit_code == 1
    assert "401" in done.output
    assert not host.plain(NAME).exists()
    assert run("--file", "-", "--without-check", typed=SECRET).exit_code == 0
    assert host.plain(NAME).exists()
