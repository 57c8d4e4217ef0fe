"""What doctor says of sshd's effective configuration, with the numbers it found."""

from __future__ import annotations

import grp
import pwd
from pathlib import Path

import pytest

from starlingd.cli.doctor import matches, sshd
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
    [told] = sshd.check(good(maxstartups="8:30:100"), Mode.KEY, TIMES)
    assert "8 logins a minute" in told.reason


def test_exempt_networks_end_the_note_about_penalties() -> None:
    assert found(persourcepenalties="crash:90", persourcepenaltyexemptlist="192.0.2.0/24") == {}


def test_root_who_may_but_cannot_answer_is_told() -> None:
    assert found(times=Times(60, 100, permit_root=True)) == {"sshd.root-prompts": "note"}


def test_a_stock_maxstartups_is_enough_for_pushes_of_a_minute_and_not_for_longer_ones() -> None:
    assert found(maxstartups="10:30:100") == {}
    assert found(maxstartups="10:30:100", times=Times(push=61, deadline=100)) == {"sshd.max-startups": "warning"}


def test_an_sshd_that_does_not_run_is_not_called_misconfigured() -> None:
    stopped = sshd.unseen("Missing privilege separation directory: /run/sshd")
    assert (stopped.id, stopped.severity) == ("sshd.stopped", "warning")
    broken = sshd.unseen("/etc/ssh/sshd_config line 1: no argument after keyword")
    assert (broken.id, broken.severity) == ("sshd.config", "error")
    assert "no argument" in broken.reason


def test_a_match_block_that_was_not_tried_is_a_note() -> None:
    assert list(sshd.check_blocks(())) == []
    [told] = sshd.check_blocks(["Group admins"])
    assert (told.id, told.severity) == ("sshd.match-untried", "note")
    assert "Match Group admins" in told.reason


# Match blocks


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a group with members, one that is somebody's own, and one with nobody."""
    known = [grp.struct_group((name, "x", gid, members)) for name, gid, members in GROUPS]

    def named(name: str) -> grp.struct_group:
        return {entry.gr_name: entry for entry in known}[name]

    carol = pwd.struct_passwd(("carol", "x", 3, 72, "", "/home/carol", "/bin/sh"))
    monkeypatch.setattr(grp, "getgrall", lambda: known)
    monkeypatch.setattr(grp, "getgrnam", named)
    monkeypatch.setattr(pwd, "getpwall", lambda: [carol])


GROUPS = [("ops", 71, ["alice", "bob"]), ("dev team", 72, []), ("nobodys", 73, [])]


def blocks(tmp_path: Path, *lines: str) -> matches.Blocks:
    (tmp_path / "sshd_config").write_text("\n".join(lines) + "\n", encoding="ascii")
    return matches.read(tmp_path / "sshd_config")


def test_every_match_block_yields_a_connection_that_it_is_for(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/a.conf").write_text("Match LocalPort 2222 Address 192.0.2.0/24\n")
    (tmp_path / "sshd_config").write_text("Include more/*.conf\nMatch User alice,!eve,bo*\n PermitTTY no\nMatch all\n")
    found = matches.read(tmp_path / "sshd_config")
    specs = {each.spec for each in found.tried}
    assert "user=alice,addr=127.0.0.1,host=127.0.0.1" in specs
    assert "user=box,addr=127.0.0.1,host=127.0.0.1" in specs
    assert "user=root,addr=192.0.2.0,host=192.0.2.0,lport=2222" in specs
    assert found.untried == ()


def test_included_files_are_found_as_sshd_finds_them(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/a b.conf").write_text("Include last.conf\nMatch User quoted\n")
    (tmp_path / "last.conf").write_text("Match User relative\n")
    found = blocks(tmp_path, 'Include "more/a b.conf" # the rest', 'Include "more/')
    assert {each.spec.partition(",")[0] for each in found.tried} == {"user=quoted", "user=relative"}


@pytest.mark.parametrize(
    ("criteria", "words"),
    [
        ("Address 192.168.1.*", {"addr": "192.168.1.1"}),
        ("Address 10.*", {"addr": "10.1.1.1"}),
        ("Address 10.*.3.*", {"addr": "10.1.3.1"}),
        ("Address 192.0.2.1?", {"addr": "192.0.2.11"}),
        ("Address *,!10.0.0.0/8", {"addr": "1.1.1.1"}),
        ("Address !10.0.0.1,10.0.0.0/8", {"addr": "10.0.0.0"}),
        ("Address 2001:db8:*", {"addr": "2001:db8::1"}),
        ("LocalAddress 192.0.2.*", {"laddr": "192.0.2.1"}),
        ("Host *.example.org", {"host": "x.example.org"}),
        ("RDomain blue", {"rdomain": "blue"}),
        ("user=alice", {"user": "alice"}),
        ("User alice  # she", {"user": "alice"}),
        ("Group ops", {"user": "alice"}),
        ('Group "dev team"', {"user": "carol"}),
        ("Group o*", {"user": "alice"}),
        ("Group !ops,dev*", {"user": "carol"}),
    ],
)
@pytest.mark.usefixtures("groups")
def test_a_connection_has_what_its_block_asks_for(tmp_path: Path, criteria: str, words: dict[str, str]) -> None:
    found = blocks(tmp_path, f"Match {criteria}")
    assert found.untried == ()
    [tried] = found.tried
    assert dict(tried.words).items() >= words.items()


@pytest.mark.parametrize(
    "criteria",
    [
        "Group nobodys",
        "Group CORP\\\\admins",
        "Group x*",
        "User !eve",
        "Address fe80*",
        "Address !10.0.0.0/8",
        "exec /bin/true",
        "Version OpenSSH_10*",
        "invalid-user",
        "User alice Version OpenSSH_10*",
        "User",
        'User "alice',
    ],
)
@pytest.mark.usefixtures("groups")
def test_a_block_that_nobody_is_known_for_is_told(tmp_path: Path, criteria: str) -> None:
    assert blocks(tmp_path, f"Match {criteria}", " PermitTTY no") == matches.Blocks((), (criteria,))


def test_more_blocks_than_are_tried_are_told(tmp_path: Path) -> None:
    found = blocks(tmp_path, *(f"Match User u{number}" for number in range(matches.MOST_TRIED + 2)))
    assert len(found.tried) == matches.MOST_TRIED
    assert found.untried == tuple(f"User u{number}" for number in (matches.MOST_TRIED, matches.MOST_TRIED + 1))
