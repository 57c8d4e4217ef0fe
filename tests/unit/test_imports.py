"""Files of other modules, written with bad intent or by accident: each ends in a sentence, and for nobody else."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from starlingd.cli import imports
from starlingd.core import otp

SECRET = b"12345678901234567890"
BASE32, HEX = otp.secret_text(SECRET), SECRET.hex()
MALLORY, VICTIM = pwd.getpwnam("nobody"), pwd.getpwnam("daemon")
"""Two accounts that every Debian has."""
GOOGLE = f'{BASE32}\n" TOTP_AUTH\n'


def written(folder: Path, text: str, owner: int = 0, mode: int = 0o600) -> Path:
    path = folder / ".google_authenticator"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    os.chown(path, owner, -1)
    return path


def flaws(path: Path, user: str | None = None) -> list[str]:
    return [found.flaw for found in imports.read(path, user)]


@pytest.mark.parametrize("victim", [VICTIM.pw_name, "root", "nobody-here", "a\0b", ""])
@pytest.mark.parametrize("text", [f"otpauth://totp/NAME?secret={BASE32}\n", f"HOTP/T30/6 NAME - {HEX}\n"])
def test_a_file_of_somebody_enrols_an_app_for_nobody_else(tmp_path: Path, text: str, victim: str) -> None:
    path = written(tmp_path, text.replace("NAME", victim), MALLORY.pw_uid)
    assert all(flaws(path)), "the file says whose the app is, and it is not its owner's"


@pytest.mark.parametrize("user", [VICTIM.pw_name, "root"])
@pytest.mark.parametrize(
    "text", [GOOGLE, f"otpauth://totp/{MALLORY.pw_name}?secret={BASE32}\n", f"HOTP/T30/6 {MALLORY.pw_name} - {HEX}\n"]
)
def test_whoever_is_named_gets_no_app_out_of_a_file_of_somebody_else(tmp_path: Path, text: str, user: str) -> None:
    assert all(flaws(written(tmp_path, text, MALLORY.pw_uid), user))


@pytest.mark.parametrize(
    "text", [GOOGLE, f"otpauth://totp/{MALLORY.pw_name}?secret={BASE32}\n", f"HOTP/T30/6 {MALLORY.pw_name} - {HEX}\n"]
)
@pytest.mark.parametrize("user", [None, MALLORY.pw_name])
def test_a_file_of_somebody_speaks_for_its_owner(tmp_path: Path, text: str, user: str | None) -> None:
    [found] = imports.read(written(tmp_path, text, MALLORY.pw_uid), user)
    assert (found.user, found.flaw) == (MALLORY.pw_name, "")


def test_a_file_of_root_speaks_for_all_and_one_app_of_it_for_whoever_is_named(tmp_path: Path) -> None:
    users = written(tmp_path, f"HOTP/T30/6 {VICTIM.pw_name} - {HEX}\nHOTP/T30/6 {MALLORY.pw_name} - {HEX}\n")
    assert flaws(users) == ["", ""]
    assert flaws(users, MALLORY.pw_name) == [f"it is not {MALLORY.pw_name}'s", ""]
    assert flaws(written(tmp_path, GOOGLE)) == ["whose is it? Say so with --user"]
    assert flaws(written(tmp_path, GOOGLE), VICTIM.pw_name) == [""]


@pytest.mark.parametrize("owner", [0, VICTIM.pw_uid])
@pytest.mark.parametrize("mode", [0o660, 0o602])
def test_a_file_that_others_may_write_speaks_for_nobody(tmp_path: Path, owner: int, mode: int) -> None:
    [flaw] = flaws(written(tmp_path, f"HOTP/T30/6 {VICTIM.pw_name} - {HEX}\n", owner, mode))
    assert "others may write it" in flaw


def test_a_file_of_no_account_speaks_for_nobody(tmp_path: Path) -> None:
    [flaw] = flaws(written(tmp_path, GOOGLE, 54321), "nobody")
    assert "uid 54321, which has no account" in flaw


def link(path: Path) -> None:
    target = path.with_name("users.oath")
    target.write_text(f"HOTP/T30/6 root - {HEX}\n", encoding="ascii")
    path.symlink_to(target)


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


@pytest.mark.parametrize(
    ("make", "flaw"),
    [
        (link, "is a link"),
        (os.mkfifo, "no regular file"),
        (Path.mkdir, "no regular file"),
        (bind, "cannot be read"),
        (lambda path: path.write_bytes(b"x" * 2_000_000), "larger than"),
        (lambda path: path.with_name("other").touch(), "No such file"),
    ],
)
def test_what_is_no_file_is_told_and_keeps_nobody_waiting(
    tmp_path: Path, make: Callable[[Path], object], flaw: str
) -> None:
    path = tmp_path / "file"
    make(path)
    [told] = flaws(path)
    assert flaw in told


NINES = "9" * 5000


@pytest.mark.parametrize(
    ("line", "flaw"),
    [
        (f"otpauth://[x?secret={BASE32}", "makes no sense"),
        (f"otpauth://totp/bob?secret={BASE32}&digits=\N{SUPERSCRIPT TWO}", "no number"),
        (f"otpauth://totp/bob?secret={BASE32}&period=\N{SUPERSCRIPT TWO}", "no number"),
        (f"otpauth://totp/bob?secret={BASE32}&digits={NINES}", "no number"),
        ("otpauth://totp/bob?secret=\N{SUPERSCRIPT TWO}", "not base32"),
        (f"otpauth://totp/bob?secret={BASE32}&algorithm=secret", "'secret' is not known"),
        (f"HOTP/T{NINES}/6 bob - {HEX}", "too many"),
        (f"HOTP/T30/{NINES} bob - {HEX}", "too many"),
        ("HOTP/T30/6", "a line has"),
        ("HOTP/T30/6 bob - \N{SUPERSCRIPT TWO}", "not hexadecimal"),
    ],
)
def test_a_line_that_makes_no_sense_leaves_the_others(tmp_path: Path, line: str, flaw: str) -> None:
    good = f"otpauth://totp/bob?secret={BASE32}" if line.startswith("otpauth") else f"HOTP/T30/6 bob - {HEX}"
    first, second = imports.read(written(tmp_path, f"{line}\n{good}\n"))
    assert flaw in first.flaw
    assert second.flaw == ""


@pytest.mark.parametrize(
    "rest", ['" STEP_SIZE\n', f'" STEP_SIZE {NINES}\n', '" STEP_SIZE \N{SUPERSCRIPT TWO}\n', '"\n"']
)
def test_an_option_that_makes_no_sense_is_told(tmp_path: Path, rest: str) -> None:
    [flaw] = flaws(written(tmp_path, GOOGLE + rest), "bob")
    assert flaw == ("its STEP_SIZE is no number" if "STEP" in rest else "")


@pytest.mark.parametrize("text", [GOOGLE, f"otpauth://totp/bob?secret={BASE32}\n", f"HOTP/T30/6 bob - {HEX}\n"])
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path, text: str) -> None:
    assert flaws(written(tmp_path, "\N{ZERO WIDTH NO-BREAK SPACE}" + text), "bob") == [""]


@pytest.mark.parametrize(
    ("skew", "hint"),
    [("0", ""), ("-20", "by 600 seconds"), ("20", "by 600 seconds"), ("x", "by some time"), ("", "by some time")],
)
def test_a_clock_that_google_authenticator_made_up_for_is_told(tmp_path: Path, skew: str, hint: str) -> None:
    [found] = imports.read(written(tmp_path, f'{GOOGLE}" TIME_SKEW {skew}\n'), "bob")
    assert found.flaw == ""
    assert hint in found.hint
    assert bool(found.hint) is bool(hint)
