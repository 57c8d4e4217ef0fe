"""Samba as an Active Directory domain controller, on a loopback address of its own.

Samba's ports are fixed, so each one gets an address instead. Only its LDAP runs: what it is asked needs no Kerberos, no
DNS and no file shares. Its certificate is the one it makes itself, and simple binds need TLS, as it comes.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlingd.config.directory import GROUP_FILTERS, USER_FILTERS
from starlingd.core.rules import DirectoryPolicy, DirectorySchema, Tls
from tests.directory.ldif import Value, change, entry, escaped
from tests.directory.population import SECRET
from tests.directory.processes import Server, answers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.directory.population import Group, Population, Someone

DOMAIN = "starling.test"
BASE = "DC=starling,DC=test"
HOST = "dc.starling.test"
READER = f"CN=reader,CN=Users,{BASE}"
LDAP, LDAPS = 389, 636
DISABLED, PASSWORD_NOT_REQUIRED, NORMAL = 0x2, 0x20, 0x200
NOTES = "url"
"""An attribute that takes many values of any length, and all text."""
FILETIME_DAYS = 134774
"""Days from 1601 to 1970."""

CONFIGURATION = """[global]
netbios name = DC
workgroup = STARLING
realm = STARLING.TEST
server role = active directory domain controller
server services = ldap
interfaces = {address}/8
bind interfaces only = yes
private dir = {place}/private
state directory = {place}/state
cache directory = {place}/cache
lock directory = {place}/lock
pid directory = {place}/run
ncalrpc dir = {place}/run/ncalrpc
log file = {place}/samba.log
vfs objects = dfs_samba4 acl_xattr xattr_tdb
"""

FILL = r"""
import json, sys
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB
lp = LoadParm()
lp.load(sys.argv[1])
db = SamDB(session_info=system_session(), lp=lp)
orders = json.load(sys.stdin)
db.newuser("reader", orders["secret"])
db.transaction_start()
db.add_ldif(orders["ldif"])
db.transaction_commit()
for ldif in orders["changes"]:
    db.modify_ldif(ldif)
for person, group in orders["primary"]:
    token = str(db.search(group, attrs=["primaryGroupToken"])[0]["primaryGroupToken"])
    db.modify_ldif(f"dn: {group}\nchangetype: modify\nadd: member\nmember: {person}\n")
    db.modify_ldif(f"dn: {person}\nchangetype: modify\nreplace: primaryGroupID\nprimaryGroupID: {token}\n")
"""
"""Run by Debian's Python, which has Samba's modules."""


class Samba(Server):
    """A domain controller with a population."""

    def __init__(self, place: Path, people: Population) -> None:
        self.place, self.address = place, _free_address()
        self.ca_file = place / "private" / "tls" / "ca.pem"
        configuration = place / "smb.conf"
        command = ["/usr/sbin/samba", "-i", "-M", "single", "-s", str(configuration), "--debug-stdout"]
        super().__init__(command, place / "log", lambda: answers(self.address, LDAPS))
        _provision(place)
        for name in ("run", "lock", "cache"):
            (place / name).mkdir(exist_ok=True)
        configuration.write_text(CONFIGURATION.format(place=place, address=self.address))
        _run(["/usr/bin/python3", "-c", FILL, str(configuration)], json.dumps(_orders(people)))

    def look_up(self, host: str, port: int) -> list[Any]:
        """Stand in for the DNS: the controller's name, and nobody else's."""
        if host != HOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return socket.getaddrinfo(self.address, port, type=socket.SOCK_STREAM)

    def policy(self, **changes: object) -> DirectoryPolicy:
        """Make a policy that suits it; LDAPS unless changed."""
        made = DirectoryPolicy(
            name="test",
            uri=(f"ldaps://{HOST}",),
            base_dn=BASE,
            schema=DirectorySchema.AD,
            tls=Tls.LDAPS,
            user_filter=USER_FILTERS[DirectorySchema.AD],
            group_filter=GROUP_FILTERS[DirectorySchema.AD],
            bind_dn=READER,
            bind_password=SECRET,
            ca_file=str(self.ca_file),
        )
        return replace(made, **changes)


@contextmanager
def running(place: Path, people: Population) -> Iterator[Samba]:
    """Run a domain controller for as long as the context lasts."""
    samba = Samba(place, people)
    samba.start()
    try:
        yield samba
    finally:
        samba.stop()


def _free_address() -> str:
    """Find a loopback address on which nobody does LDAP."""
    choice = random.Random(os.getpid())
    while True:
        address = f"127.{choice.randint(64, 127)}.{choice.randint(0, 255)}.{choice.randint(1, 254)}"
        if not answers(address, LDAP) and not answers(address, LDAPS):
            return address


def _provision(place: Path) -> None:
    _run(
        ["/usr/bin/samba-tool", "domain", "provision", "-s", "/dev/null", f"--targetdir={place}", "--host-name=dc",
         f"--realm={DOMAIN.upper()}", "--domain=STARLING", f"--adminpass={SECRET}", "--server-role=dc",
         "--dns-backend=NONE", "--option=vfs objects=dfs_samba4 acl_xattr xattr_tdb"]
    )  # fmt: skip


def _run(command: list[str], text: str = "") -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr[-3000:]}")


def _orders(people: Population) -> dict[str, object]:
    """Tell what is to be added, and then to be changed, as LDIF."""
    units = sorted({group.unit for group in people.groups} | {"People"})
    inner = {group.name: group_dn(group) for group in people.groups}
    added = [entry(f"OU={unit},{BASE}", ("objectClass", "organizationalUnit")) for unit in units]
    added += [_person(someone) for someone in people.people]
    added += [_group(group) for group in people.groups]
    changes = [
        change(group_dn(group), "add", "member", *map(dn_of, group.people), *(inner[name] for name in group.groups))
        for group in people.groups
        if group.people or group.groups
    ]
    primary = [[dn_of(someone.name), inner[someone.primary]] for someone in people.people if someone.primary]
    return {"secret": SECRET, "ldif": "\n".join(added), "changes": changes, "primary": primary}


def dn_of(name: str) -> str:
    """Tell where a person is."""
    return f"CN={escaped(name)},OU=People,{BASE}"


def group_dn(group: Group) -> str:
    """Tell where a group is."""
    return f"CN={escaped(group.name)},OU={group.unit},{BASE}"


def _person(someone: Someone) -> str:
    pairs: list[tuple[str, Value]] = [
        ("objectClass", "user"),
        ("sAMAccountName", someone.name),
        ("userAccountControl", str(NORMAL | PASSWORD_NOT_REQUIRED | (DISABLED if someone.disabled else 0))),
        *(("mail", mail) for mail in someone.mail),
        *(("otherMobile", phone) for phone in someone.phones),
        *((NOTES, note) for note in someone.notes),
    ]
    if someone.display:
        pairs.append(("displayName", someone.display))
    if someone.picture:
        pairs.append(("jpegPhoto", someone.picture))
    if someone.expires is not None:
        pairs.append(("accountExpires", str((someone.expires + FILETIME_DAYS) * 86400 * 10_000_000)))
    return entry(dn_of(someone.name), *pairs)


def _group(group: Group) -> str:
    name = group.name if group.unit == "Groups" else f"{group.name} of {group.unit}"
    account = "".join(each if each.isalnum() or each == " " else "-" for each in name)
    return entry(group_dn(group), ("objectClass", "group"), ("sAMAccountName", account))
