"""Secrets never show themselves, and are taken only from places that nobody else can read."""

import copy
import os
import pickle
from pathlib import Path

import pytest

from starlingd.config import AdministratorFiles, Secret, SecretMissingError, ServiceCredentials, daemon_secrets

VALUE = "tOps3cret"


def keep(path: Path, content: bytes = f"{VALUE}\n".encode(), mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def mine(directory: Path) -> AdministratorFiles:
    return AdministratorFiles(directory, owner=os.getuid())


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret(VALUE)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r}", "%s" % secret, repr([secret]), repr({"a": secret})]  # noqa: UP031
    assert not any(VALUE in text for text in shown)
    assert secret.reveal() == VALUE
    assert not hasattr(secret, "__dict__")


def test_a_secret_is_compared_by_value_and_not_written_anywhere() -> None:
    assert Secret(VALUE) == Secret(VALUE) != Secret("other")
    assert Secret(VALUE) != VALUE
    assert len({Secret(VALUE), Secret(VALUE)}) == 1
    for write in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            write(Secret(VALUE))


@pytest.mark.parametrize("name", ["conf_starling.credential", "starling.credential"])
def test_the_service_finds_either_name(tmp_path: Path, name: str) -> None:
    keep(tmp_path / name)
    assert ServiceCredentials(tmp_path).find("starling", "credential") == VALUE


def test_the_directory_credential_comes_first(tmp_path: Path) -> None:
    keep(tmp_path / "conf_starling.credential")
    keep(tmp_path / "starling.credential", b"other")
    assert ServiceCredentials(tmp_path).find("starling", "credential") == VALUE


def test_a_credential_found_nowhere_says_which_file_to_make(tmp_path: Path) -> None:
    for source in (ServiceCredentials(tmp_path), ServiceCredentials(tmp_path / "absent"), ServiceCredentials(None)):
        with pytest.raises(SecretMissingError, match=r"/etc/pam-starling/credentials/starling\.credential"):
            source.find("starling", "credential")


def test_the_daemons_source_is_systemds_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path / "conf_starling.credential")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert daemon_secrets().find("starling", "credential") == VALUE
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(SecretMissingError, match="systemd handed over no credentials"):
        daemon_secrets().find("starling", "credential")


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "empty"), (b"\n", "empty"), (b"\xff", "UTF-8"), (b"x" * 70_000, "more than")]
)
def test_a_credential_that_cannot_be_used_is_an_error_that_says_why(tmp_path: Path, content: bytes, said: str) -> None:
    keep(tmp_path / "starling.credential", content)
    for source in (ServiceCredentials(tmp_path), mine(tmp_path)):
        with pytest.raises(SecretMissingError, match=said):
            source.find("starling", "credential")


def test_a_directory_or_fifo_in_a_credentials_place_is_an_error_and_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "a.dir").mkdir()
    os.mkfifo(tmp_path / "a.fifo")
    for option in ("dir", "fifo"):
        with pytest.raises(SecretMissingError, match="cannot be read"):
            ServiceCredentials(tmp_path).find("a", option)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_the_administrators_file_is_read_when_it_is_its_owners_alone(tmp_path: Path, mode: int) -> None:
    keep(tmp_path / "starling.credential", mode=mode)
    assert mine(tmp_path).find("starling", "credential") == VALUE


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644, 0o660])
def test_the_administrators_file_with_another_mode_is_an_error(tmp_path: Path, mode: int) -> None:
    keep(tmp_path / "starling.credential", mode=mode)
    with pytest.raises(SecretMissingError, match="chmod 0600"):
        mine(tmp_path).find("starling", "credential")


def test_the_administrators_file_of_somebody_else_is_an_error(tmp_path: Path) -> None:
    keep(tmp_path / "starling.credential")
    with pytest.raises(SecretMissingError, match="chown root"):
        AdministratorFiles(tmp_path, owner=os.getuid() + 1).find("starling", "credential")


def test_the_administrators_file_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(SecretMissingError, match="found nowhere"):
        mine(tmp_path).find("starling", "credential")


@pytest.mark.parametrize("option", ["../../etc/shadow", "a/b", "a\0b", "a\nb"])
def test_no_name_leads_out_of_the_directory(tmp_path: Path, option: str) -> None:
    for source in (ServiceCredentials(tmp_path), mine(tmp_path)):
        with pytest.raises(SecretMissingError, match="cannot be that of a file"):
            source.find("usermapping source=explicit", option)
