"""Exemption lists: the sections that say who is let in without a second factor (SEMANTICS §5), and their rules.

Whoever is on no list is asked. Nothing here may read a doubtful list as one that exempts.
"""

# ruff: noqa: RUF009  key() makes fields, as dataclasses.field does
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlingd.config import values
from starlingd.config.problems import nearest
from starlingd.config.schema import Section, key
from starlingd.core.rules import Allow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sized

    from starlingd.config.problems import Notes
    from starlingd.config.schema import Values
    from starlingd.config.values import Network

_ALLOW = "no_user: exempt are those in except; all_users: exempt is everybody else"


@dataclass(frozen=True, slots=True)
class UserListForm:
    """Values of [user_list NAME]."""

    allow: Allow | None = key(values.choice(Allow), None, _ALLOW)
    except_: tuple[str, ...] | None = key(values.names, None, "user names")


@dataclass(frozen=True, slots=True)
class UserListExemptionForm:
    """Values of [whitelist source=user_list]."""

    name: str | None = key(values.line, None, "which [user_list NAME] says who is exempt")
    break_glass: tuple[str, ...] = key(values.words, (), "users who are exempt in an emergency, loudly")


@dataclass(frozen=True, slots=True)
class GroupExemptionForm:
    """Values of [whitelist source=ldap_server_group]."""

    allow: Allow | None = key(values.choice(Allow), None, _ALLOW)
    except_: tuple[str, ...] | None = key(values.groups, None, "groups of the directory: names, or DNs in quotes")


@dataclass(frozen=True, slots=True)
class NetworkExemptionForm:
    """Values of [whitelist source=network]."""

    allow: Allow | None = key(values.choice(Allow), None, _ALLOW)
    except_: tuple[Network, ...] | None = key(values.networks, None, "networks of clients, such as 192.0.2.0/24")


USER_LIST = Section("user_list", UserListForm, "a list of users", named=True)
BY_USER_LIST = Section("whitelist source=user_list", UserListExemptionForm, "exemption by user name")
BY_GROUP = Section("whitelist source=ldap_server_group", GroupExemptionForm, "exemption by the directory's groups")
BY_NETWORK = Section("whitelist source=network", NetworkExemptionForm, "exemption by the client's address")


def check(found: Values, notes: Notes) -> None:
    """Apply every rule about lists."""
    lists = found.each(USER_LIST)
    for name, form in lists.items():
        _whole(f"{USER_LIST.name} {name}", form.allow, form.except_, notes)
    _whole(BY_GROUP.name, found[BY_GROUP].allow, found[BY_GROUP].except_, notes)
    _whole(BY_NETWORK.name, found[BY_NETWORK].allow, found[BY_NETWORK].except_, notes)
    named = found[BY_USER_LIST].name
    check_name(BY_USER_LIST.name, named, USER_LIST, lists, notes)
    for name in lists:
        if name != named:
            notes.warn(
                f"{USER_LIST.name} {name}",
                "",
                "is not used: name it in [whitelist source=user_list], or remove it",
                depends_on=[(BY_USER_LIST.name, "name")],
            )


def check_name(section: str, name: str | None, kind: Section[Any], known: Iterable[str], notes: Notes) -> None:
    """Have the key ``name`` of a section name a section of this file."""
    if name is None or name in known:
        return
    meant = nearest(name, known)
    advice = f"did you mean {meant}?" if meant else f"write it as [{kind.title}], with that name"
    notes.problem(section, "name", f"names a section that this file does not have: {advice}")


def _whole(section: str, allow: Allow | None, excepted: Sized | None, notes: Notes) -> None:
    """Have both keys or neither; all_users must leave somebody to be asked, and is told every time."""
    both = [(section, "allow"), (section, "except")]
    if allow is None and excepted is not None:
        notes.problem(section, "allow", "is missing: write no_user or all_users", depends_on=both)
    elif allow is not None and excepted is None:
        notes.problem(section, "except", "is missing: write whom allow does not mean", depends_on=both)
    elif allow is Allow.ALL_USERS and not excepted:
        notes.problem(section, "except", "is empty: all_users would exempt everybody; write no_user", depends_on=both)
    elif allow is Allow.ALL_USERS:
        notes.warn(
            section,
            "allow",
            "all_users exempts everybody but those in except, new users too: write no_user unless this is meant",
            depends_on=both,
        )
