"""The text of a file in /etc/pam.d with our lines, and without them (DESIGN §5, "The stack, exactly").

It only makes text of text. What it cannot place safely it refuses with a sentence; it never guesses. Our lines stand
between two marks, so that they can be told from what others wrote, and what they replace stands beside them.
"""

from __future__ import annotations

import re
from enum import Enum

MODULE = "pam_python.so /usr/lib/pam-starling/entry.py"
BEGIN = "# >>> pam-starling: put here by starlingctl pam enable, taken away by starlingctl pam disable"
END = "# <<< pam-starling"
WAS = "# in place of: "
GROUP_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_INCLUDED_AUTH = re.compile(r"@include\s+common-auth\s*(#.*)?")
_AUTH = re.compile(r"-?auth\s+(?P<control>\[[^\]]*\]|\S+)", re.IGNORECASE)
_PASSES_OVER = re.compile(r"sufficient|\[.*=\s*(done|[0-9]+)\b.*\]", re.IGNORECASE)


class Mode(Enum):
    """What comes before the second factor, and how that is asked."""

    KEY = "key"
    PASSWORD = "password"  # noqa: S105  not one
    KEY_PUSH = "key-push"


class Unfit(Exception):  # noqa: N818  it says what the text is
    """The text cannot be changed safely; the sentence says why and what to do."""


def with_ours(text: str, mode: Mode, emergency_group: str | None = None) -> str:
    """Put our lines into the text of a PAM service. Raises Unfit when they would not do what they are for."""
    if MODULE.split()[1] in _code(text):
        raise Unfit("it has lines of pam-starling already: take them away first (starlingctl pam disable, or by hand)")
    if emergency_group is not None and not GROUP_NAME.fullmatch(emergency_group):
        raise Unfit(f"{emergency_group!a} is not the name of a group")
    lines = text.splitlines(keepends=True)
    if mode is not Mode.KEY_PUSH:
        at = _place_of_auth(lines)
        kept = [] if mode is Mode.KEY else [_ended(lines[at])]
        replaced = lines[at].rstrip("\n") if mode is Mode.KEY else None
        lines[at : at + 1] = [*kept, *_block(_auth(mode, emergency_group), replaced)]
    return "".join([*_block(_first(emergency_group)), *lines])


def without_ours(text: str) -> str:
    """Take the marked lines out and put back what they replaced; all else stays as it is. Raises Unfit when unclear."""
    kept: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\n")
        if bare in {BEGIN, END}:
            if inside == (bare == BEGIN):
                raise Unfit("the marks around the lines of pam-starling do not match any more: take them away by hand")
            inside = bare == BEGIN
        elif not inside:
            kept.append(line)
        elif bare.startswith(WAS):
            kept.append(line.removeprefix(WAS))
    if inside:
        raise Unfit("the marks around the lines of pam-starling do not match any more: take them away by hand")
    return "".join(kept)


def uses_module(text: str) -> bool:
    """Tell whether a line that counts names our module."""
    return MODULE.split()[1] in _code(text)


def emergency_group(text: str) -> str | None:
    """Tell the group that passes before our lines, if any."""
    found = re.search(r"pam_succeed_if\.so quiet_fail user ingroup (\S+)", _code(text))
    return found[1] if found else None


def _code(text: str) -> str:
    return "\n".join(line.partition("#")[0] for line in text.splitlines())


def _place_of_auth(lines: list[str]) -> int:
    """Find the one line that brings the first factor, and see that what comes before it does not pass over ours."""
    found = [number for number, line in enumerate(lines) if _INCLUDED_AUTH.fullmatch(line.strip())]
    if len(found) != 1:
        raise Unfit(f'it has {len(found) or "no"} lines "@include common-auth"; exactly one shows where ours belong')
    [at] = found
    for number, line in enumerate(lines[:at], 1):
        auth = _AUTH.match(line.strip())
        if line.rstrip("\n").endswith("\\"):
            raise Unfit(f"line {number} goes on in the next one: join them first")
        if auth and _PASSES_OVER.fullmatch(auth["control"]):
            raise Unfit(f"line {number} may pass over ours, which come after it ({auth['control']})")
    return at


def _block(lines: list[str], replaced: str | None = None) -> list[str]:
    was = [WAS + replaced] if replaced is not None else []
    return [f"{line}\n" for line in (BEGIN, *was, *lines, END)]


def _ended(line: str) -> str:
    return line if line.endswith("\n") else line + "\n"


def _auth(mode: Mode, group: str | None) -> list[str]:
    ours = {
        # Without pam_permit an exempt user's PAM_IGNORE leaves no success at all, and sshd refuses.
        Mode.KEY: [f"auth     requisite  {MODULE}", "auth     required   pam_permit.so"],
        Mode.PASSWORD: [f"auth     required   {MODULE} first_factor=before"],
    }[mode]
    return [*_passes("auth", group), *ours]


def _first(group: str | None) -> list[str]:
    """Give the lines that come first in the file: before common-account, and before every pam_env."""
    return [
        *_passes("account", group),
        f"account  requisite  {MODULE}",
        *_passes("session", group),
        f"session  requisite  {MODULE}",
    ]


def _passes(kind: str, group: str | None) -> list[str]:
    """Give the line that skips the one after it for members of the group; it logs when it does."""
    if group is None:
        return []
    return [f"{kind:8} [success=1 default=ignore] pam_succeed_if.so quiet_fail user ingroup {group}"]
