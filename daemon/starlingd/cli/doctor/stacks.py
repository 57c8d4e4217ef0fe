"""What libpam makes of the files in /etc/pam.d: the lines of a service in order, through its includes.

It only reads text that it is given. A control is understood as libpam understands it, so that a line that can pass
over a later one is known as such.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENTRY = "/usr/lib/pam-starling/entry.py"
DEEPEST = 16
"""How deep files may include one another; libpam gives up at 32."""
SHORT = {
    "required": {"success": "ok", "new_authtok_reqd": "ok", "ignore": "ignore", "default": "bad"},
    "requisite": {"success": "ok", "new_authtok_reqd": "ok", "ignore": "ignore", "default": "die"},
    "sufficient": {"success": "done", "new_authtok_reqd": "done", "default": "ignore"},
    "optional": {"success": "ok", "new_authtok_reqd": "ok", "default": "ignore"},
}
PASSED = frozenset({"success", "new_authtok_reqd"})
ONLY_FAILS, ONLY_PASSES = "pam_deny.so", "pam_permit.so"
_AT_INCLUDE = re.compile(r"@include\s+(\S+)")
_LINE = re.compile(
    r"(?P<dash>-?)(?P<kind>auth|account|session|password)\s+(?P<control>\[[^]]*\]|\S+)\s+(?P<rest>.*)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line that names a module. ``within`` is the number of the substack it is in, 0 for none."""

    kind: str
    control: str
    module: str
    arguments: tuple[str, ...]
    place: str
    within: int = 0
    dashed: bool = False

    @property
    def actions(self) -> Mapping[str, str]:
        """What follows each result; empty where the control is none that libpam knows."""
        if not self.control.startswith("["):
            return SHORT.get(self.control.lower(), {})
        pairs = (word.partition("=") for word in self.control[1:-1].lower().split())
        return {result: action for result, _, action in pairs}

    @property
    def name(self) -> str:
        """The module without its path."""
        return PurePath(self.module).name

    @property
    def is_python(self) -> bool:
        """Whether it runs any Python script."""
        return PurePath(self.module).name == "pam_python.so"

    @property
    def is_ours(self) -> bool:
        """Whether it is the second factor."""
        return self.is_python and self.arguments[:1] == (ENTRY,)

    def leaps(self, distance: int) -> bool:
        """Tell whether the line ``distance`` after this one may be passed over."""
        return any(
            action == "done" or (action.isdecimal() and int(action) >= distance) for action in self.actions.values()
        )


def rules(files: Mapping[str, str], service: str) -> list[Rule]:
    """Tell all lines of a service, in order; a file that is missing adds nothing."""
    numbers = iter(range(1, 10_000))
    return list(_rules(files, service, None, 0, numbers, DEEPEST))


def of_kind(files: Mapping[str, str], service: str, kind: str) -> list[Rule]:
    """Tell the lines of one kind."""
    return [rule for rule in rules(files, service) if rule.kind == kind]


def reaches(stack: list[Rule], ours: Rule, failing: frozenset[str]) -> bool:
    """Tell whether libpam can come to our line though every module named in ``failing`` refuses.

    Any other module may answer anything, so that a line that may lead past the password is one that does.
    """
    at, waiting, seen = stack.index(ours), [(0, False)], set[tuple[int, bool]]()
    while waiting:
        step = waiting.pop()
        if step[0] == at:
            return True
        if step[0] < at and step not in seen:
            seen.add(step)
            waiting += _after(stack, *step, failing)
    return False


def _after(stack: list[Rule], place: int, refused: bool, failing: frozenset[str]) -> Iterator[tuple[int, bool]]:  # noqa: FBT001
    """Tell where libpam may go on after a line, and whether something required has been refused by then."""
    rule = stack[place]
    for action in _actions(rule, failing):
        if action.isdecimal():
            yield place + 1 + int(action), refused
        elif action == "die" or (action == "done" and not refused):
            yield from _end_of_substack(stack, place, refused or action == "die")
        else:
            yield place + 1, (refused or action == "bad") and action != "reset"


def _end_of_substack(stack: list[Rule], place: int, refused: bool) -> Iterator[tuple[int, bool]]:  # noqa: FBT001
    """Tell the first line after the substack that ends at ``place``; none where the whole stack ends."""
    within = stack[place].within
    later = (number for number in range(place + 1, len(stack)) if stack[number].within != within)
    after = next(later, None) if within else None
    if after is not None:
        yield after, refused


def _actions(rule: Rule, failing: frozenset[str]) -> set[str]:
    """Tell what may follow a line. A wrong password is never a result that says ``ignore``."""
    default = rule.actions.get("default", "bad")
    passed = {rule.actions.get(result, default) for result in PASSED}
    failed = {action for result, action in rule.actions.items() if result not in PASSED | {"ignore"}} | {default}
    skipped = {"ignore"} if rule.dashed else set()
    if rule.name == ONLY_PASSES:
        return {rule.actions.get("success", default)}
    if rule.name in failing | {ONLY_FAILS}:
        return failed | skipped
    return passed | failed | skipped | {rule.actions.get("ignore", default)}


def _rules(
    files: Mapping[str, str], name: str, kind: str | None, within: int, numbers: Iterator[int], deep: int
) -> Iterator[Rule]:
    if deep == 0:
        return
    for number, line in _lines(files.get(PurePath(name).name, "")):
        whole = _AT_INCLUDE.fullmatch(line)
        if whole:
            yield from _rules(files, whole[1], kind, within, numbers, deep - 1)
            continue
        found = _LINE.fullmatch(line)
        if found is None or (kind is not None and found["kind"].lower() != kind):
            continue
        words = _words(found["rest"])
        control, own = found["control"].lower(), found["kind"].lower()
        if control in {"include", "substack"} and words:
            inside = next(numbers) if control == "substack" else within
            yield from _rules(files, words[0], own, inside, numbers, deep - 1)
        elif words:
            place = f"/etc/pam.d/{PurePath(name).name}:{number}"
            yield Rule(own, found["control"], words[0], tuple(words[1:]), place, within, bool(found["dash"]))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Tell the lines that count, each with the number of its first part; one that ends in a backslash goes on."""
    begun, first = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition("#")[0].strip()
        first = first if begun else number
        if line.endswith("\\"):
            begun += line[:-1] + " "
            continue
        if (begun + line).strip():
            yield first, (begun + line).strip()
        begun = ""
    if begun.strip():
        yield first, begun.strip()


def _words(text: str) -> list[str]:
    return [part.strip("[]") if part.startswith("[") else part for part in re.findall(r"\[[^]]*\]|\S+", text)]
