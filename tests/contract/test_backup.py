"""Backups: what comes out is what went in, from a state in use, with the right passphrase and nothing else."""

from __future__ import annotations

import sqlite3
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from starlingd.adapters.sqlite import SqliteStore, backup
from starlingd.adapters.sqlite.backup import Saved, Unusable, copy_of, put_back, seal, unseal
from starlingd.core.otp import Over, Token

PASSPHRASE = "correct horse battery staple"
TOKEN = Token("alice", b"a sealed secret", made=5.0)


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "COST", 2**10)


def filled(path: Path) -> SqliteStore:
    store = SqliteStore(path)
    assert store.save_token(TOKEN, Over.NO_APP)
    return store


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


def test_what_is_put_back_replaces_the_state_in_one_step_and_keeps_the_old_one(tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    store = filled(state)
    saved = Saved(copy_of(state), "")
    store.forget_token("alice")
    store.close()
    put_back(saved, state)
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    restored = SqliteStore(state)
    assert restored.token("alice") == TOKEN
    restored.close()
    before = sqlite3.connect(tmp_path / "state.db.before-restore")
    assert before.execute("select count(*) from tokens").fetchone() == (0,)
    before.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.db", "state.db.before-restore"]


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


def test_there_must_be_a_state(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="nothing to save"):
        copy_of(tmp_path / "state.db")
