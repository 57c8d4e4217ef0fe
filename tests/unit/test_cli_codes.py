"""starlingctl totp, recovery and code against a daemon, and the files of other modules that totp import reads."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from starlingd.adapters.vault import Vault, new_key
from starlingd.cli import imports
from starlingd.cli.main import main
from starlingd.core import otp
from starlingd.core.localcodes import slow_hash
from starlingd.core.rules import Provider, Rules
from starlingd.server.localcodes import TooMany
from tests.daemon_under_test import Bastion, Whole
from tests.unit.controlling import ask, controlled, starlingctl

SECRET = b"12345678901234567890"
BASE32 = otp.secret_text(SECRET)


def alone(directory: Path, test: Callable[[Bastion, Whole], Awaitable[None]]) -> None:
    """Run a test with a daemon that is its own provider."""

    async def run(bastion: Bastion, whole: Whole) -> None:
        assert bastion.host.current
        bastion.host.current = replace(bastion.host.current, vault=Vault(new_key()))
        await test(bastion, whole)

    controlled(directory, run, Rules(provider=Provider.TOTP))


def now_of(secret: str) -> str:
    return otp.hotp(otp.secret_of(secret), int(time.time() // 30))


def test_an_app_is_enrolled_by_typing_its_code_and_not_before(tmp_path: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        offer = (await ask(whole, "totp begin", user="ALICE"))["result"]
        assert offer["user"] == "alice"
        assert offer["uri"].startswith("otpauth://totp/alice")
        assert bastion.store.token("alice") is None
        wrong = await ask(whole, "totp confirm", user="alice", secret=offer["secret"], code="000000x")
        assert "not the code" in wrong["error"]
        right = {"user": "alice", "secret": offer["secret"], "code": now_of(offer["secret"])}
        assert (await ask(whole, "totp confirm", **right))["result"] == {"user": "alice"}
        assert "has an app already" in (await ask(whole, "totp begin", user="alice"))["error"]
        assert "has an app already" in (await ask(whole, "totp confirm", **right))["error"]
        assert "result" in await ask(whole, "totp begin", user="alice", replace=True)
        [event] = bastion.events("enrolment")
        assert (event["STARLING_USER"], event["STARLING_BY"], event["WARNING"]) == ("alice", "root (uid 0)", "True")
        assert offer["secret"] not in json.dumps(bastion.log.events)

    alone(tmp_path, test)


def test_enrol_shows_a_qr_code_the_uri_and_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(_: Bastion, whole: Whole) -> None:
        monkeypatch.setattr("starlingd.server.localcodes.secrets.token_bytes", lambda size: SECRET[:size])
        result = await starlingctl_with(whole, now_of(BASE32) + "\n", "totp", "enrol", "alice")
        assert result.exit_code == 0, result.output
        assert f"otpauth://totp/alice@bastion?secret={BASE32}" in result.output
        assert "Secret: GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ" in result.output
        assert "\N{FULL BLOCK}" * 37 in result.output
        assert "alice logs in with this app from now on" in result.output
        listed = await starlingctl(whole, "totp", "list")
        assert "sha1, 6 digits, 30 s" in listed.output
        [told] = json.loads((await starlingctl(whole, "totp", "list", "--json")).output)
        assert abs(told["used"] - time.time()) < 60
        assert "secret" not in told
        assert (await starlingctl(whole, "totp", "remove", "alice")).exit_code == 0
        again = await starlingctl(whole, "totp", "remove", "alice")
        assert (again.exit_code, "has no app" in again.output) == (1, True)

    monkeypatch.setattr("socket.getfqdn", lambda: "bastion.example.org")
    alone(tmp_path, test)


def test_a_mistyped_code_is_asked_for_again_and_the_secret_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(_: Bastion, whole: Whole) -> None:
        monkeypatch.setattr("starlingd.server.localcodes.secrets.token_bytes", lambda size: SECRET[:size])
        spent = await starlingctl_with(whole, "000000x\n" * 4, "totp", "enrol", "alice")
        assert (spent.exit_code, spent.output.count("that is not the code")) == (1, 3)
        assert spent.output.count("Secret:") == 1
        result = await starlingctl_with(whole, f"000000x\n1\n{now_of(BASE32)}\n", "totp", "enrol", "alice")
        assert (result.exit_code, result.output.count("that is not the code")) == (0, 2)
        assert "alice logs in with this app from now on" in result.output

    alone(tmp_path, test)


async def starlingctl_with(whole: Whole, typed: str, *arguments: str) -> Result:
    """Run starlingctl with something on its standard input."""
    command = ["--socket", str(whole.control), *arguments]
    return await asyncio.to_thread(CliRunner().invoke, main, command, input=typed)


def test_recovery_codes_are_shown_once(tmp_path: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        made = await starlingctl(whole, "recovery", "make", "alice")
        codes = [line.replace(" ", "") for line in made.output.splitlines()[:10]]
        assert all(len(code) == 10 and code.isdigit() for code in codes)
        left = await starlingctl(whole, "recovery", "show", "alice")
        assert left.output == "alice has 10 recovery codes left\n"
        assert not any(code in json.dumps(bastion.log.events) for code in codes)
        unknown = await starlingctl(whole, "recovery", "make", "nobody-here")
        assert unknown.exit_code == 1

    alone(tmp_path, test)


def test_recovery_codes_are_forgotten(tmp_path: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        await starlingctl(whole, "recovery", "make", "alice")
        removed = await starlingctl(whole, "recovery", "remove", "alice")
        assert (removed.exit_code, removed.output) == (0, "the recovery codes of alice are forgotten\n")
        assert bastion.store.recovery("alice") is None
        again = await starlingctl(whole, "recovery", "remove", "alice")
        assert (again.exit_code, "has no recovery codes" in again.output) == (1, True)

    alone(tmp_path, test)


def test_a_helpdesk_code_is_taken_back(tmp_path: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        await starlingctl(whole, "code", "issue", "alice")
        revoked = await starlingctl(whole, "code", "revoke", "alice")
        assert (revoked.exit_code, revoked.output) == (0, "the helpdesk code of alice is void\n")
        assert bastion.store.helpdesk_code("alice") is None
        again = await starlingctl(whole, "code", "revoke", "alice")
        assert (again.exit_code, "has no helpdesk code" in again.output) == (1, True)

    alone(tmp_path, test)


def test_one_issuer_issues_fifty_codes_in_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bastion: Bastion, _: Whole) -> None:
        monkeypatch.setattr("starlingd.server.localcodes.slow_hash", lambda code, salt: code.encode() + salt)
        local, moment = bastion.host.local, bastion.host.moment()
        for number in range(50):
            await local.issue(f"user{number}", "hanna (uid 1007)", 900.0, moment)
        with pytest.raises(TooMany, match="50 codes were issued by hanna"):
            await local.issue("alice", "hanna (uid 1007)", 900.0, moment)
        assert await local.issue("bob", "olga (uid 1008)", 900.0, moment)

    alone(tmp_path, test)


def test_the_hash_of_codes_is_slow() -> None:
    """RFC 7914, 12: scrypt with N = 16384, r = 8, p = 1; the first half of its vector."""
    vector = "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
    assert slow_hash("pleaseletmein", b"SodiumChloride").hex() == vector


def test_a_code_is_issued_audited_and_rate_limited(tmp_path: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        for number in range(5):
            issued = await starlingctl(whole, "code", "issue", "alice", "--valid", "2h", "--json")
            told = json.loads(issued.output)
            assert (len(told["code"]), told["valid"]) == (12, 7200)
            event = bastion.events("code_issued")[number]
            assert event["STARLING_BY"] == "root (uid 0)"
            assert told["code"] not in json.dumps(bastion.log.events)
        spent = await starlingctl(whole, "code", "issue", "alice")
        assert (spent.exit_code, "5 codes were issued for alice" in spent.output) == (1, True)
        for valid in ("0", "25h", "soon"):
            assert (await starlingctl(whole, "code", "issue", "root", "--valid", valid)).exit_code == 2
        for odd in (True, "5", None, float("inf"), 1e9):
            assert "error" in await ask(whole, "code issue", user="root", valid=odd)

    alone(tmp_path, test)


def test_without_a_key_no_app_is_enrolled(tmp_path: Path) -> None:
    async def test(_: Bastion, whole: Whole) -> None:
        for command in ("totp begin", "totp confirm", "totp add", "totp reseal"):
            assert "make-key" in (await ask(whole, command, user="alice"))["error"]

    controlled(tmp_path, test)


def test_a_new_first_key_seals_everything_anew(tmp_path: Path) -> None:
    async def test(bastion: Bastion, whole: Whole) -> None:
        old, new = new_key(), new_key()
        assert bastion.host.current
        vaults = [Vault(old), Vault(f"{new} {old}"), Vault(new)]
        bastion.host.current = replace(bastion.host.current, vault=vaults[0])
        await ask(whole, "totp add", user="alice", secret=BASE32, digits=6, step=30)
        bastion.host.current = replace(bastion.host.current, vault=vaults[1])
        assert (await ask(whole, "totp reseal"))["result"] == {"count": 1}
        token = bastion.store.token("alice")
        assert token is not None
        assert vaults[2].open("alice", token.box) == SECRET

    alone(tmp_path, test)


# Import

GOOGLE = f'{BASE32}\n" RATE_LIMIT 3 30\n" WINDOW_SIZE 3\n" DISALLOW_REUSE\n" TOTP_AUTH\n12345678\n87654321\n'
HEX = SECRET.hex()


def read(tmp_path: Path, text: str, user: str | None = "alice") -> list[imports.Found]:
    path = tmp_path / "file"
    path.write_text(text, encoding="utf-8")
    return imports.read(path, user)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (GOOGLE, imports.Found(1, "alice", BASE32)),
        (GOOGLE + '" STEP_SIZE 60\n', imports.Found(1, "alice", BASE32, step=60)),
        (f"# users\nHOTP/T30/6 bob - {HEX}\n", imports.Found(2, "bob", BASE32)),
        (
            f"HOTP/T60/8\tbob\t+\t{HEX}\t0\t123456\t2026-01-01T00:00:00L\n",
            imports.Found(1, "bob", BASE32, digits=8, step=60),
        ),
        (f"HOTP/T30 bob - {HEX}\n", imports.Found(1, "bob", BASE32)),
        (
            f"otpauth://totp/Example:bob@host?secret={BASE32.lower()}&issuer=Example&algorithm=SHA256&digits=8&period=60",
            imports.Found(1, "alice", BASE32.lower(), "sha256", 8, 60),
        ),
    ],
)
def test_the_files_of_other_modules_are_read(tmp_path: Path, text: str, found: imports.Found) -> None:
    assert read(tmp_path, text, found.user) == [found]


def test_a_uri_says_whose_it_is(tmp_path: Path) -> None:
    [found] = read(tmp_path, f"otpauth://totp/Example%3Abob%40host?secret={BASE32}\n", None)
    assert (found.user, found.flaw) == ("bob", "")


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("", "none of the files"),
        ("hello world\n", "none of the files"),
        (f'{BASE32}\n" HOTP_COUNTER 1\n', "follow a counter"),
        (f'{BASE32}\n" TOTP_AUTH\n" STEP_SIZE 45\n', "a step of 45 seconds"),
        (f'{BASE32}\n" TOTP_AUTH\n" STEP_SIZE x\n', "no number"),
        ('GEZDGNBV\n" TOTP_AUTH\n', "shorter than 10 bytes"),
        (f"HOTP bob - {HEX}\n", "follow a counter"),
        (f"HOTP/E/6 bob - {HEX}\n", "follow a counter"),
        (f"HOTP/T30/6 bob 1234 {HEX}\n", "has a PIN"),
        ("HOTP/T30/6 bob - xyz\n", "not hexadecimal"),
        ("HOTP/T30/6 bob\n", "a line has"),
        (f"HOTP/T30/7 bob - {HEX}\n", "codes of 7 digits"),
        (f"otpauth://hotp/bob?secret={BASE32}&counter=1\n", "follow a counter"),
        ("otpauth://totp/bob?secret=1!\n", "not base32"),
        ("otpauth://totp/bob\n", "shorter than 10 bytes"),
        (f"otpauth://totp/bob?secret={BASE32}&algorithm=md5\n", "'md5' is not known"),
        (f"otpauth://totp/bob?secret={BASE32}&digits=x\n", "no number"),
        ("otpauth:\nnonsense\n", "is no otpauth URI"),
        ("x" * 2_000_000, "larger than"),
    ],
)
def test_what_cannot_be_taken_over_says_why_and_shows_no_secret(tmp_path: Path, text: str, flaw: str) -> None:
    found = read(tmp_path, text)[-1]
    assert flaw in found.flaw
    assert BASE32 not in repr(found)


@pytest.mark.parametrize("text", [f"hunter2-{BASE32}\notpauth://totp/bob?secret={BASE32}\n", f"HOTP/T30/6 {BASE32}\n"])
def test_what_may_be_a_secret_in_the_wrong_place_is_told_as_nobodys_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text, encoding="ascii")
    first = imports.read(tmp_path / "file")[0]
    assert (first.user, bool(first.flaw)) == ("", True)
    assert BASE32 not in repr(first)


def test_import_reports_each_app_and_is_tried_first(tmp_path: Path) -> None:
    path = tmp_path / "users.oath"
    path.write_text(f"HOTP/T30/6 alice - {HEX}\nHOTP/T30/6 nobody-here - {HEX}\nHOTP bob - {HEX}\n", encoding="ascii")

    async def test(bastion: Bastion, whole: Whole) -> None:
        tried = await starlingctl(whole, "totp", "import", path, "--dry-run", "--json")
        assert [each["outcome"] for each in json.loads(tried.output)] == [
            "would be imported",
            "would be imported",
            "its codes follow a counter, not the time",
        ]
        assert not bastion.store.tokens()
        done = await starlingctl(whole, "totp", "import", path, "--json")
        assert done.exit_code == 1
        assert [each["outcome"] for each in json.loads(done.output)] == [
            "imported",
            "there is no account 'nobody-here'",
            "its codes follow a counter, not the time",
        ]
        again = await starlingctl(whole, "totp", "import", path)
        assert "has an app already" in again.output
        assert HEX not in again.output

    alone(tmp_path, test)


def test_import_tells_a_clock_that_is_off_and_every_flaw_beside_it(tmp_path: Path) -> None:
    good, bad, none = tmp_path / "good", tmp_path / "bad", tmp_path / "none"
    good.write_text(f'{GOOGLE}" TIME_SKEW -20\n', encoding="ascii")
    bad.write_text("otpauth://[x\n", encoding="ascii")

    async def test(bastion: Bastion, whole: Whole) -> None:
        files = (tmp_path, none, bad, good, "--user", "alice")
        done = await starlingctl(whole, "totp", "import", *files, "--json")
        assert done.exit_code == 1
        told = json.loads(done.output)
        assert [each["outcome"] for each in told] == [
            "it is no regular file",
            "it cannot be read: No such file or directory",
            "the line makes no sense",
            "imported",
        ]
        assert "off by 600 seconds" in told[-1]["hint"]
        assert bastion.store.token("alice") is not None
        tried = await starlingctl(whole, "totp", "import", good, "--user", "alice", "--dry-run")
        assert "would be imported, but its clock was off by 600 seconds" in " ".join(tried.output.split())
        assert tried.exit_code == 1

    alone(tmp_path, test)
