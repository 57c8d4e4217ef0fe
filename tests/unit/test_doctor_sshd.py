"""What doctor says of sshd's effective configuration, with the numbers it found."""

from __future__ import annotations

from pathlib import Path

import pytest

from starlingd.cli.doctor import facts, sshd
from starlingd.cli.doctor.sshd import Times
from starlingd.cli.pam.sshd import SETTINGS
from starlingd.cli.pam.stack import Mode

TIMES = Times(push=60, deadline=100)
STOCK = {
    "gssapiauthentication": "no",
    "hostbasedauthentication": "no",
    "permitrootlogin": "without-password",
    "logingracetime": "120",
    "maxstartups": "200",
}


def good(mode: Mode = Mode.KEY, **changed: str) -> dict[str, str]:
    return STOCK | {key.lower(): value for key, value in SETTINGS[mode].items()} | changed


def found(mode: Mode = Mode.KEY, times: Times = TIMES, **changed: str) -> dict[str, str]:
    return {each.id: each.severity for each in sshd.check(good(mode, **changed), mode, times)}


@pytest.mark.parametrize("mode", Mode)
def test_nothing_is_said_of_the_recipe(mode: Mode) -> None:
    assert found(mode) == {}


@pytest.mark.parametrize(
    ("key", "value", "finding", "severity"),
    [
        ("usepam", "no", "sshd.use-pam", "error"),
        ("passwordauthentication", "yes", "sshd.password-authentication", "error"),
        ("kbdinteractiveauthentication", "no", "sshd.kbd-interactive", "error"),
        ("authenticationmethods", "any", "sshd.methods-any", "error"),
        ("authenticationmethods", "publickey,password", "sshd.methods-skip", "error"),
        ("authenticationmethods", "publickey,keyboard-interactive:pam publickey", "sshd.methods-skip", "error"),
        ("authenticationmethods", "keyboard-interactive:pam", "sshd.methods-no-key", "error"),
        ("authenticationmethods", "keyboard-interactive,publickey", "sshd.methods-order", "warning"),
        ("gssapiauthentication", "yes", "sshd.gssapi", "warning"),
        ("hostbasedauthentication", "yes", "sshd.hostbased", "warning"),
        ("kerberosauthentication", "yes", "sshd.kerberos", "warning"),
        ("permitrootlogin", "yes", "sshd.root", "warning"),
        ("logingracetime", "60", "sshd.grace-time", "error"),
        ("logingracetime", "79", "sshd.grace-time", "warning"),
        ("logingracetime", "90", "sshd.grace-time-deadline", "note"),
        ("logingracetime", "0", "sshd.grace-time-none", "note"),
        ("maxstartups", "5:30:100", "sshd.max-startups", "warning"),
        ("maxstartups", "10:30:100", "sshd.max-startups", "note"),
        ("persourcepenalties", "crash:90 authfail:5", "sshd.penalties", "note"),
    ],
)
def test_each_fault_has_a_name_and_a_severity(key: str, value: str, finding: str, severity: str) -> None:
    assert found(**{key: value}) == {finding: severity}


def test_gssapi_among_the_methods_is_an_error() -> None:
    methods = "publickey,keyboard-interactive:pam gssapi-with-mic,keyboard-interactive:pam"
    assert found(gssapiauthentication="yes", authenticationmethods=methods)["sshd.gssapi"] == "error"


def test_in_key_push_mode_nobody_is_to_be_asked() -> None:
    assert found(Mode.KEY_PUSH, kbdinteractiveauthentication="yes") == {"sshd.kbd-interactive": "warning"}


def test_a_password_alone_is_no_second_factor() -> None:
    assert found(Mode.PASSWORD, authenticationmethods="password") == {"sshd.methods-skip": "error"}


def test_the_numbers_are_told() -> None:
    [told] = sshd.check(good(logingracetime="70"), Mode.KEY, TIMES)
    assert "70 s" in told.reason
    assert "60 s" in told.reason
    [told] = sshd.check(good(maxstartups="10:30:100"), Mode.KEY, TIMES)
    assert "10 logins a minute" in told.reason


def test_exempt_networks_end_the_note_about_penalties() -> None:
    assert found(persourcepenalties="crash:90", persourcepenaltyexemptlist="192.0.2.0/24") == {}


def test_root_who_may_but_cannot_answer_is_told() -> None:
    assert found(times=Times(60, 100, permit_root=True)) == {"sshd.root-prompts": "note"}


def test_every_match_block_yields_a_connection_that_it_is_for(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/a.conf").write_text("Match LocalPort 2222 Address 192.0.2.0/24\n")
    (tmp_path / "sshd_config").write_text("Include more/*.conf\nMatch User alice,!eve,bo*\n PermitTTY no\nMatch all\n")
    specs = {each.spec for each in facts.match_blocks(tmp_path / "sshd_config")}
    assert "user=alice,addr=127.0.0.1,host=127.0.0.1" in specs
    assert "user=box,addr=127.0.0.1,host=127.0.0.1" in specs
    assert "user=root,addr=192.0.2.0,host=192.0.2.0,lport=2222" in specs
