"""Reads authenticator apps from what other modules keep: google-authenticator, pam_oath, and otpauth URIs.

Nothing is guessed: what cannot be taken over is told with its reason, and a secret is in no message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from starlingd.core import otp

if TYPE_CHECKING:
    from pathlib import Path

LONGEST = 1024 * 1024
OATH = re.compile(r"HOTP(?:/T(?P<step>\d+))?(?:/E)?(?:/(?P<digits>\d+))?", re.IGNORECASE)
OATH_FIELDS = 4


@dataclass(frozen=True, slots=True)
class Found:
    """One app in a file, in base32, ``step`` in seconds; or, with ``flaw``, why it cannot be taken over."""

    line: int
    user: str
    secret: str = field(default="", repr=False)
    algorithm: str = otp.Algorithm.SHA1
    digits: int = 6
    step: int = 30
    flaw: str = ""


def read(path: Path, user: str | None = None) -> list[Found]:
    """Tell the apps of a file; ``user`` is whose they are where the file does not say so."""
    with path.open("rb") as stream:
        content = stream.read(LONGEST + 1)
    if len(content) > LONGEST:
        return [Found(0, "", flaw="the file is larger than any of these kinds")]
    lines = content.decode("utf-8", "replace").splitlines()
    told = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if any(line.lower().startswith("otpauth:") for line in told):
        found = [_uri(number, line.strip(), user) for number, line in _meant(lines)]
    elif told and all(OATH.fullmatch(line.split()[0]) for line in told):
        found = [_oath(number, line.split()) for number, line in _meant(lines)]
    else:
        found = [_google(told, user or _owner(path))]
    return [_checked(each) for each in found]


def _meant(lines: list[str]) -> list[tuple[int, str]]:
    return [
        (number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")
    ]


def _checked(found: Found) -> Found:
    """See that the app is of a kind that this host knows."""
    if found.flaw:
        return found
    try:
        otp.secret_of(found.secret)
        otp.Algorithm(found.algorithm)
    except ValueError as error:
        return replace(found, flaw=str(error) if "secret" in str(error) else f"{found.algorithm!a} is not known")
    if found.digits not in {6, 8}:
        return replace(found, flaw=f"codes of {found.digits} digits are not known")
    if found.step not in {30, 60}:
        return replace(found, flaw=f"a step of {found.step} seconds is not known")
    return found if found.user else replace(found, flaw="whose is it? Say so with --user")


def _google(lines: list[str], user: str) -> Found:
    """Read a file of pam_google_authenticator: the secret, options behind a quote, and codes that are left behind."""
    options = {line[1:].split()[0].upper(): line[1:].split()[1:] for line in lines if re.match(r'"\s*\w', line)}
    if not lines or not re.fullmatch(r"[A-Za-z2-7=]+", lines[0]):
        return Found(1, user, flaw="this is none of the files that are known")
    found = Found(1, user, lines[0])
    if "TOTP_AUTH" not in options:
        return replace(found, flaw="its codes follow a counter, not the time")
    step = options.get("STEP_SIZE", ["30"])[0]
    return replace(found, step=int(step)) if step.isdigit() else replace(found, flaw="its STEP_SIZE is no number")


def _oath(number: int, fields: list[str]) -> Found:
    """Read a line of pam_oath's users file: type, user, PIN, secret in hexadecimal."""
    kind = OATH.fullmatch(fields[0])
    if kind is None or len(fields) < OATH_FIELDS:
        return Found(number, fields[1] if len(fields) > 1 else "", flaw="a line has a type, a user, a PIN and a secret")
    found = Found(number, fields[1], digits=int(kind["digits"] or 6), step=int(kind["step"] or 0))
    if not kind["step"]:
        return replace(found, flaw="its codes follow a counter, not the time")
    if fields[2] not in {"-", "+"}:
        return replace(found, flaw="it has a PIN, which this host does not ask for")
    try:
        return replace(found, secret=otp.secret_text(bytes.fromhex(fields[3])))
    except ValueError:
        return replace(found, flaw="the secret is not hexadecimal")


def _uri(number: int, line: str, user: str | None) -> Found:
    """Read an otpauth URI; the user is the label, without issuer and host."""
    parts = urlsplit(line)
    label = unquote(parts.path.lstrip("/")).rpartition(":")[2].strip().partition("@")[0]
    found = Found(number, user or label)
    if parts.scheme.lower() != "otpauth" or parts.netloc.lower() != "totp":
        return replace(found, flaw="is no otpauth URI" if parts.scheme != "otpauth" else "its codes follow a counter")
    said = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    digits, step = said.get("digits", "6"), said.get("period", "30")
    if not (digits.isdigit() and step.isdigit()):
        return replace(found, flaw="digits or period is no number")
    algorithm = said.get("algorithm", "sha1").lower().replace("-", "")
    return replace(found, secret=said.get("secret", ""), algorithm=algorithm, digits=int(digits), step=int(step))


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return ""
