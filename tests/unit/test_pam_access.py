"""Who would lose access, and what is refused before anything changes: from what the host and the daemon say."""

from __future__ import annotations

import json
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from starlingd.cli.daemon import NoAnswer
from starlingd.cli.main import main
from starlingd.cli.pam import access, checks, sshd
from starlingd.cli.pam.access import Loss, Scene
from starlingd.cli.pam.commands import Duration
from starlingd.cli.pam.places import Done, Places
from starlingd.cli.pam.stack import Mode, Unfit

SECOND_FACTOR = {"outcome": "second_factor", "reason": None, "rule": "", "steps": []}
SHADOW = "{name}:{hashed}:20000:0:99999:7:::\n"


def person(name: str, uid: int, home: Path, shell: str = "/bin/sh") -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, 100, "", str(home), shell))


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Have the daemon explain each user as a test says; ask everybody else for a second factor."""
    said: dict[str, dict[str, Any]] = {}

    def explain(_: str, **request: str) -> dict[str, Any]:
        return {**SECOND_FACTOR, **said.get(request["user"], {})}

    monkeypatch.setattr(access, "try_to_ask", explain)
    return said


@pytest.fixture
def people(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Have the host know these people, each with a home below ``tmp_path``."""

    def know(**uids: int) -> None:
        entries = [person(name, uid, tmp_path / name) for name, uid in uids.items()]
        monkeypatch.setattr(pwd, "getpwall", lambda: entries)

    return know


def give_key(home: Path, line: str = "ssh-ed25519 AAAA me") -> None:
    (home / ".ssh").mkdir(parents=True, exist_ok=True)
    (home / ".ssh/authorized_keys").write_text(f"# mine\n{line}\n", encoding="ascii")


def scene(mode: Mode = Mode.KEY, **settings: str) -> Scene:
    return Scene("sshd", mode, None, {"permitrootlogin": "yes"} | settings)


def test_whom_the_daemon_refuses_is_named_with_the_rule(
    answers: dict[str, dict[str, Any]], people: Callable[..., None], tmp_path: Path
) -> None:
    people(root=0, alice=1000)
    for name in ("root", "alice"):
        give_key(tmp_path / name)
    answers["root"] = {"outcome": "deny", "reason": "root_not_permitted", "rule": "auth.permit_root"}
    assert access.losses(scene()) == [Loss("root", "would be refused: root_not_permitted (auth.permit_root)")]


def test_who_is_neither_mapped_nor_exempt_is_named(
    answers: dict[str, dict[str, Any]], people: Callable[..., None], tmp_path: Path
) -> None:
    people(bob=1000)
    give_key(tmp_path / "bob")
    answers["bob"] = {"steps": [{"step": "warning", "result": "no digits", "rule": ""}]}
    assert access.losses(scene()) == [Loss("bob", "is neither exempt nor mapped to anybody: no digits")]


@pytest.mark.usefixtures("answers")
def test_who_has_no_key_is_named_where_a_key_is_needed(people: Callable[..., None]) -> None:
    people(bob=1000)
    for mode in (Mode.KEY, Mode.KEY_PUSH):
        assert access.losses(scene(mode)) == [Loss("bob", "has no authorized key")]
    assert access.losses(scene(authorizedkeyscommand="/usr/bin/keys")) == []


@pytest.mark.usefixtures("answers")
@pytest.mark.parametrize("options", ['command="rsync --server"', "no-pty", 'from="10.0.0.1",restrict'])
def test_keys_for_programs_only_are_named_where_a_prompt_must_be_answered(
    people: Callable[..., None], tmp_path: Path, options: str
) -> None:
    people(backup=1000)
    give_key(tmp_path / "backup", f"{options} ssh-ed25519 AAAA me")
    [loss] = access.losses(scene())
    assert "cannot answer a prompt" in loss.why
    assert access.losses(scene(Mode.KEY_PUSH)) == []


@pytest.mark.usefixtures("answers")
def test_root_is_named_where_sshd_lets_it_answer_no_prompt(people: Callable[..., None], tmp_path: Path) -> None:
    people(root=0)
    give_key(tmp_path / "root")
    [loss] = access.losses(scene(permitrootlogin="without-password"))
    assert "PermitRootLogin without-password" in loss.why
    assert access.losses(scene(permitrootlogin="no")) == []


@pytest.mark.usefixtures("answers")
def test_who_has_no_password_is_named_in_password_mode(
    people: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    people(bob=1000, ldap=2000)
    monkeypatch.setattr(access, "has_password", lambda user: False if user == "bob" else None)
    assert access.losses(scene(Mode.PASSWORD)) == [Loss("bob", "has no Unix password")]


@pytest.mark.parametrize(
    ("hashed", "has_one"),
    [
        ("$6$salt$hash", True),
        ("$y$j9T$salt$hash", True),
        ("_J9..saltsalthash", True),
        ("abJnggxhB/yWI", True),
        ("!$6$salt$hash", False),
        ("!!$6$salt$hash", False),
        ("*$y$j9T$salt$hash", False),
        ("!", False),
        ("*", False),
        ("!*", False),
        ("", False),
        ("x", False),
    ],
)
def test_a_password_is_one_that_can_be_typed_and_is_not_locked(tmp_path: Path, hashed: str, *, has_one: bool) -> None:
    shadow = tmp_path / "shadow"
    rows = [SHADOW.format(name="bobby", hashed="$6$other$one"), SHADOW.format(name="bob", hashed=hashed)]
    shadow.write_text("".join(rows), encoding="ascii")
    assert access.has_password("bob", shadow) is has_one
    assert access.has_password("alice", shadow) is None


@pytest.mark.usefixtures("answers")
def test_an_account_of_the_system_is_named_where_it_has_a_shell_and_a_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entries = [
        person("git", 997, tmp_path / "git"),
        person("postgres", 998, tmp_path / "postgres"),
        person("daemon", 1, tmp_path / "git", "/usr/sbin/nologin"),
        person("nobody", 65534, tmp_path / "git"),
    ]
    monkeypatch.setattr(pwd, "getpwall", lambda: entries)
    give_key(tmp_path / "git", 'command="git-shell" ssh-ed25519 AAAA me')
    [loss] = access.losses(scene())
    assert (loss.who, "cannot answer a prompt" in loss.why) == ("git", True)


@pytest.mark.usefixtures("answers")
def test_an_account_of_the_system_is_named_where_it_comes_in_by_password(
    people: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    people(scanner=999, git=998)
    monkeypatch.setattr(access, "has_password", lambda user: user == "scanner")
    assert access.losses(scene()) == [Loss("scanner", "has no authorized key")]
    assert [entry.pw_name for entry in access.programs(Scene("login", Mode.PASSWORD, None, {}))] == ["scanner"]


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("passwd: files systemd\ngroup: files sss\n", []),
        ("passwd:\t files\t systemd sss # all\n", ["sss"]),
        ("passwd: files [NOTFOUND=return] ldap [SUCCESS=merge UNAVAIL=return] winbind\n", ["ldap", "winbind"]),
        ("# passwd: sss\n", []),
        (None, []),
    ],
)
def test_sources_that_may_not_list_their_accounts_are_told(
    tmp_path: Path, text: str | None, sources: list[str]
) -> None:
    file = tmp_path / "nsswitch.conf"
    if text is not None:
        file.write_text(text, encoding="ascii")
    assert access.unlisted(file) == sources


@pytest.mark.usefixtures("answers")
def test_authorized_keys_that_are_no_file_are_none(people: Callable[..., None], tmp_path: Path) -> None:
    people(bob=1000)
    (tmp_path / "bob/.ssh/authorized_keys").mkdir(parents=True)
    assert access.losses(scene()) == [Loss("bob", "has no authorized key")]


def test_a_daemon_that_cannot_say_is_no_reason_to_think_all_is_well(
    people: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(bob=1000)
    give_key(tmp_path / "bob")

    def no_answer(*_: object, **__: object) -> None:
        raise NoAnswer("directory: down", 1)

    monkeypatch.setattr(access, "try_to_ask", no_answer)
    assert access.losses(scene()) == [Loss("bob", "the daemon cannot say: directory: down")]


@pytest.mark.usefixtures("answers")
def test_people_who_were_not_looked_at_are_counted(
    people: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    people(a=1000, b=1001, c=1002)
    monkeypatch.setattr(access, "MOST_PEOPLE", 1)
    assert access.losses(scene())[-1] == Loss("others", "2 more accounts were not looked at")


# --- what is true before anything changes -------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Offer a host with a folder for PAM services."""
    (tmp_path / "etc/pam.d").mkdir(parents=True)
    return Places(tmp_path)


@pytest.mark.parametrize("mode", [Mode.KEY, Mode.KEY_PUSH])
def test_at_the_console_only_password_mode_makes_sense(mode: Mode) -> None:
    with pytest.raises(Unfit, match="--mode password"):
        checks.fits("login", mode)


def test_while_the_daemon_only_observes_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "try_to_ask", lambda _: {"observe_until": 0.0})
    checks.daemon_asks()
    monkeypatch.setattr(checks, "try_to_ask", lambda _: {"observe_until": 2_000_000_000.0})
    with pytest.raises(Unfit, match="enforce = yes"):
        checks.daemon_asks()


# --- the module in a service of its own ---------------------------------------------------------------------------


def probing(result: str, reason: str, status: int = 0) -> Callable[..., Done]:
    def run(*command: str) -> Done:
        if command[0] == checks.JOURNALCTL:
            return Done(0, json.dumps({"STARLING_REASON": reason}))
        return Done(status, result)

    return run


def test_a_module_that_has_the_daemon_refuse_a_nobody_is_fine_and_leaves_nothing(places: Places) -> None:
    checks.module_answers(places, probing("result 6", "unknown_user"))
    assert not places.pam(checks.PROBE_SERVICE).exists()


@pytest.mark.parametrize(
    ("result", "reason", "status", "words"),
    [
        ("result 0", "unknown_user", 0, "let .* in"),
        ("result 6", "misconfigured", 0, "misconfigured"),
        ("", "unknown_user", -11, "does not run"),
        ("pam_start: no", "unknown_user", 100, "does not run"),
    ],
)
def test_any_other_module_is_not(places: Places, result: str, reason: str, status: int, words: str) -> None:
    with pytest.raises(Unfit, match=words):
        checks.module_answers(places, probing(result, reason, status))
    assert not places.pam(checks.PROBE_SERVICE).exists()


# --- sshd's side, and the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", Mode)
def test_the_snippet_says_what_the_recipe_says(mode: Mode) -> None:
    recipe = Path(__file__).resolve().parents[2] / f"etc/recipes/{mode.value}.sshd.conf"
    expected = [line for line in recipe.read_text(encoding="ascii").splitlines() if not line.startswith("#")]
    assert [line for line in sshd.snippet(mode).splitlines() if not line.startswith("#")] == expected


def test_a_setting_that_something_else_overrules_is_named() -> None:
    found = {key.lower(): value for key, value in sshd.SETTINGS[Mode.KEY].items()}
    assert sshd.overruled(Mode.KEY, found) == []
    found["passwordauthentication"] = "yes"
    assert sshd.overruled(Mode.KEY, found) == ["PasswordAuthentication would be yes, not no"]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600), ("30", 30)])
def test_a_time_is_seconds_minutes_or_hours(text: str, seconds: int) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "0", "4s", "25h", "-1m", "1d", "1 m", "ten", "\u0661\u0660m"])
def test_what_is_no_time_within_reason_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError):
        Duration().convert(text, None, None)


@pytest.mark.parametrize("arguments", [["enable", "sshd"], ["enable", "su", "--mode", "key"], ["disable"]])
def test_wrong_usage_is_told_apart(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, ["pam", *arguments]).exit_code == 2
