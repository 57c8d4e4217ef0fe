"""Reads authenticator apps from what other modules keep: google-authenticator, pam_oath, and otpauth URIs.

What is read was written by people who may wish to enrol an app for somebody else: a file that is neither root's nor of
whoever reads it speaks for its owner alone. Nothing is guessed: what cannot be taken over is told with its reason, and
a secret is in no message.
"""

from __future__ import annotations

import errno
import os
import pwd
import re
import stat
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from starlingd.core import otp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONGEST = 1024 * 1024
OATH = re.compile(r"HOTP(?:/T(?P<step>[0-9]+))?(?:/E)?(?:/(?P<digits>[0-9]+))?", re.IGNORECASE)
OATH_FIELDS = 4
FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Found:
    """One app in a file, in base32, ``step`` in seconds; or, with ``flaw``, why it cannot be taken over.

    ``hint`` is what somebody has to see to although it can.
    """

    line: int
    user: str
    secret: str = field(default="", repr=False)
    algorithm: str = otp.Algorithm.SHA1
    digits: int = 6
    step: int = 30
    flaw: str = ""
    hint: str = ""


class _Unreadable(Exception):  # noqa: N818  it says what it is
    """Why a file is not read at all."""


@dataclass(frozen=True, slots=True)
class _File:
    """What was read through one descriptor: its lines, and whose it is ("" for root)."""

    lines: list[str]
    owner: str
    trusted: bool
    """Whether it may speak for others than its owner."""


def read(path: Path, user: str | None = None) -> list[Found]:
    """Tell the apps of a file; ``user`` is whose they must be, where it is given."""
    try:
        file = _opened(path)
    except _Unreadable as why:
        return [Found(0, user or "", flaw=str(why))]
    return [_bound(_checked(each), file, user) for each in _parsed(file, user)]


def _opened(path: Path) -> _File:
    """Read a file, following no link and waiting for nobody. Raises _Unreadable."""
    try:
        descriptor = os.open(path, FLAGS)
        try:
            status = os.fstat(descriptor)
            content = _content(descriptor, status)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise _Unreadable(_reason(error)) from None
    if len(content) > LONGEST:
        raise _Unreadable("the file is larger than any of these kinds")
    owner, trusted = _owner(status)
    return _File(content.decode("utf-8-sig", "replace").splitlines(), owner, trusted)


def _content(descriptor: int, status: os.stat_result) -> bytes:
    if not stat.S_ISREG(status.st_mode):
        raise _Unreadable("it is no regular file")
    with os.fdopen(descriptor, "rb", closefd=False) as stream:
        return stream.read(LONGEST + 1)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "it is a link, and none is followed"
    return f"it cannot be read: {(isinstance(error, OSError) and error.strerror) or 'no such name'}"


def _owner(status: os.stat_result) -> tuple[str, bool]:
    """Tell whose a file is, and whether it may speak for others. Raises _Unreadable."""
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _Unreadable("others may write it: see what it holds, then chmod go-w")
    try:
        name = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        raise _Unreadable(f"it belongs to uid {status.st_uid}, which has no account") from None
    return name if status.st_uid else "", status.st_uid in {0, os.geteuid()}


def _bound(found: Found, file: _File, user: str | None) -> Found:
    """See that a file of somebody speaks for nobody else, and that the app is of the one who is meant."""
    if user is not None and found.user != user:
        return replace(found, flaw=found.flaw or f"it is not {user}'s")
    if found.flaw or file.trusted or _account(found.user) == file.owner:
        return found
    flaw = f"the file is {file.owner}'s and speaks for nobody else: see what it holds, then chown root"
    return replace(found, flaw=flaw)


def _account(name: str) -> str:
    """Tell an account's own name; empty where there is no such account."""
    try:
        return pwd.getpwnam(name).pw_name
    except (KeyError, ValueError):
        return ""


def _parsed(file: _File, user: str | None) -> list[Found]:
    """Tell the apps of a file, of whatever kind it is."""
    meant = [(number, line.strip()) for number, line in enumerate(file.lines, 1)]
    meant = [(number, line) for number, line in meant if line and not line.startswith("#")]
    if any(line.lower().startswith("otpauth:") for _, line in meant):
        return [_entry(_uri, number, line, user) for number, line in meant]
    if meant and all(OATH.fullmatch(line.split()[0]) for _, line in meant):
        return [_entry(_oath, number, line, user) for number, line in meant]
    return [_google([line for _, line in meant], user or file.owner)]


def _entry(parse: Callable[[int, str, str | None], Found], number: int, line: str, user: str | None) -> Found:
    try:
        return parse(number, line, user)
    except ValueError:
        return Found(number, user or "", flaw="the line makes no sense")


def _number(text: str) -> int | None:
    """Read digits; None for whatever else it is, and for what is longer than any number here."""
    return int(text) if re.fullmatch(r"[0-9]{1,4}", text) else None


def _checked(found: Found) -> Found:
    """See that the app is of a kind that this host knows."""
    if found.flaw:
        return found
    try:
        otp.secret_of(found.secret)
    except ValueError as error:
        return replace(found, flaw=str(error) if found.secret.isascii() else "the secret is not base32")
    if found.algorithm not in set(otp.Algorithm):
        return replace(found, flaw=f"{found.algorithm[:20]!a} is not known")
    if found.digits not in {6, 8}:
        return replace(found, flaw=f"codes of {found.digits} digits are not known")
    if found.step not in {30, 60}:
        return replace(found, flaw=f"a step of {found.step} seconds is not known")
    return found if found.user else replace(found, flaw="whose is it? Say so with --user")


def _google(lines: list[str], user: str) -> Found:
    """Read a file of pam_google_authenticator: the secret, options behind a quote, and codes that are left behind."""
    if not lines or not re.fullmatch(r"[A-Za-z2-7=]+", lines[0]):
        return Found(1, user, flaw="this is none of the files that are known")
    quoted = [line[1:].split() for line in lines if line.startswith('"')]
    options = {words[0].upper(): "".join(words[1:2]) for words in quoted if words}
    found = Found(1, user, lines[0])
    if "TOTP_AUTH" not in options:
        return replace(found, flaw="its codes follow a counter, not the time")
    step, skew = _number(options.get("STEP_SIZE", "30")), options.get("TIME_SKEW", "0")
    if step is None:
        return replace(found, flaw="its STEP_SIZE is no number")
    return replace(found, step=step, hint="" if _number(skew) == 0 else _off(skew, step))


def _off(skew: str, step: int) -> str:
    """Say that google-authenticator made up for a clock that is off, which nothing does here."""
    steps = _number(skew.removeprefix("-"))
    by = "by some time" if steps is None else f"by {steps * step} seconds"
    return f"its clock was off {by}: until it is put right, its codes may let nobody in"


def _oath(number: int, line: str, _: str | None) -> Found:
    """Read a line of pam_oath's users file: type, user, PIN, secret in hexadecimal."""
    fields = line.split()
    kind = OATH.fullmatch(fields[0])
    if kind is None or len(fields) < OATH_FIELDS:
        return Found(number, "", flaw="a line has a type, a user, a PIN and a secret")
    found = Found(number, fields[1])
    if not kind["step"]:
        return replace(found, flaw="its codes follow a counter, not the time")
    step, digits = _number(kind["step"]), _number(kind["digits"] or "6")
    if step is None or digits is None:
        return replace(found, flaw="its step or its digits are too many")
    if fields[2] not in {"-", "+"}:
        return replace(found, flaw="it has a PIN, which this host does not ask for")
    try:
        return replace(found, step=step, digits=digits, secret=otp.secret_text(bytes.fromhex(fields[3])))
    except ValueError:
        return replace(found, flaw="the secret is not hexadecimal")


def _uri(number: int, line: str, user: str | None) -> Found:
    """Read an otpauth URI; the user is the label, without issuer and host. Raises ValueError."""
    parts = urlsplit(line)
    if parts.scheme.lower() != "otpauth":
        return Found(number, user or "", flaw="is no otpauth URI")  # it may be a password, and is not told
    label = unquote(parts.path.lstrip("/")).rpartition(":")[2].strip().partition("@")[0]
    found = Found(number, user or label)
    if parts.netloc.lower() != "totp":
        return replace(found, flaw="its codes follow a counter")
    said = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    digits, step = _number(said.get("digits", "6")), _number(said.get("period", "30"))
    if digits is None or step is None:
        return replace(found, flaw="digits or period is no number")
    algorithm = said.get("algorithm", "sha1").lower().replace("-", "")
    return replace(found, secret=said.get("secret", ""), algorithm=algorithm, digits=digits, step=step)
