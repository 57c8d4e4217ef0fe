"""Backups: a consistent copy of the state file and the key that opens it, sealed with a passphrase, and put back.

scrypt (RFC 7914) and ChaCha20-Poly1305 (RFC 8439), by python3-cryptography and hashlib. It must never write a key or a
passphrase anywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import secrets
import sqlite3
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from starlingd import VERSION
from starlingd.adapters.sqlite.schema import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAGIC = b"pam-starling backup 1\n"
SALT_BYTES, NONCE_BYTES = 16, 12
COST, BLOCK = 2**17, 8
"""scrypt: 128 MiB and half a second for each guess at the passphrase."""
LATEST = 2.0**33
"""The year 2242, in seconds since 1970."""
WAL, SHM = "-wal", "-shm"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


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
    """Encrypt a backup. Raises Unusable."""
    fields = {"made": saved.made, "version": saved.version, "key": saved.key}
    head = json.dumps(fields).encode()
    salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
    plain = len(head).to_bytes(4) + head + saved.state
    try:
        return MAGIC + salt + nonce + ChaCha20Poly1305(_key(passphrase, salt)).encrypt(nonce, plain, MAGIC)
    except OverflowError:
        raise Unusable("the state is larger than 2 GiB") from None


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
    return _saved(plain[4 : 4 + size], plain[4 + size :])


def _saved(text: bytes, state: bytes) -> Saved:
    """Read the head of a backup. Raises Unusable."""
    try:
        head = json.loads(text)
        saved = Saved(state, head["key"], head["made"], head["version"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Unusable("the backup is not made as this version makes them") from None
    is_time = type(saved.made) in {int, float} and 0 <= saved.made < LATEST
    if not (is_time and isinstance(saved.key, str) and isinstance(saved.version, str)):
        raise Unusable("the backup is not made as this version makes them")
    return saved


def copy_of(state: Path) -> bytes:
    """Read a consistent copy of a state file that may be in use. Raises Unusable."""
    _see_it_is_a_file(state)
    with _private() as copy:
        try:
            with sqlite3.connect(f"file:{state}?mode=ro", uri=True) as source, sqlite3.connect(copy) as target:
                source.backup(target)
        except sqlite3.Error as error:
            raise Unusable(f"{state} cannot be read: {error}") from None
        return copy.read_bytes()


def apps_in(state: bytes) -> list[tuple[str, bytes]]:
    """Tell the apps of a state: whose, and the sealed secret. Raises Unusable for what the daemon could not use."""
    with _private() as copy:
        copy.write_bytes(state)
        database = sqlite3.connect(copy)
        try:
            _check(database)
            return _boxes(database)
        except sqlite3.Error as error:
            raise Unusable(f"the state cannot be used: {error}") from None
        finally:
            database.close()


@contextlib.contextmanager
def prepared(saved: Saved, state: Path) -> Iterator[Callable[[], Path | None]]:
    """Write a state beside the one that is there; offer what puts it in its place, in one step.

    That must not be called while the daemon runs; it tells where the old state is kept, None where there was none.
    Whoever owns the folder may do anything in it at any time: no link is followed, and nothing is opened twice.
    Raises Unusable or OSError, and then the old state is as it was.
    """
    apps_in(saved.state)
    folder = os.open(state.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    new = f"{state.name}.restored"
    try:
        _see_it_is_a_file(state, may_miss=True)
        _remove(new, folder)
        _write(new, folder, saved.state)
        yield lambda: _swap(new, state, folder)
    finally:
        _remove(new, folder)
        os.close(folder)


def _swap(new: str, state: Path, folder: int) -> Path | None:
    aside = _keep_old(state, folder) if _see_it_is_a_file(state, may_miss=True) else None
    for rest in (WAL, SHM):  # which would be taken for the new one's
        _remove(state.name + rest, folder)
    os.fsync(folder)
    os.rename(new, state.name, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)
    return aside


def _keep_old(state: Path, folder: int) -> Path:
    """Copy what is about to be replaced, as well as that can be done, to a name that is free; tell which."""
    try:
        files = {"": copy_of(state)}
    except Unusable:
        files = {rest: content for rest in ("", WAL) if (content := _read(state.name + rest, folder)) is not None}
    aside = _free_name(f"{state.name}.before-restore", folder)
    for rest, content in files.items():
        _write(aside + rest, folder, content)
    return state.with_name(aside)


def _free_name(name: str, folder: int) -> str:
    taken = set(os.listdir(folder))
    return next(
        each for number in itertools.count(1) if (each := f"{name}-{number}" if number > 1 else name) not in taken
    )


def _see_it_is_a_file(state: Path, *, may_miss: bool = False) -> bool:
    """Tell whether there is a state file. Raises Unusable for what is none, and where it may not miss."""
    try:
        status = state.lstat()
    except FileNotFoundError:
        if may_miss:
            return False
        raise Unusable(f"there is no {state}: nothing to save") from None
    except OSError as error:
        raise Unusable(f"{state} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise Unusable(f"{state} is no regular file: see what it is, and take it away")
    return True


def _read(name: str, folder: int) -> bytes | None:
    """Read a regular file; None where there is none."""
    try:
        descriptor = os.open(name, _OLD, dir_fd=folder)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise Unusable(f"{name} is no regular file: see what it is, and take it away")
        return stream.read()


def _write(name: str, folder: int, content: bytes) -> None:
    """Write a file that is not there yet, for the folder's owner alone, and have it on the disk. Raises OSError."""
    owner = os.fstat(folder)
    with os.fdopen(os.open(name, _NEW, 0o600, dir_fd=folder), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fchown(stream.fileno(), owner.st_uid, owner.st_gid)
        os.fsync(stream.fileno())


def _remove(name: str, folder: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


@contextlib.contextmanager
def _private() -> Iterator[Path]:
    """Offer a file that nobody else can reach."""
    with tempfile.TemporaryDirectory(prefix="pam-starling-backup-") as folder:
        copy = Path(folder) / "state.db"
        copy.touch(mode=0o600)
        yield copy


def _check(database: sqlite3.Connection) -> None:
    """See that a state is whole, of a known version, and has what that has. Raises sqlite3.Error or Unusable."""
    [(said,)] = database.execute("pragma integrity_check(1)")
    [(version,)] = database.execute("pragma user_version")
    if version < 1:
        raise Unusable("the file holds no state")
    if said != "ok":
        raise Unusable(f"the state is damaged: {said}")
    if version > len(MIGRATIONS):
        raise Unusable(f"the state is of a later version of pam-starling ({version}, this one knows {len(MIGRATIONS)})")
    if not _columns(database) >= _wanted(version):
        raise Unusable("the state lacks what a state of its version has")


def _wanted(version: int) -> set[tuple[str, ...]]:
    """Tell the columns that a state of a version has."""
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        for statement in itertools.chain(*MIGRATIONS[:version]):
            database.execute(statement)
        return _columns(database)


def _columns(database: sqlite3.Connection) -> set[tuple[str, ...]]:
    query = "select m.name, c.name, c.type from sqlite_master m join pragma_table_info(m.name) c where m.type = 'table'"
    return set(database.execute(query))


def _boxes(database: sqlite3.Connection) -> list[tuple[str, bytes]]:
    if ("tokens", "box", "BLOB") not in _columns(database):
        return []  # a version that had no apps
    query = "select cast(user as text), cast(coalesce(box, '') as blob) from tokens order by user"
    return [(user, box) for user, box in database.execute(query)]


def _key(passphrase: str, salt: bytes) -> bytes:
    return hashlib.scrypt(passphrase.encode(), salt=salt, n=COST, r=BLOCK, p=1, maxmem=2 * 128 * COST * BLOCK, dklen=32)
