"""starlingctl backup and restore, and the key's own commands: what would lose an app is refused before it happens."""

from __future__ import annotations

import errno
import os
import pwd
import re
import signal
import stat
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from starlingd import config
from starlingd.adapters import sqlite
from starlingd.adapters.sqlite import SqliteStore
from starlingd.adapters.sqlite.backup import Saved, copy_of, seal, unseal
from starlingd.adapters.vault import Vault, new_key
from starlingd.cli import backup, codes, keeping, vaultkey
from starlingd.cli.daemon import NoAnswer
from starlingd.cli.keeping import Keeper
from starlingd.cli.main import main
from starlingd.cli.pam.places import Done
from starlingd.core.otp import Over, Token

NAME, PASSPHRASE = "totp.key", "correct horse battery staple"
SECRET = b"12345678901234567890"
KEY = ("totp", "key")
OURS, OTHER = new_key(), new_key()
SHIPPED = "[auth]\nprovider = totp\n[totp]\n# What seals them.\n#key = $\n"
WANTED = SHIPPED.replace("#key", "key")


@dataclass
class Host:
    """A host with a state, a configuration, and a systemd that only remembers what it was told."""

    root: Path
    told: list[tuple[str, ...]] = field(default_factory=list)
    failing: str = ""
    seen: list[bytes] = field(default_factory=list)
    """The state file, at each call of systemctl."""

    @property
    def state(self) -> Path:
        """Tell the state file."""
        return self.root / "state.db"

    @property
    def keeper(self) -> Keeper:
        """Tell where its secrets are kept."""
        return Keeper(self.root)

    def key(self) -> str:
        """Tell the key that is kept."""
        path = self.keeper.plain(NAME)
        return path.read_text(encoding="ascii").strip() if path.exists() else ""

    def systemctl(self, *command: str) -> Done:
        """Stand in for systemctl."""
        self.told.append(command[1:])
        self.seen.append(self.state.read_bytes() if self.state.exists() else b"")
        return Done(1, "it will not") if command[1] == self.failing else Done(0, "")

    def enrol(self, user: str, key: str) -> None:
        """Give somebody an app."""
        store = SqliteStore(self.state)
        assert store.save_token(Token(user, Vault(key).seal(user, SECRET)), Over.ANY)
        store.close()

    def run(self, *arguments: object, typed: str = f"{PASSPHRASE}\n") -> Result:
        """Run starlingctl."""
        return CliRunner().invoke(main, list(map(str, arguments)), input=typed)

    def backup(self) -> Result:
        """Make a backup."""
        return self.run("backup", "--passphrase-file", "-", self.root / "saved")

    def restore(self, *options: str) -> Result:
        """Put it back."""
        return self.run("restore", "--yes", "--passphrase-file", "-", *options, self.root / "saved")

    def save(self, key: str, state: bytes | None = None) -> None:
        """Make a backup that holds this key, of the state as it is."""
        saved = Saved(copy_of(self.state) if state is None else state, key, 1.0)
        (self.root / "saved").write_bytes(seal(saved, PASSPHRASE))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Offer a host whose key is kept, with an app of alice that it opens."""
    made = Host(tmp_path)
    made.keeper.plain(NAME).parent.mkdir(parents=True, mode=0o700)
    made.keeper.keep_plain(NAME, OURS)
    made.enrol("alice", OURS)
    (tmp_path / "starling.conf").write_text(WANTED, encoding="ascii")
    monkeypatch.setattr(config, "FILE", tmp_path / "starling.conf")
    for module in (backup, codes):
        monkeypatch.setattr(module, "Keeper", lambda: made.keeper)
    for module in (backup, vaultkey):
        monkeypatch.setattr(module, "run", made.systemctl)
    monkeypatch.setattr(backup, "STATE", made.state)
    monkeypatch.setattr(vaultkey, "HANDED", tmp_path / "handed")
    monkeypatch.setattr(keeping, "CREDS", "/nonexistent/systemd-creds")
    monkeypatch.setattr(sqlite.backup, "COST", 2**10)
    return made


def configure(host: Host, text: str) -> None:
    (host.root / "starling.conf").write_text(text, encoding="ascii")


# Backup


def test_a_backup_holds_the_key_that_opens_its_state(host: Host) -> None:
    result = host.backup()
    assert (result.exit_code, "saved in" in result.output) == (0, True), result.output
    assert unseal((host.root / "saved").read_bytes(), PASSPHRASE).key == OURS


def test_a_key_that_the_configuration_or_the_unit_has_is_the_one(host: Host) -> None:
    configure(host, WANTED.replace("$", OTHER))
    host.enrol("alice", OTHER)
    assert host.backup().exit_code == 0
    assert unseal((host.root / "saved").read_bytes(), PASSPHRASE).key == OTHER
    (host.root / "saved").unlink()
    configure(host, WANTED)
    host.keeper.plain(NAME).unlink()
    (host.root / "handed").mkdir()
    (host.root / "handed" / NAME).write_text(f"{OTHER}\n", encoding="ascii")
    assert host.backup().exit_code == 0
    assert unseal((host.root / "saved").read_bytes(), PASSPHRASE).key == OTHER


@pytest.mark.parametrize(
    ("key", "why"),
    [(OTHER, "alice does not open: a secret was sealed with a key that"), ("x", "not 32 bytes"), ("", "found nowhere")],
)
def test_a_backup_that_would_open_no_app_is_not_made(host: Host, key: str, why: str) -> None:
    if key:
        host.keeper.keep_plain(NAME, key)
    else:
        host.keeper.plain(NAME).unlink()
    result = host.backup()
    assert result.exit_code == 1
    assert why in result.output
    assert not (host.root / "saved").exists()


def test_without_any_app_there_need_be_no_key(host: Host) -> None:
    host.keeper.plain(NAME).unlink()
    store = SqliteStore(host.state)
    store.forget_token("alice")
    store.close()
    result = host.backup()
    assert (result.exit_code, "neither a key nor an app" in result.output) == (0, True)


def test_a_backup_that_cannot_be_written_leaves_none(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = host.backup()
    assert (result.exit_code, "No space left" in result.output) == (1, True)
    assert not (host.root / "saved").exists()


# Restore

STOP = ("stop", "starlingd.socket", "starlingd-control.socket", "starlingd.service")
START = ("start", "starlingd.socket", "starlingd-control.socket")
RESTART = ("restart", "starlingd.service")


def test_while_a_state_is_put_back_no_login_starts_the_daemon(host: Host) -> None:
    host.save(OURS)
    before = host.state.read_bytes()
    host.enrol("bob", OURS)
    old = host.state.read_bytes()
    result = host.restore()
    assert result.exit_code == 0, result.output
    assert host.told == [STOP, ("daemon-reload",), START, RESTART]
    assert host.seen[0] == old, "it was put back before the daemon was stopped"
    assert host.seen[1:] == [host.state.read_bytes()] * 3, "the sockets were open before it was put back"
    assert before
    assert f"the state from before is {host.state}.before-restore" in result.output
    store = SqliteStore(host.state)
    assert [token.user for token in store.tokens()] == ["alice"]
    store.close()


def test_a_lost_connection_ends_no_restore_half_way(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.save(OURS)
    lost: list[int] = []

    def hang_up(*command: str) -> Done:
        for number in backup.ENDINGS:
            os.kill(os.getpid(), number)
        return host.systemctl(*command) if command[1] == "stop" else Done(0, "")

    monkeypatch.setattr(backup, "run", hang_up)
    before = {number: signal.signal(number, lambda got, _: lost.append(got)) for number in backup.ENDINGS}
    try:
        result = host.restore()
        assert (result.exit_code, host.told) == (0, [STOP]), result.output
        assert sorted(lost) == sorted(backup.ENDINGS), "they count again once the sockets are up: at the restart"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_the_sockets_come_back_whatever_happens(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.save(OTHER, without_apps(host))

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    before = host.state.read_bytes()
    with monkeypatch.context() as patch:
        for place in ("keep_plain", "keep_encrypted"):
            patch.setattr(Keeper, place, full)
        result = host.restore()
        assert (result.exit_code, "No space left" in result.output) == (1, True)
        assert host.told == [], "nothing is stopped before the key is kept"
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", full)
        result = host.restore()
        assert (result.exit_code, "No space left" in result.output) == (1, True)
    assert host.told == [STOP, ("daemon-reload",), START]
    assert host.state.read_bytes() == before
    host.failing = "stop"
    assert "does not stop: it will not" in host.restore().output
    assert host.told[-1] == START


def without_apps(host: Host) -> bytes:
    path = host.root / "empty.db"
    store = SqliteStore(path)
    store.tokens()
    store.close()
    return copy_of(path)


def test_what_is_wrong_with_a_backup_is_told_before_anything_is_stopped(host: Host) -> None:
    good = copy_of(host.state)
    for key, state, why in (
        (OURS, b"nonsense" * 1000, "cannot be used"),
        ("x", good, "not 32 bytes"),
        ("x", without_apps(host), "not 32 bytes"),
    ):
        host.save(key, state)
        result = host.restore()
        assert (result.exit_code, why in result.output) == (1, True), result.output
    host.save(OURS)
    wrong = host.run("restore", "--yes", "--passphrase-file", "-", host.root / "saved", typed="another one\n")
    assert (wrong.exit_code, "passphrase is wrong" in wrong.output) == (1, True)
    host.keeper.keep_plain(NAME, OTHER)
    host.save("")
    assert "alice does not open" in host.restore().output
    assert host.told == []
    assert host.key() == OTHER


def test_the_key_from_before_stays_behind_that_of_the_backup(host: Host) -> None:
    host.save(OURS)
    host.keeper.keep_plain(NAME, OTHER)
    host.enrol("alice", OTHER)
    result = host.restore()
    assert result.exit_code == 0, result.output
    assert host.key() == f"{OURS} {OTHER}"
    assert "the key from before is kept behind the backup's" in result.output
    store, vault = SqliteStore(Path(f"{host.state}.before-restore")), Vault(host.key())
    [token] = store.tokens()
    store.close()
    assert vault.open("alice", token.box) == SECRET
    host.save(OURS)
    host.restore()
    assert host.key() == f"{OURS} {OTHER}", "it does not grow"


def test_a_host_that_lost_everything_gets_state_key_and_a_line_of_the_configuration(host: Host) -> None:
    host.save(OURS)
    host.state.unlink()
    host.keeper.plain(NAME).unlink()
    configure(host, SHIPPED)
    result = host.restore()
    assert (result.exit_code, "there was no state before" in result.output) == (0, True), result.output
    assert host.key() == OURS
    assert config.FILE.read_text(encoding="ascii") == WANTED
    configure(host, "[auth]\nprovider = totp\n")
    host.keeper.plain(NAME).unlink()
    assert 'write "key = $" below [totp]' in host.restore().output


def test_a_terminal_that_is_gone_keeps_nothing_from_being_put_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.save(OTHER, without_apps(host))
    before, echo = host.state.read_bytes(), click.echo

    def deaf(message: str, *, err: bool = False) -> None:
        if OTHER in host.key():
            raise OSError(errno.EIO, "Input/output error")
        echo(message, err=err)

    monkeypatch.setattr(click, "echo", deaf)
    host.restore()
    assert host.told == [STOP, ("daemon-reload",), START, RESTART]
    assert host.state.read_bytes() != before


def test_on_a_host_where_the_daemon_never_ran_its_folder_is_made(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.save(OURS)
    state = host.root / "var" / "state.db"
    monkeypatch.setattr(backup, "STATE", state)
    monkeypatch.setattr(backup, "OWNER", "no-such-user")
    refused = host.restore()
    assert (refused.exit_code, "is the package installed?" in refused.output) == (1, True), refused.output
    monkeypatch.setattr(backup, "OWNER", "nobody")
    result = host.restore()
    assert result.exit_code == 0, result.output
    owner = pwd.getpwnam("nobody").pw_uid
    for path, mode in ((state.parent, 0o700), (state, 0o600)):
        assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (owner, mode)


def test_a_key_that_would_not_be_used_is_not_put_back(host: Host) -> None:
    host.save(OURS)
    configure(host, WANTED.replace("$", OTHER))
    result = host.restore()
    assert (result.exit_code, "goes before any that is kept; write key = $" in result.output) == (1, True), (
        result.output
    )
    configure(host, WANTED.replace("$", OURS))
    assert host.restore().exit_code == 0, "it opens everything as it is"
    configure(host, WANTED)
    host.keeper.plain(NAME).unlink()
    (host.root / "handed").mkdir()
    (host.root / "handed" / NAME).write_text(OTHER, encoding="ascii")
    assert "only with --plain" in host.restore().output
    assert host.restore("--plain").exit_code == 0
    assert host.key() == f"{OURS} {OTHER}"


def test_a_key_that_cannot_be_read_is_not_overwritten(host: Host) -> None:
    host.save(OURS)
    host.keeper.plain(NAME).chmod(0o644)
    for result in (host.restore(), host.run("backup", "--passphrase-file", "-", host.root / "other")):
        assert (result.exit_code, "the key that is there cannot be read" in result.output) == (1, True)
    host.keeper.keep_plain(NAME, "half a key")
    assert "the key that is there is none, and is not overwritten" in host.restore().output
    assert (host.told, host.key()) == ([], "half a key")


# The key


def test_the_first_key_is_kept_and_taken_into_use(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vaultkey, "try_to_ask", lambda _: [])
    host.keeper.plain(NAME).unlink()
    configure(host, SHIPPED)
    result = host.run("totp", "make-key", "--plain")
    assert result.exit_code == 0, result.output
    assert Vault(host.key())
    assert config.FILE.read_text(encoding="ascii") == WANTED
    assert f"{config.FILE}: [totp] key = $" in result.output
    assert "whoever loses this key loses every app: starlingctl backup saves both" in result.output
    again = host.run("totp", "make-key", "--plain")
    assert (again.exit_code, "there is a key already" in again.output) == (1, True)


@pytest.mark.parametrize("text", [WANTED, "[totp]\n#key = $\n[other]\n#key = $\nkey = $\n"])
def test_a_configuration_that_is_not_as_the_package_brings_it_stays(
    host: Host, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(vaultkey, "try_to_ask", lambda _: [])
    host.keeper.plain(NAME).unlink()
    configure(host, text)
    result = host.run("totp", "make-key", "--plain")
    assert result.exit_code == 0
    assert config.FILE.read_text(encoding="ascii") == text
    assert ('write "key = $" below [totp]' in result.output) is (text != WANTED)


ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "page", ["README.md", "etc/starling.conf", "docs/starlingctl.8.scd", "docs/starling.conf.5.scd"]
)
def test_every_page_says_what_a_lost_key_means_before_it_is_lost(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8").replace("\n#", " ").replace("*", "")
    text = " ".join(text.split())
    assert re.search(r"Whoever loses (it|the key) loses every app", text)
    assert "starlingctl backup saves both" in text.replace("`", "") or "make a backup once it is made" in text


def test_a_configuration_without_its_key_leads_nobody_with_apps_straight_to_another_one() -> None:
    with pytest.raises(config.ConfigError) as refused:
        config.load("[auth]\nprovider = totp\n", config.KnownSecrets({}))
    [message] = [problem.message for problem in refused.value.problems if (problem.section, problem.key) == KEY]
    assert "make-key" in message
    assert "with their old key alone, which starlingctl restore puts back" in message


def test_where_apps_open_with_a_lost_key_another_is_made_only_anew(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vaultkey, "try_to_ask", lambda _: [{"user": "alice"}])
    host.keeper.plain(NAME).unlink()
    refused = host.run("totp", "make-key", "--plain")
    assert refused.exit_code == 1
    for part in ("(1)", "the key that is lost and no other", "starlingctl restore", "--anew", "totp enrol --replace"):
        assert part in refused.output
    assert host.key() == ""
    assert host.run("totp", "make-key", "--plain", "--anew").exit_code == 0
    assert Vault(host.key())


def test_where_nobody_knows_of_apps_no_key_is_made_but_anew(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_: str) -> None:
        raise NoAnswer("the daemon does not answer", 3)

    monkeypatch.setattr(vaultkey, "try_to_ask", silent)
    host.keeper.plain(NAME).unlink()
    refused = host.run("totp", "make-key", "--plain")
    assert (refused.exit_code, "the daemon does not answer; --anew" in refused.output) == (1, True)
    assert host.key() == ""


@pytest.mark.parametrize("command", [("totp", "make-key", "--anew"), ("totp", "rotate-key")])
def test_a_key_that_lies_elsewhere_is_neither_made_nor_rotated(host: Host, command: tuple[str, ...]) -> None:
    host.keeper.plain(NAME).unlink()
    configure(host, WANTED.replace("$", OURS))
    refused = host.run(*command, "--plain")
    assert refused.exit_code == 1
    assert "key already" in refused.output or "written in the configuration itself" in refused.output
    assert (host.key(), host.told) == ("", [])


def test_whenever_a_rotation_is_interrupted_what_is_kept_opens_everything(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = list[list[str]]()

    def reseal(_: str) -> dict[str, int]:
        kept.append(host.key().split())
        return {"count": 1}

    monkeypatch.setattr(vaultkey, "ask", reseal)
    result = host.run("totp", "rotate-key", "--plain")
    assert result.exit_code == 0, result.output
    [[new, old]] = kept
    assert (old, host.key()) == (OURS, new)
    assert host.told == [("daemon-reload",), RESTART] * 2
