"""Backups: what comes out is what went in, from a state in use, with the right passphrase and nothing else."""

from __future__ import annotations

import hashlib
import itertools
import os
import sqlite3
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from starlingd.adapters.sqlite import SqliteStore, backup
from starlingd.adapters.sqlite.backup import MAGIC, Saved, Unusable, apps_in, copy_of, prepared, seal, unseal
from starlingd.adapters.sqlite.schema import MIGRATIONS
from starlingd.core.otp import Over, Token

PASSPHRASE = "correct horse battery staple"
TOKEN = Token("alice", b"a sealed secret", made=5.0)
COST = backup.COST
MALFORMED = "not made as this version makes them"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "COST", 2**10)


def filled(path: Path) -> SqliteStore:
    store = SqliteStore(path)
    assert store.save_token(TOKEN, Over.NO_APP)
    return store


def put_back(saved: Saved, state: Path) -> Path | None:
    with prepared(saved, state) as put_in_its_place:
        return put_in_its_place()


def test_a_passphrase_is_as_dear_to_guess_as_it_is_said_to_be() -> None:
    assert COST * backup.BLOCK * 128 == 128 * 1024**2


def test_a_state_in_use_comes_back_whole(tmp_path: Path) -> None:
    filled(tmp_path / "state.db").close()
    done = threading.Event()

    def write() -> None:
        store, number = SqliteStore(tmp_path / "state.db"), 0
        while not done.is_set():
            number += 1
            store.save_token(replace(TOKEN, user=f"user{number}"), Over.ANY)
        store.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copies = [copy_of(tmp_path / "state.db") for _ in range(10)]
    finally:
        done.set()
        writer.join()
    other = tmp_path / "other"
    other.mkdir()
    for copy in copies:
        put_back(Saved(copy, "key"), other / "state.db")
        restored = SqliteStore(other / "state.db")
        assert restored.token("alice") == TOKEN
        restored.close()


def test_it_opens_with_its_passphrase_only_and_shows_nothing(tmp_path: Path) -> None:
    filled(tmp_path / "state.db").close()
    saved = Saved(copy_of(tmp_path / "state.db"), "the-key", 7.5)
    sealed = seal(saved, PASSPHRASE)
    assert b"the-key" not in sealed
    assert b"alice" not in sealed
    assert "the-key" not in repr(saved)
    assert unseal(sealed, PASSPHRASE) == saved
    for broken in (sealed[:-1], sealed[:60], sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed[:30]):
        with pytest.raises(Unusable, match="the passphrase is wrong, or the file is damaged"):
            unseal(broken, PASSPHRASE)
    with pytest.raises(Unusable, match="passphrase is wrong"):
        unseal(sealed, PASSPHRASE + "!")
    for other in (b"", b"SQLite format 3\0", sealed[1:]):
        with pytest.raises(Unusable, match="no backup of pam-starling"):
            unseal(other, PASSPHRASE)


@pytest.mark.parametrize(
    "plain",
    [
        b"\0\0\0\5hello",
        b"\0\0\0\2{}",
        b"\0\0\0\2[]",
        b"\xff\xff\xff\xff",
        b'\0\0\0\x2b{"made": 1e300, "key": "", "version": "0.1"}',
        b'\0\0\0\x27{"made": 1, "key": null, "version": "1"}',
    ],
)
def test_a_backup_that_says_nonsense_is_unusable(plain: bytes) -> None:
    salt, nonce = bytes(16), bytes(12)
    key = hashlib.scrypt(PASSPHRASE.encode(), salt=salt, n=2**10, r=8, p=1, dklen=32)
    sealed = ChaCha20Poly1305(key).encrypt(nonce, plain, MAGIC)
    with pytest.raises(Unusable, match=MALFORMED):
        unseal(MAGIC + salt + nonce + sealed, PASSPHRASE)


def test_the_apps_of_a_state_are_told(tmp_path: Path) -> None:
    filled(tmp_path / "state.db").close()
    assert apps_in(copy_of(tmp_path / "state.db")) == [("alice", b"a sealed secret")]


def test_what_is_put_back_replaces_the_state_in_one_step_and_keeps_the_old_one(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    store = filled(state)
    saved = Saved(copy_of(state), "")
    store.forget_token("alice")
    store.close()
    assert put_back(saved, state) == tmp_path / "state.db.before-restore"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    restored = SqliteStore(state)
    assert restored.token("alice") == TOKEN
    restored.close()
    before = sqlite3.connect(tmp_path / "state.db.before-restore")
    assert before.execute("select count(*) from tokens").fetchone() == (0,)
    before.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.db", "state.db.before-restore"]


def test_each_state_from_before_a_restore_is_kept(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    filled(state).close()
    saved = Saved(copy_of(state), "")
    kept = [put_back(saved, state) for _ in range(3)]
    assert [path.name for path in kept if path] == [f"state.db.before-restore{each}" for each in ("", "-2", "-3")]
    assert put_back(saved, tmp_path / "other.db") is None


def test_a_damaged_state_is_kept_as_it_is_with_what_belongs_to_it(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    filled(state).close()
    saved = Saved(copy_of(state), "")
    state.write_bytes(b"nonsense" * 1000)
    state.with_name("state.db-wal").write_bytes(b"the last changes")
    aside = put_back(saved, state)
    assert aside is not None
    assert aside.read_bytes() == b"nonsense" * 1000
    assert aside.with_name(f"{aside.name}-wal").read_bytes() == b"the last changes"
    assert not state.with_name("state.db-wal").exists()


def test_what_is_put_back_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    state = tmp_path / "theirs" / "state.db"
    state.parent.mkdir()
    filled(state).close()
    saved = Saved(copy_of(state), "")
    os.chown(state.parent, 65534, 65534)
    put_back(saved, state)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in state.parent.iterdir()} == {(65534, 65534)}


@pytest.mark.parametrize("name", ["state.db", "state.db.restored", "state.db.before-restore", "state.db-wal"])
def test_no_link_in_the_folder_leads_out_of_it(tmp_path: Path, name: str) -> None:
    folder, victim = tmp_path / "folder", tmp_path / "victim"
    folder.mkdir()
    victim.write_bytes(b"precious")
    state = folder / "state.db"
    filled(state).close()
    saved = Saved(copy_of(state), "")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(victim)
    if name in {"state.db", "state.db-wal"}:
        with pytest.raises((Unusable, OSError), match=r"no regular file|symbolic links"):
            put_back(saved, state)
    else:
        put_back(saved, state)
    if name == "state.db":
        with pytest.raises(Unusable, match="no regular file"):
            copy_of(state)
    assert (victim.read_bytes(), victim.stat().st_uid) == (b"precious", os.geteuid())


def test_the_new_state_is_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state.db"
    filled(state).close()
    saved, done = Saved(copy_of(state), ""), list[Path]()
    rename, now = os.rename, Path("now")
    monkeypatch.setattr(os, "fsync", lambda fd: done.append(Path(f"/proc/self/fd/{fd}").readlink()))
    monkeypatch.setattr(os, "rename", lambda *names, **folders: (done.append(now), rename(*names, **folders)))
    put_back(saved, state)
    at = done.index(now)
    assert tmp_path / "state.db.restored" in done[:at]
    assert done[at + 1 :] == [tmp_path]


@pytest.mark.parametrize("content", [b"nonsense" * 1000, b""])
def test_a_state_that_is_none_touches_nothing(tmp_path: Path, content: bytes) -> None:
    state = tmp_path / "state.db"
    filled(state).close()
    before = state.read_bytes()
    with pytest.raises(Unusable):
        put_back(Saved(content, ""), state)
    assert state.read_bytes() == before


def test_a_state_of_a_later_version_is_not_put_back(tmp_path: Path) -> None:
    state = tmp_path / "later.db"
    filled(state).close()
    database = sqlite3.connect(state)
    database.execute("pragma user_version = 99")
    database.close()
    with pytest.raises(Unusable, match="later version"):
        put_back(Saved(state.read_bytes(), ""), tmp_path / "state.db")


def test_a_state_without_what_its_version_has_is_not_put_back(tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    database = sqlite3.connect(empty)
    database.execute("pragma user_version = 4")
    database.close()
    with pytest.raises(Unusable, match="lacks what a state of its version has"):
        put_back(Saved(empty.read_bytes(), ""), tmp_path / "state.db")
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
def test_a_state_of_an_earlier_version_is_put_back(tmp_path: Path, version: int) -> None:
    earlier = tmp_path / "earlier.db"
    database = sqlite3.connect(earlier)
    for statement in itertools.chain(*MIGRATIONS[:version]):
        database.execute(statement)
    database.execute(f"pragma user_version = {version}")
    database.commit()
    database.close()
    put_back(Saved(earlier.read_bytes(), ""), tmp_path / "state.db")
    store = SqliteStore(tmp_path / "state.db")
    assert store.tokens() == []
    store.close()


def test_there_must_be_a_state(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="nothing to save"):
        copy_of(tmp_path / "state.db")
