"""Plugin configurations of the vendor's gateway: each option kept, renamed, or not applicable with the reason.

Pure: text in, text and findings out. What cannot be known here (lists, directories and secrets live outside the
plugin's file) gets a place holder that lets nobody in, and a line among the things to do. No finding repeats a value,
and no secret of the old file goes to the new one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from starlingd.config import directory, lists
from starlingd.config.problems import Problem, nearest
from starlingd.config.reader import DEFAULT_SECTION, ELSEWHERE
from starlingd.config.secrets import CREDENTIALS
from starlingd.config.sections import AUTH, CREDENTIAL_STORE, DEFINITION, EXPLICIT_MAPPING, GRACE, LOGGING, TRANSFORM
from starlingd.config.spswords import Untranslatable, domain, interpolate, level, protocols, user_filter

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlingd.config.ini import Document, Entry

ANY = "*"
MOVES = {
    ("users", ANY): (EXPLICIT_MAPPING.name, ""),
    ("cache", "soft_timeout"): (GRACE.name, ""),
    ("cache", "hard_timeout"): (GRACE.name, ""),
    ("cache", "conn_limit"): (GRACE.name, "reuse_limit"),
    ("plugin", "log_level"): (LOGGING.name, ""),
    ("plugin", "cred_store"): (CREDENTIAL_STORE.name, "name"),
    (AUTH.name, "whitelist"): (lists.BY_USER_LIST.name, "name"),
    ("ldap", "ldap_server_config"): (directory.DIRECTORY.name, "name"),
    ("ldap", "user_attribute"): (directory.DIRECTORY_MAPPING.name, ""),
}
"""Where options of the plugin's version 1 are now."""
NOT_HERE = {
    ("plugin", "config_version"): "the layout is recognised by itself",
}
OFF_WHEN_EMPTY = frozenset(
    {"name", "whitelist", "ldap_server_config", "cred_store", "user_attribute", "append_domain", "server"}
    | {"email_attribute", "phone_attribute", "prefix"}
)
"""Options that the plugin takes for absent when they are empty."""
NOBODY = {"allow": "no_user", "except": ""}
NOWHERE = {"uri": "ldaps://directory.invalid", "base_dn": "dc=invalid", "schema": "ad"}
_FILTER = ("ldap", "filter")
_WORDS: dict[tuple[str, str], Callable[[str], tuple[str, str]]] = {
    (AUTH.name, "interactive_protocols"): protocols,
    (LOGGING.name, "log_level"): level,
    (TRANSFORM.name, "append_domain"): domain,
}
"""Options whose values are written in another way here."""


class Result(StrEnum):
    """What becomes of an option."""

    KEPT = "kept"
    RENAMED = "renamed"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Option:
    """One option of the old file; ``section`` and ``key`` are the new ones, empty where there are none."""

    old_section: str
    old_key: str
    line: int
    result: Result
    section: str = ""
    key: str = ""
    reason: str = ""


@dataclass(slots=True)
class Translation:
    """Every option of the old file, what is left to do, and the new file's sections."""

    options: list[Option] = field(default_factory=list)
    to_do: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    sections: dict[str, dict[str, str]] = field(default_factory=dict)
    """Place of a section to key to value; of a secret, ``$``."""
    remarks: dict[str, str] = field(default_factory=dict)
    """What to write above a section."""

    def origin(self, section: str, key: str) -> Option | None:
        """Find the option that a key of the new file comes from, or for a whole section its first."""
        return next((each for each in self.options if each.section == section and key in {each.key, ""}), None)


def translate(document: Document) -> Translation:
    """Translate a plugin's configuration."""
    made = Translation(problems=list(document.problems))
    for heading, entries in document.sections.items():
        for key, entry in entries.items():
            _translate(document, heading, key, entry, made)
    _fill_in(made)
    return made


def _translate(document: Document, heading: str, key: str, entry: Entry, made: Translation) -> None:
    reason = _why_not(document, heading, key, entry)
    target = None if reason else _target(document, heading, key)
    if heading == DEFAULT_SECTION:
        made.problems.append(Problem(heading, key, reason, entry.line))
    if target is None:
        made.options.append(
            Option(heading, key, entry.line, Result.NOT_APPLICABLE, reason=reason or _unknown(heading, key))
        )
        return
    values = {name: other.value for name, other in document.sections[heading].items()}
    try:
        value, remark = _value(target, interpolate(entry.value, values))
    except Untranslatable as unfit:
        made.problems.append(Problem(heading, key, str(unfit), entry.line))
        value, remark = "", ""
    first = made.origin(*target) if target[1] in made.sections.get(target[0], {}) else None
    if first:
        made.problems.append(Problem(heading, key, f"says what line {first.line} says too: keep one", entry.line))
    made.sections.setdefault(target[0], {})[target[1]] = value
    result = Result.KEPT if target == (heading, key) else Result.RENAMED
    made.options.append(Option(heading, key, entry.line, result, *target, remark))


def _why_not(document: Document, heading: str, key: str, entry: Entry) -> str:
    """Tell why an option is not applicable here although the plugin knows it; empty when it is applicable."""
    if reason := NOT_HERE.get((heading, key)):
        return reason
    if heading == DEFAULT_SECTION:
        return "a [DEFAULT] section is not used: write the key in the section it is for"
    if not entry.value and key in OFF_WHEN_EMPTY:
        return "it is empty, which means that it is off"
    if (heading, key) == _FILTER and not _directory_name(document):
        return "no directory is named: ldap_server_config is missing"
    return ""


def _target(document: Document, heading: str, key: str) -> tuple[str, str] | None:
    """Tell the section and key that an option has here; None when the plugin did not know it either."""
    if (heading, key) == _FILTER:
        return f"{directory.POLICY.name} {_directory_name(document)}", "user_filter"
    moved = MOVES.get((heading, key)) or MOVES.get((heading, ANY))
    if moved:
        return moved[0], moved[1] or key
    section = next((each for each in DEFINITION if each.owns(heading)), None)
    known = section.find(key) if section else None
    if section is None or known is None:
        return None
    return section.place(heading), key if known.rest else known.name


def _directory_name(document: Document) -> str:
    entries = document.sections.get("ldap", {})
    return entries["ldap_server_config"].value if "ldap_server_config" in entries else ""


def _value(target: tuple[str, str], value: str) -> tuple[str, str]:
    """Tell a value as it is written here, and what there is to say about that."""
    section = next(each for each in DEFINITION if each.owns(target[0]))
    known = section.find(target[1])
    if known and known.secret:
        return ELSEWHERE, "secrets are kept in files of their own"
    if target[1] == "user_filter":
        return user_filter(value), "{user} stands for the user's name"
    return _WORDS[target](value) if target in _WORDS else (value, "")


def _unknown(heading: str, key: str) -> str:
    """Say that the plugin did not know an option either, and what may have been meant."""
    owner = next((each for each in DEFINITION if each.owns(heading)), None)
    siblings = [name for old, name in (*MOVES, _FILTER) if old == heading]
    siblings += [each.name for each in owner.definitions()] if owner else []
    if siblings:
        meant = nearest(key, siblings)
    else:
        headings = [old for old, _ in MOVES] + [each.title for each in DEFINITION]
        meant = f"[{found}]" if (found := nearest(heading, headings)) else None
    return "it is unknown there and here, and had no effect" + (f"; was {meant} meant?" if meant else "")


def _fill_in(made: Translation) -> None:
    """Put a place holder wherever the new file would name what it does not have."""
    if "api_key" not in made.sections.get("starling", {}):
        made.sections.setdefault("starling", {}).setdefault("credential", ELSEWHERE)
    if place := _named(made, lists.BY_USER_LIST.name, lists.USER_LIST.name):
        _hold(
            made, place, NOBODY, f"copy the list from Policies > User Lists into [{place}]: till then it exempts nobody"
        )
    if place := _named(made, directory.DIRECTORY.name, directory.POLICY.name):
        _hold(made, place, NOWHERE, f"copy the directory from Policies > LDAP Servers into [{place}]")
    for section, keys in made.sections.items():
        made.to_do.extend(
            f"write {_what(section, key)} to {CREDENTIALS}/{section}.{key} (root, mode 0600)"
            for key, value in keys.items()
            if value == ELSEWHERE
        )


def _what(section: str, key: str) -> str:
    if (section, key) == ("starling", "credential"):
        return "the client_id:client_secret that joining to Starling gives"
    return f"the value of [{section}] {key}"


def _named(made: Translation, section: str, kind: str) -> str:
    """Tell the section that another one's ``name`` needs; empty when it needs none."""
    name = made.sections.get(section, {}).get("name", "")
    return f"{kind} {name}" if name and name != ELSEWHERE else ""


def _hold(made: Translation, place: str, keys: dict[str, str], to_do: str) -> None:
    """Hold the place of a section that the old file's gateway had elsewhere."""
    given = made.sections.get(place, {})
    if not keys.keys() <= given.keys():
        made.sections[place] = keys | given
        made.remarks[place] = f"To do: {to_do}."
        made.to_do.append(to_do)
