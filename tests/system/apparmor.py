"""What an AppArmor profile allows, told from its text: for kernels that cannot enforce it.

The parser flattens the profile; here its rules about files become regular expressions, and what a program was seen to
do is held against them. Rules that deny, and what strace does not show, are not judged.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

PROFILE = Path(__file__).resolve().parents[2] / "etc" / "apparmor" / "starlingd"
_VARIABLE = re.compile(r"^(@\{\w+\})(\+?)=(.*)$", re.MULTILINE)
_RULE = re.compile(r"^\s*(?:owner\s+|audit\s+)?(?P<path>[/@]\S+)\s+(?P<perms>[rwamklixuUpPcCD]+),", re.MULTILINE)
_NETWORK = re.compile(r"^\s*network\s+(\w+)(?:\s+(\w+))?\s*,", re.MULTILINE)
_GLOB = re.compile(r"\*\*|\*|\?|\[[^]]*\]|[{},]|[^*?\[\]{},]+|.")
_PIECES = {"**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")", ",": "|"}


@dataclass
class Profile:
    """The file and network rules of a profile."""

    rules: list[tuple[re.Pattern[str], str]] = field(default_factory=list)
    networks: set[tuple[str, str]] = field(default_factory=set)

    def allows(self, path: str, wanted: str) -> bool:
        """Tell whether the rules together give each permission of ``wanted`` on a path."""
        given = {perm for pattern, perms in self.rules if pattern.fullmatch(path) for perm in perms}
        if "w" in given:
            given.add("a")
        return given.issuperset(wanted)

    def allows_socket(self, family: str, kind: str) -> bool:
        """Tell whether a socket of this family and kind may be made."""
        return bool({(family, kind), (family, "")} & self.networks)


def parse(text: str) -> Profile:
    """Read a profile that the parser flattened."""
    known = _variables(text)
    body = "\n".join(line for line in text.splitlines() if not re.match(r"\s*(#|deny|audit deny)", line))
    profile = Profile()
    for rule in _RULE.finditer(body):
        profile.rules.append((re.compile(_pattern(_written_out(rule["path"], known))), rule["perms"]))
    profile.networks = {(family, kind or "") for family, kind in _NETWORK.findall(body)}
    return profile


def load(path: Path = PROFILE) -> Profile:
    """Have the parser flatten a profile, and read it."""
    command = ["/usr/sbin/apparmor_parser", "--preprocess", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return parse(done.stdout)


def _variables(text: str) -> dict[str, list[str]]:
    known: dict[str, list[str]] = {}
    for name, more, values in _VARIABLE.findall(text):
        words = [word.strip('"').rstrip("/") for word in values.split()]  # what follows begins with one
        known[name] = [*known.get(name, []), *words] if more else words
    return known


def _written_out(glob: str, known: dict[str, list[str]]) -> str:
    """Put a variable's values in its place."""
    while name := re.search(r"@\{\w+\}", glob):
        glob = glob.replace(name[0], "{" + ",".join(known[name[0]]) + "}")
    return re.sub(r"/+", "/", glob)


def _pattern(glob: str) -> str:
    """Make a regular expression of a path with AppArmor's wildcards."""
    made, depth = "", 0
    for piece in _GLOB.findall(glob):
        depth += (piece == "{") - (piece == "}")
        literal = piece == "," and not depth
        made += piece if literal or piece.startswith("[") else _PIECES.get(piece) or re.escape(piece)
    return made
