"""Another way in while the daemon is down: shown to exist, for who has a shell and what is asked for, or refused."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from starlingd.cli.pam import access, checks
from starlingd.cli.pam.places import Places
from starlingd.cli.pam.stack import MODULE, Mode, Unfit, with_ours
from starlingd.core.model import Process

OURS = f"account requisite {MODULE}\n"
STOCK = "@include common-auth\n@include common-account\n"
COMMON = "auth [success=1 default=ignore] pam_unix.so\nauth requisite pam_deny.so\nauth required pam_permit.so\n"
ROOT = {"permitrootlogin": "yes"}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Offer a host whose sshd and login do not use the module."""
    (tmp_path / "etc/pam.d").mkdir(parents=True)
    places = Places(tmp_path)
    for service, text in (("sshd", STOCK), ("login", STOCK), ("common-auth", COMMON)):
        places.pam(service).write_text(text, encoding="ascii")
    return places


@pytest.fixture
def helpers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[str]:
    """Put root, alice, and git, which has no shell, into the group helpers; return who of them has a password."""
    able: set[str] = set()
    accounts = [("root", 0, "/bin/sh"), ("alice", 1000, "/bin/sh"), ("git", 1001, "/usr/sbin/nologin")]
    entries = [pwd.struct_passwd((name, "x", uid, 1, "", str(tmp_path / name), shell)) for name, uid, shell in accounts]
    monkeypatch.setattr(pwd, "getpwall", lambda: entries)
    monkeypatch.setattr(checks, "members", lambda _: frozenset({"alice", "root", "git"}))
    for module in (access, checks):
        monkeypatch.setattr(module, "has_password", lambda user: user in able)
    return able


def give_key(home: Path, options: str = "") -> None:
    (home / ".ssh").mkdir(parents=True, exist_ok=True)
    (home / ".ssh/authorized_keys").write_text(f"{options}ssh-ed25519 AAAA me\n", encoding="ascii")


# --- for login ----------------------------------------------------------------------------------------------------


def test_without_another_way_in_login_is_refused(places: Places) -> None:
    with pytest.raises(Unfit, match="no other way in"):
        checks.way_in_besides_login(None, [], {}, places)


def test_an_emergency_group_counts_only_with_a_member_who_has_a_password(places: Places, helpers: set[str]) -> None:
    with pytest.raises(Unfit, match="no other way in"):
        checks.way_in_besides_login("helpers", [], {}, places)
    helpers.add("alice")
    assert checks.way_in_besides_login("helpers", [], {}, places) == "alice of helpers, by password at the console"


def test_a_member_whose_shell_lets_nobody_in_does_not_count(places: Places, helpers: set[str]) -> None:
    helpers.add("git")
    with pytest.raises(Unfit, match="no other way in"):
        checks.way_in_besides_login("helpers", [], {}, places)


@pytest.mark.parametrize("file", ["sshd", "common-auth"])
def test_coming_in_through_sshd_counts_only_while_sshd_does_not_use_the_module(
    places: Places, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.setattr(checks, "_is_sshd", lambda _: True)
    chain = [Process(2, 3)]
    assert "sshd, through which" in checks.way_in_besides_login(None, chain, {}, places)
    places.pam(file).write_text(OURS, encoding="ascii")
    with pytest.raises(Unfit):
        checks.way_in_besides_login(None, chain, {}, places)


def test_the_emergency_group_of_sshd_counts_with_what_sshd_asks_for(
    places: Places, helpers: set[str], tmp_path: Path
) -> None:
    give_key(tmp_path / "alice")
    places.pam("sshd").write_text(with_ours(STOCK, Mode.KEY, "helpers"), encoding="ascii")
    assert "alice, by key" in checks.way_in_besides_login(None, [], ROOT, places)
    places.pam("sshd").write_text(with_ours(STOCK, Mode.PASSWORD, "helpers"), encoding="ascii")
    with pytest.raises(Unfit, match="no other way in"):
        checks.way_in_besides_login(None, [], ROOT, places)
    helpers.add("alice")
    assert "alice, by password through sshd" in checks.way_in_besides_login(None, [], ROOT, places)


# --- for sshd -----------------------------------------------------------------------------------------------------


def test_sshd_needs_no_other_way_in_while_login_does_not_ask(places: Places) -> None:
    assert checks.way_in_besides_sshd(None, Mode.KEY, {}, places) is None


@pytest.mark.usefixtures("helpers")
def test_sshd_is_refused_where_it_is_the_way_in_that_was_left_for_login(places: Places, tmp_path: Path) -> None:
    give_key(tmp_path / "alice")
    places.pam("login").write_text(with_ours(STOCK, Mode.PASSWORD), encoding="ascii")
    with pytest.raises(Unfit, match="login asks for the second factor too"):
        checks.way_in_besides_sshd(None, Mode.KEY, {}, places)
    assert "alice, by key" in (checks.way_in_besides_sshd("helpers", Mode.KEY, {"permitrootlogin": "no"}, places) or "")
    with pytest.raises(Unfit, match="login asks for the second factor too"):
        checks.way_in_besides_sshd("helpers", Mode.PASSWORD, {}, places)


@pytest.mark.usefixtures("helpers")
def test_a_key_for_a_program_and_a_root_whom_sshd_refuses_do_not_count(places: Places, tmp_path: Path) -> None:
    places.pam("login").write_text(OURS, encoding="ascii")
    give_key(tmp_path / "alice", 'command="rsync" ')
    give_key(tmp_path / "root")
    with pytest.raises(Unfit, match="login asks for the second factor too"):
        checks.way_in_besides_sshd("helpers", Mode.KEY, {"permitrootlogin": "without-password"}, places)
    assert "root, by key" in (checks.way_in_besides_sshd("helpers", Mode.KEY, ROOT, places) or "")


def test_the_emergency_group_of_login_is_a_way_in_that_sshd_does_not_take_away(
    places: Places, helpers: set[str]
) -> None:
    places.pam("login").write_text(with_ours(STOCK, Mode.PASSWORD, "helpers"), encoding="ascii")
    helpers.add("alice")
    assert "at the console" in (checks.way_in_besides_sshd(None, Mode.KEY, {}, places) or "")
