"""Backups: a consistent copy of the state file and the key that opens it, sealed with a passphrase, and put back.

scrypt (RFC 7914) and ChaCha20-Poly1305 (RFC 8439), by python3-cryptography and hashlib. It must never write a key or a
passphrase anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from starlingd import VERSION
from starlingd.adapters.sqlite.schema import MIGRATIONS

MAGIC = b"pam-starling backup 1\n"
SALT_BYTES, NONCE_BYTES = 16, 12
COST, BLOCK = 2**17, 8
"""scrypt: 128 MiB and half a second for each guess at the passphrase."""


class Unusable(Exception):  # noqa: N818  it says what it is
    """Why a backup cannot be made or used; the text is for the administrator."""


@dataclass(frozen=True)
class Saved:
    """What a backup holds."""

    state: bytes = field(repr=False)
    key: str = field(repr=False)
    made: float = 0.0
    version: str = VERSION


def seal(saved: Saved, passphrase: str) -> bytes:
    """Encrypt a backup."""
    fields = {"made": saved.made, "version": saved.version, "key": saved.key}
    head = json.dumps(fields).encode()
    salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
    plain = len(head).to_bytes(4) + head + saved.state
    return MAGIC + salt + nonce + ChaCha20Poly1305(_key(passphrase, salt)).encrypt(nonce, plain, MAGIC)


def unseal(content: bytes, passphrase: str) -> Saved:
    """Decrypt a backup. Raises Unusable."""
    if not content.startswith(MAGIC):
        raise Unusable("this is no backup of pam-starling, or one of a version that is not known")
    salt, rest = content[len(MAGIC) :][:SALT_BYTES], content[len(MAGIC) + SALT_BYTES :]
    try:
        plain = ChaCha20Poly1305(_key(passphrase, salt)).decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], MAGIC)
    except (InvalidTag, ValueError):
        plain = b""
    if not plain:
        raise Unusable("the passphrase is wrong, or the file is damaged")
    size = int.from_bytes(plain[:4])
    head = json.loads(plain[4 : 4 + size])
    return Saved(plain[4 + size :], head["key"], head["made"], head["version"])


def copy_of(state: Path) -> bytes:
    """Read a consistent copy of a state file that may be in use. Raises Unusable."""
    if not state.exists():
        raise Unusable(f"there is no {state}: nothing to save")
    with tempfile.TemporaryDirectory(prefix="pam-starling-backup-") as folder:
        copy = Path(folder) / "state.db"
        copy.touch(mode=0o600)
        try:
            with sqlite3.connect(f"file:{state}?mode=ro", uri=True) as source, sqlite3.connect(copy) as target:
                source.backup(target)
            _check(copy)
        except sqlite3.Error as error:
            raise Unusable(f"{state} cannot be read: {error}") from None
        return copy.read_bytes()


def put_back(saved: Saved, state: Path) -> None:
    """Write the state file anew, in one step; the old one stays beside it. The daemon must not run. Raises Unusable."""
    new = state.with_name(f"{state.name}.restored")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    try:
        new.write_bytes(saved.state)
        _check(new)
        owner = (state if state.exists() else state.parent).stat()
        os.chown(new, owner.st_uid, owner.st_gid)
        if state.exists():
            _keep_old(state, state.with_name(f"{state.name}.before-restore"))
        for rest in ("-wal", "-shm"):
            state.with_name(state.name + rest).unlink(missing_ok=True)
        new.replace(state)
    except sqlite3.Error as error:
        raise Unusable(f"the backup's state cannot be used: {error}") from None
    finally:
        new.unlink(missing_ok=True)


def _keep_old(state: Path, aside: Path) -> None:
    """Copy what is about to be replaced, as well as that can be done."""
    aside.unlink(missing_ok=True)
    aside.touch(mode=0o600)
    try:
        aside.write_bytes(copy_of(state))
    except Unusable:
        shutil.copyfile(state, aside)


def _check(state: Path) -> None:
    """See that a state file is whole, and none of a later version. Raises sqlite3.Error or Unusable."""
    database = sqlite3.connect(state)
    try:
        [(said,)] = database.execute("pragma integrity_check(1)")
        [(version,)] = database.execute("pragma user_version")
    finally:
        database.close()
    if not version:
        raise Unusable("the file holds no state")
    if said != "ok":
        raise Unusable(f"the state is damaged: {said}")
    if version > len(MIGRATIONS):
        raise Unusable(f"the state is of a later version of pam-starling ({version}, this one knows {len(MIGRATIONS)})")


def _key(passphrase: str, salt: bytes) -> bytes:
    return hashlib.scrypt(passphrase.encode(), salt=salt, n=COST, r=BLOCK, p=1, maxmem=2 * 128 * COST * BLOCK, dklen=32)
