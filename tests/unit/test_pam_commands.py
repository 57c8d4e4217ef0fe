"""starlingctl pam, as it is typed: one at a time, what it keeps and what it says of it, what it refuses to write."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from starlingd.cli.main import main
from starlingd.cli.pam import access, change, checks, commands, confirming, sshd
from starlingd.cli.pam.stack import Mode, Unfit
from starlingd.cli.pam.undo import contents, hidden
from starlingd.core.model import Process
from tests.unit.pam_host import COMMON, STOCK, Host, make_host

CHAIN = [Process(40, 10**12)]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Offer a host that starlingctl works on, as root."""
    made = make_host(tmp_path)
    monkeypatch.setattr(commands, "Places", lambda: made.places)
    monkeypatch.setattr(commands, "run", made.run)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return made


def pam(*words: str) -> Result:
    return CliRunner().invoke(main, ["pam", *words])


def come_in(monkeypatch: pytest.MonkeyPatch, service: str, factor: str = "push") -> None:
    """Be in a session that came in through a service."""
    session = {"pid": 40, "start": 10**12, "since": 10**12, "service": service, "factor": factor}
    monkeypatch.setattr(commands, "try_to_ask", lambda *_: [session])
    monkeypatch.setattr(confirming, "ancestors", lambda: CHAIN)


def states(host: Host) -> list[str]:
    return [str(change.report(host.undo(service))["state"]) for service in ("sshd", "login")]


# --- one at a time ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [("enable", "sshd", "--mode", "key", "--yes"), ("confirm",), ("disable", "sshd")],
    ids=lambda words: words[0],
)
def test_while_another_one_holds_the_lock_nothing_is_done(host: Host, words: tuple[str, ...]) -> None:
    host.enable()
    before = host.look()
    with host.places.lock.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = pam(*words)
    assert (done.exit_code, host.look()) == (1, before)
    assert "another starlingctl pam is running" in done.output


def test_the_lock_is_a_file_that_nobody_else_may_open(host: Host) -> None:
    pam("confirm")
    status = host.places.lock.lstat()
    assert stat.S_ISREG(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_uid == host.root.stat().st_uid


def test_a_lock_on_the_folder_of_pam_which_anybody_may_take_stops_nobody(host: Host) -> None:
    host.enable().disarm()
    folder = os.open(host.places.pam("sshd").parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        assert pam("disable", "sshd").exit_code == 0
    finally:
        os.close(folder)


def test_a_link_in_the_place_of_the_lock_is_not_followed(host: Host) -> None:
    host.places.lock.symlink_to(host.root / "elsewhere")
    assert pam("confirm").exit_code == 1
    assert not (host.root / "elsewhere").exists()


# --- confirmed ----------------------------------------------------------------------------------------------------


def test_a_session_at_the_console_confirms_login_while_sshd_goes_on_waiting(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.enable()
    host.enable("login")
    come_in(monkeypatch, "login")
    done = pam("confirm")
    assert done.exit_code == 0
    assert states(host) == ["pending", "on"]
    assert "login stays as it is now" in done.output
    assert "sshd is not confirmed: this session came in through login" in done.output


def test_a_session_that_proves_nothing_confirms_nothing_and_is_told_why_for_each(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.enable()
    host.enable("login")
    come_in(monkeypatch, "login", "none")
    done = pam("confirm")
    assert done.exit_code == 1
    assert states(host) == ["pending", "pending"]
    assert "sshd is not confirmed" in done.output
    assert "login is not confirmed: this session came in without a fresh second factor" in done.output


def test_a_service_that_is_named_is_the_only_one(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.enable()
    host.enable("login")
    come_in(monkeypatch, "login")
    assert pam("confirm", "sshd").exit_code == 1
    assert states(host) == ["pending", "pending"]


# --- disabled with what others changed ----------------------------------------------------------------------------


def test_what_others_changed_is_shown_and_what_becomes_of_it_is_said(host: Host) -> None:
    host.enable().disarm()
    for path, line in ((host.places.pam("sshd"), b"auth required x.so\n"), (host.places.snippet, b"MaxAuthTries 2\n")):
        path.write_bytes((contents(path) or b"") + line)
    refused = pam("disable", "sshd")
    assert refused.exit_code == 1
    assert "+MaxAuthTries 2" in refused.output
    said = pam("disable", "sshd", "--keep-changes").output
    kept = host.places.undo / "sshd.kept-sshd"
    assert b"MaxAuthTries 2" in (contents(kept) or b"")
    assert f"{host.places.snippet} is taken away with it; as it was until now it is kept as {kept}" in said
    assert f"{host.places.pam('sshd')} keeps it, without our lines" in said
    assert contents(host.places.pam("sshd")) == STOCK + b"auth required x.so\n"


def test_where_there_is_no_space_what_could_not_be_kept_is_said_not_to_be(host: Host) -> None:
    host.enable().disarm()
    for path in (host.places.pam("sshd"), host.places.snippet):
        path.write_bytes((contents(path) or b"") + b"# somebody's\n")
    snippet = contents(host.places.snippet)
    host.replace_tool("cp", ': > "$3"; exit 1')
    host.replace_tool("mv", 'case "$3" in */sshd.replaced-*) : > "$3"; exit 1 ;; esac; exec /bin/mv "$@"')
    said = pam("disable", "sshd", "--keep-changes").output
    assert f"{host.places.pam('sshd')} keeps it, without our lines; as it was until now it is not kept" in said
    kept = hidden(host.places.snippet, "kept")
    assert f"is kept as {kept}" in said
    assert contents(kept) == snippet
    assert not list(host.places.undo.iterdir())
    host.enable().disarm()
    assert pam("disable", "sshd").exit_code == 0
    assert contents(kept) == snippet


def test_what_was_said_to_be_kept_outlives_the_next_change_and_the_next_that_is_kept(host: Host) -> None:
    for line in (b"MaxAuthTries 1\n", b"MaxAuthTries 2\n"):
        host.enable().disarm()
        host.places.snippet.write_bytes(line)
        assert pam("disable", "sshd", "--keep-changes").exit_code == 0
    host.enable()
    host.restore()
    host.enable()
    kept = {path.name: contents(path) for path in host.places.undo.glob("sshd.kept-sshd*")}
    assert kept == {"sshd.kept-sshd": b"MaxAuthTries 1\n", "sshd.kept-sshd.2": b"MaxAuthTries 2\n"}


# --- killed -------------------------------------------------------------------------------------------------------


def test_status_says_of_a_change_that_was_not_completed_how_to_be_rid_of_it(host: Host) -> None:
    state = change.new_state("sshd", Mode.KEY, None, 600)
    host.undo().keep(state, change.plan("sshd", Mode.KEY, None, host.places))
    said = pam("status").output
    assert "unfinished" in said
    assert "starlingctl pam disable sshd" in said
    assert "put back" not in said
    assert pam("disable", "sshd").exit_code == 0
    assert states(host)[0] == "off"


# --- refused before anything changes ------------------------------------------------------------------------------

HOLES = {
    "sufficient in an include before ours": ("auth sufficient pam_x.so\n", COMMON, Mode.KEY, "can pass over our line"),
    "sufficient in common-auth": ("", "auth sufficient pam_unix.so\n", Mode.PASSWORD, "can pass over our line"),
    "a wrong password goes on": ("", "auth required pam_unix.so\n", Mode.PASSWORD, "after a wrong password"),
    "no password at all": ("", "auth required pam_env.so\n", Mode.PASSWORD, "nothing before it asks for a password"),
}


@pytest.mark.parametrize(("pre", "common", "mode", "words"), HOLES.values(), ids=HOLES)
def test_a_stack_in_which_doctor_would_find_an_error_is_not_written(
    host: Host, pre: str, common: str, mode: Mode, words: str
) -> None:
    host.places.pam("sshd").write_bytes(b"@include pre\n" + STOCK)
    host.places.pam("pre").write_text(pre, encoding="ascii")
    host.places.pam("common-auth").write_text(common, encoding="ascii")
    with pytest.raises(Unfit, match=words):
        change.plan("sshd", mode, None, host.places)


def test_an_error_that_is_there_without_ours_stops_nobody(host: Host) -> None:
    host.places.pam("sudo").write_text("auth required pam_python.so /opt/other.py\n", encoding="ascii")
    assert change.plan("sshd", Mode.PASSWORD, None, host.places)


def test_enable_asks_whether_a_way_in_is_left_and_whether_the_daemon_asks(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    for module, names in (
        (checks, ["way_in_besides_login", "way_in_besides_sshd", "daemon_answers", "daemon_asks", "module_answers"]),
        (sshd, ["effective", "overruled"]),
    ):
        for name in names:
            monkeypatch.setattr(module, name, lambda *_, name=name: asked.append(name))
    monkeypatch.setattr(access, "losses", lambda _: [])
    monkeypatch.setattr(access, "unlisted", lambda: ["sss"])
    for service, mode in (("sshd", "key"), ("login", "password")):
        done = pam("enable", service, "--mode", mode, "--yes")
        assert done.exit_code == 0, done.output
        assert "may not list accounts from sss" in done.output
        assert {f"way_in_besides_{service}", "daemon_asks"} <= set(asked)
    assert states(host) == ["pending", "pending"]
