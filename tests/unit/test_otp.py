"""HOTP and TOTP: the vectors of both RFCs, oathtool's word, and that a code is good once."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starlingd.adapters.qr import draw
from starlingd.core.model import Check
from starlingd.core.otp import LONGEST_URI, MOST_DRIFT, Algorithm, Token, check, hotp, uri

SECRET = b"12345678901234567890"
NOW = 1_700_000_010.0
TOKEN = Token("alice", b"")


RFC_4226 = "755224 287082 359152 969429 338314 254676 287922 162583 399871 520489"


def test_rfc_4226_appendix_d() -> None:
    assert " ".join(hotp(SECRET, counter) for counter in range(10)) == RFC_4226


SECRETS = {
    Algorithm.SHA1: SECRET,
    Algorithm.SHA256: b"12345678901234567890123456789012",
    Algorithm.SHA512: b"1234567890123456789012345678901234567890123456789012345678901234",
}
RFC_6238 = [
    (59, "94287082", "46119246", "90693936"),
    (1111111109, "07081804", "68084774", "25091201"),
    (1111111111, "14050471", "67062674", "99943326"),
    (1234567890, "89005924", "91819424", "93441116"),
    (2000000000, "69279037", "90698825", "38618901"),
    (20000000000, "65353130", "77737706", "47863826"),
]


@pytest.mark.parametrize(("at", "sha1", "sha256", "sha512"), RFC_6238)
def test_rfc_6238_appendix_b(at: int, sha1: str, sha256: str, sha512: str) -> None:
    for algorithm, code in zip(Algorithm, (sha1, sha256, sha512), strict=True):
        assert hotp(SECRETS[algorithm], at // 30, algorithm, 8) == code
        token = replace(TOKEN, algorithm=algorithm, digits=8)
        assert check(token, SECRETS[algorithm], code, float(at), 0)[0] is Check.RIGHT


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("step", [30, 60])
@pytest.mark.parametrize("digits", [6, 8])
def test_what_oathtool_makes_is_taken(algorithm: Algorithm, step: int, digits: int) -> None:
    command = ["oathtool", f"--totp={algorithm}", f"--digits={digits}", f"--time-step-size={step}s"]
    made = subprocess.run([*command, f"--now=@{NOW:.0f}", SECRET.hex()], capture_output=True, text=True, check=True)
    token = replace(TOKEN, algorithm=algorithm, step=step, digits=digits)
    assert check(token, SECRET, made.stdout.strip(), NOW, 0)[0] is Check.RIGHT


def code_at(seconds: float) -> str:
    return hotp(SECRET, int(seconds // 30))


def test_a_code_is_good_once_and_so_are_all_before_it() -> None:
    first, after = check(TOKEN, SECRET, code_at(NOW), NOW, 1)
    assert first is Check.RIGHT
    assert check(after, SECRET, code_at(NOW), NOW, 1) == (Check.REUSED, after)
    assert check(after, SECRET, code_at(NOW - 30), NOW, 1) == (Check.REUSED, after)
    assert check(after, SECRET, code_at(NOW + 30), NOW, 1)[0] is Check.RIGHT


@pytest.mark.parametrize(
    ("seconds", "window", "found"),
    [(-60, 1, Check.WRONG), (-30, 1, Check.RIGHT), (30, 1, Check.RIGHT), (60, 1, Check.WRONG), (30, 0, Check.WRONG)],
)
def test_the_window_is_so_many_steps_to_either_side(seconds: int, window: int, found: Check) -> None:
    assert check(TOKEN, SECRET, code_at(NOW + seconds), NOW, window)[0] is found


def test_a_clock_that_wanders_is_followed_and_no_further_than_it_may() -> None:
    token, now = TOKEN, NOW
    for steps in range(1, MOST_DRIFT + 1):
        now += 3600
        found, token = check(token, SECRET, code_at(now + 30 * steps), now, 1)
        assert (found, token.drift) == (Check.RIGHT, steps)
    now += 3600
    found, token = check(token, SECRET, code_at(now + 30 * (MOST_DRIFT + 1)), now, 1)
    assert (found, token.drift) == (Check.RIGHT, MOST_DRIFT)
    assert check(token, SECRET, code_at(now + 3600 + 30 * (MOST_DRIFT + 2)), now + 3600, 1)[0] is Check.WRONG


def test_a_clock_that_was_put_right_is_found_again_and_so_is_who_types_a_code_late() -> None:
    wandered = replace(TOKEN, drift=3)
    found, token = check(wandered, SECRET, code_at(NOW), NOW, 1)
    assert (found, token.drift) == (Check.RIGHT, 0)
    late = replace(TOKEN, drift=-2)
    assert check(late, SECRET, code_at(NOW), NOW, 1)[0] is Check.RIGHT
    assert check(late, SECRET, code_at(NOW + 60), NOW, 1)[0] is Check.WRONG


@pytest.mark.parametrize(("user", "host"), [("alice", "bastion"), ("a" * 32, "b" * 63), ("ünïcödé" * 4, "b")])
@pytest.mark.parametrize("step", [30, 60])
def test_the_picture_of_the_default_kind_of_app_fits_nineteen_rows_with_a_quiet_zone_of_two(
    user: str, host: str, step: int
) -> None:
    said = uri(replace(TOKEN, user=user, step=step), SECRET, host)
    assert len(said) <= LONGEST_URI
    assert "issuer" not in said
    rows = draw(said).split("\n")
    assert len(rows) <= 19
    assert {len(row) for row in rows} == {37}
    # A finder pattern begins right after the quiet zone: two columns, one row of half-blocks.
    assert rows[0] == "█" * 37
    assert all(row[:2] == row[-2:] == "██" for row in rows[1:-1])
    assert rows[1].startswith("██ ▄▄▄▄▄ █")


@given(st.text(max_size=12), st.integers(0, 3))
def test_nothing_but_the_code_is_taken(text: str, window: int) -> None:
    right = {hotp(SECRET, int(NOW // 30) + step) for step in range(-window, window + 1)}
    found, after = check(TOKEN, SECRET, text, NOW, window)
    assert (found is Check.RIGHT) == (text in right)
    assert (after == TOKEN) == (found is not Check.RIGHT)


def test_a_clock_at_the_epoch_breaks_nothing() -> None:
    assert check(TOKEN, SECRET, hotp(SECRET, 0), 0.0, 3)[0] is Check.RIGHT
    assert check(TOKEN, SECRET, "000000", -1e9, 3) == (Check.WRONG, TOKEN)
