"""The file: refused when it is no text, or when its mode gives away, or lets change, what it holds."""

import os
from pathlib import Path

import pytest

from starlingd import config
from starlingd.config import ConfigError, KnownSecrets

CLEAR = "[starling]\ncredential = id:s3cret\n"
KEPT = "[starling]\ncredential = $\n"
SECRETS = KnownSecrets({"starling.credential": "id:kept"})


def conf(directory: Path, content: str | bytes, mode: int = 0o640) -> Path:
    path = directory / "starling.conf"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        config.read(path, SECRETS)
    (problem,) = refused.value.problems
    return str(problem)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_a_file_with_a_secret_is_read_when_others_cannot(tmp_path: Path, mode: int) -> None:
    assert config.read(conf(tmp_path, CLEAR, mode), SECRETS).starling.client_id == "id"


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o620])
def test_a_file_with_a_secret_that_others_read_or_the_group_writes_is_refused(tmp_path: Path, mode: int) -> None:
    assert "chmod 0640" in refusal(conf(tmp_path, CLEAR, mode))


@pytest.mark.parametrize(
    "text",
    ["[https-proxy]\nserver = a\nusername = b\nPassword = c\n", "[https_proxy]\nserver=a\nusername=b\npassword = $$\n"],
)
def test_every_secret_counts_under_every_spelling(tmp_path: Path, text: str) -> None:
    assert "chmod 0640" in refusal(conf(tmp_path, KEPT + text, 0o644))


def test_a_file_whose_secrets_are_kept_elsewhere_may_be_read_by_everybody(tmp_path: Path) -> None:
    assert config.read(conf(tmp_path, KEPT, 0o644), SECRETS).starling.client_secret.reveal() == "kept"


def test_a_file_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    assert "written by everybody" in refusal(conf(tmp_path, KEPT, 0o646))


def test_the_mode_is_reported_together_with_all_else(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        config.read(conf(tmp_path, CLEAR + "timeut = 1\n", 0o644), SECRETS)
    assert len(refused.value.problems) == 2


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    assert refusal(conf(tmp_path, b"[auth]\n\nprompt = \xe9\n")).startswith("line 3: ")


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    assert config.read(conf(tmp_path, b"\xef\xbb\xbf" + CLEAR.encode()), SECRETS).starling.client_id == "id"


def test_a_file_that_cannot_be_read_is_a_problem_and_not_an_outage(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (
        tmp_path / "absent",
        tmp_path,
        tmp_path / "fifo",
        Path("/dev/zero"),
        tmp_path / "nul\0",
        Path("/" + "x" * 300),
    ):
        assert "cannot be read" in refusal(path)
    assert "more than" in refusal(conf(tmp_path, "#" * (1024 * 1024 + 1)))


def test_a_real_ca_file_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    assert "ca_file: holds no certificate" in refusal(conf(tmp_path, f"{CLEAR}ca_file = {tmp_path}/ca.pem\n"))
    assert "ca_file: cannot be read" in refusal(conf(tmp_path, f"{CLEAR}ca_file = {tmp_path}/none.pem\n"))


def test_checking_gives_the_same_answers_without_settings(tmp_path: Path) -> None:
    path = conf(tmp_path, KEPT + "[auth]\ndisable_echo = yes\n")
    assert config.check_file(path, SECRETS) == config.check_file(path, None) == config.read(path, SECRETS).warnings
    with pytest.raises(ConfigError, match="no secret is known"):
        config.check_file(path, KnownSecrets({}))
