"""Worlds in which the contract of Directory is tested: the same people and groups in the fake and on real servers."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlingd.adapters.ldap import LdapDirectory
from starlingd.adapters.ldap.words import texts
from starlingd.core.directory import Person, Standing
from tests.directory import samba as sambas
from tests.directory import slapd as slapds
from tests.directory.population import EVERYBODY, Group, Someone
from tests.fakes_directory import FakeDirectory, FakeGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlingd.ports import Directory
    from tests.directory.samba import Samba
    from tests.directory.slapd import Slapd

NOW = 20000 * 86400.0
"""What every world takes for the present, in Unix seconds: frank has expired, grace has not."""


@dataclass(frozen=True)
class DirectoryWorld:
    """A directory, its names for things, and the same directory looked up by e-mail address."""

    directory: Directory
    by_mail: Directory
    group_dn: Callable[[Group], str]
    phone: str = "mobile"
    notes: str = "description"
    nests: bool = True
    """Whether a group can be a member of another."""
    disables: bool = True
    """Whether it knows disabled accounts."""

    def dn(self, name: str, unit: str = "Groups") -> str:
        """Tell a group's DN."""
        return self.group_dn(next(group for group in EVERYBODY.groups if (group.name, group.unit) == (name, unit)))


@contextmanager
def fake_world() -> Iterator[DirectoryWorld]:
    everybody = [_person(someone) for someone in EVERYBODY.people]
    inner = {group.name: slapds.group_dn(group) for group in EVERYBODY.groups}
    groups = [
        FakeGroup(
            group.name,
            slapds.group_dn(group),
            frozenset(group.people) | {each.name for each in EVERYBODY.people if each.primary == group.name},
            frozenset(inner[name] for name in group.groups),
        )
        for group in EVERYBODY.groups
    ]
    yield DirectoryWorld(
        FakeDirectory(everybody, groups), FakeDirectory(everybody, groups, found_by="mail"), slapds.group_dn
    )


def _person(someone: Someone) -> Person:
    given = {
        "mail": [mail.encode() for mail in someone.mail],
        "mobile": [phone.encode() for phone in someone.phones],
        "displayname": [someone.display.encode()] if someone.display else [],
        "description": list(someone.notes),
        "jpegphoto": [someone.picture] if someone.picture else [],
    }
    read = {name: texts(values) for name, values in given.items()}
    expired = someone.expires is not None and someone.expires * 86400 <= NOW
    standing = Standing.DISABLED if someone.disabled else Standing.EXPIRED if expired else Standing.ACTIVE
    return Person(
        someone.name,
        slapds.dn_of(someone.name),
        standing,
        {name: usable for name, (usable, _) in read.items()},
        frozenset(name for name, (_, unusable) in read.items() if unusable),
    )


@contextmanager
def slapd_world(slapd: Slapd) -> Iterator[DirectoryWorld]:
    directory = LdapDirectory(slapd.policy(), clock=lambda: NOW)
    by_mail = LdapDirectory(slapd.policy(user_filter="(&(objectClass=posixAccount)(mail={user}))"), clock=lambda: NOW)
    is_bis = slapd.schema == "rfc2307bis"
    yield DirectoryWorld(directory, by_mail, slapds.group_dn, nests=is_bis, disables=False)
    directory.close()
    by_mail.close()


@contextmanager
def samba_world(samba: Samba) -> Iterator[DirectoryWorld]:
    by_mail_filter = "(&(objectCategory=person)(objectClass=user)(mail={user}))"
    directory = LdapDirectory(samba.policy(), clock=lambda: NOW, look_up=samba.look_up)
    by_mail = LdapDirectory(samba.policy(user_filter=by_mail_filter), clock=lambda: NOW, look_up=samba.look_up)
    yield DirectoryWorld(directory, by_mail, sambas.group_dn, phone="otherMobile", notes=sambas.NOTES)
    directory.close()
    by_mail.close()
