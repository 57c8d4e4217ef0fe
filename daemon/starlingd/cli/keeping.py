"""Where starlingctl keeps a secret for the service: as an encrypted systemd credential, else as root's 0600 file.

A secret goes from memory into a pipe or a file of ours, never into an argument, a message or a log. Nothing is taken
away before what takes its place has been seen to work.
"""

from __future__ import annotations

import hmac
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from starlingd import config

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CREDS, RUN = "/usr/bin/systemd-creds", "/usr/bin/systemd-run"
PATIENCE = 60.0
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


class NotKept(Exception):  # noqa: N818  it says what it is
    """Why a secret could not be kept in some way; the sentence never holds it."""


@dataclass(frozen=True)
class Keeper:
    """The places of one host; ``root`` is another one in tests."""

    root: Path = Path("/")

    def plain(self, name: str) -> Path:
        """Tell the file that holds a secret as it is; the unit hands the whole folder over."""
        return self.root / "etc/pam-starling/credentials" / name

    def encrypted(self, name: str) -> Path:
        """Tell the file that holds it encrypted."""
        return self.root / "etc/pam-starling/credentials.encrypted" / name

    def drop_in(self, name: str) -> Path:
        """Tell the addition to the unit that hands the encrypted one over."""
        return self.root / "etc/systemd/system/starlingd.service.d" / f"pam-starling-{name}.conf"

    def keep_encrypted(self, name: str, secret: str) -> None:
        """Keep a secret encrypted for this host, once systemd has shown that it can hand it over. Raises NotKept."""
        new = self.encrypted(name).with_name(f"{name}.new")
        new.parent.mkdir(mode=0o700, exist_ok=True)
        new.unlink(missing_ok=True)
        try:
            _pipe((CREDS, "encrypt", f"--name={name}", "-", str(new)), secret)
            new.chmod(0o600)
            if not hmac.compare_digest(_handed_over(name, new), secret.encode()):
                raise NotKept("systemd hands something else over than was encrypted")
            new.replace(self.encrypted(name))
        finally:
            new.unlink(missing_ok=True)
        self.drop_in(name).parent.mkdir(parents=True, exist_ok=True)
        text = f"[Service]\nLoadCredentialEncrypted={name}:{self.encrypted(name)}\n"
        write(self.drop_in(name), text.encode(), 0o644)
        self.plain(name).unlink(missing_ok=True)

    def keep_plain(self, name: str, secret: str) -> None:
        """Keep a secret in a file that only root can read. Raises OSError."""
        write(self.plain(name), secret.encode() + b"\n", 0o600)
        for path in (self.drop_in(name), self.encrypted(name)):
            path.unlink(missing_ok=True)


def keep(keeper: Keeper, name: str, secret: str, *, plain: bool) -> Iterator[str]:
    """Keep a secret in the best way that this host has, and tell which. Raises OSError."""
    if not plain:
        try:
            keeper.keep_encrypted(name, secret)
        except (NotKept, OSError) as why:
            yield f"this host keeps no encrypted credential: {why}"
        else:
            yield f"kept encrypted for this host alone in {keeper.encrypted(name)}"
            return
    keeper.keep_plain(name, secret)
    yield f"kept in {keeper.plain(name)}, which only root can read"


class KeptSecrets:
    """What the service will be handed: root's files, and what is encrypted beside them."""

    def __init__(self, keeper: Keeper | None = None) -> None:
        self._keeper = keeper or Keeper()

    def find(self, section: str, option: str) -> str:
        """Read a secret, in the order in which the daemon would; raises SecretMissingError."""
        path = self._keeper.encrypted(f"{section}.{option}")
        if self._keeper.plain(path.name).exists() or not path.exists():
            return config.AdministratorFiles(self._keeper.plain("")).find(section, option)
        try:
            content = _pipe((CREDS, "decrypt", f"--name={path.name}", "--newline=no", str(path), "-"))
            return content.decode().rstrip("\r\n")
        except (NotKept, UnicodeDecodeError) as error:
            raise config.SecretMissingError(f"{path} cannot be decrypted: {error}") from None


def write(path: Path, content: bytes, mode: int) -> None:
    """Write root's file in one step: at any moment there is the old one, or the whole new one. Raises OSError."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchown(stream.fileno(), 0, 0)
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _handed_over(name: str, path: Path) -> bytes:
    """Have systemd hand a credential to a unit of its own, as it will to ours, and tell what that was."""
    unit = ("--quiet", "--wait", "--pipe", "--collect", "--service-type=exec")
    show = f'cat "$CREDENTIALS_DIRECTORY"/{shlex.quote(name)}'
    return _pipe((RUN, *unit, f"--property=LoadCredentialEncrypted={name}:{path}", "/bin/sh", "-c", show))


def _pipe(command: Sequence[str], given: str = "") -> bytes:
    """Run a program of systemd's with ``given`` as its input, and return its output. Raises NotKept."""
    try:
        done = subprocess.run(  # noqa: S603  absolute paths, no shell but the one above
            command, input=given.encode(), capture_output=True, timeout=PATIENCE, check=False, env=ENVIRONMENT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotKept(f"{command[0]}: {type(error).__name__}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise NotKept(f"{command[0]}: {said[-1] if said else f'status {done.returncode}'}")
    return done.stdout
