"""OpenLDAP's slapd on loopback: ldap with StartTLS, ldaps and ldapi, filled before it starts."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import trustme

from starlingd.config.directory import GROUP_FILTERS, USER_FILTERS
from starlingd.core.rules import DirectoryPolicy, DirectorySchema, Tls
from tests.directory.ldif import entry, escaped
from tests.directory.population import SECRET
from tests.directory.processes import Server, answers, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.directory.population import Group, Population, Someone

BASE = "dc=example,dc=org"
READER = f"cn=reader,{BASE}"

BIS_SCHEMA = """
attributetype ( 1.3.6.1.1.1.1.3 NAME 'homeDirectory' EQUALITY caseExactIA5Match
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 SINGLE-VALUE )
attributetype ( 1.3.6.1.1.1.1.10 NAME 'shadowExpire' EQUALITY integerMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 SINGLE-VALUE )
objectclass ( 1.3.6.1.1.1.2.0 NAME 'posixAccount' SUP top AUXILIARY
  MUST ( cn $ uid $ uidNumber $ gidNumber $ homeDirectory ) )
objectclass ( 1.3.6.1.1.1.2.1 NAME 'shadowAccount' SUP top AUXILIARY MUST uid MAY shadowExpire )
objectclass ( 1.3.6.1.1.1.2.2 NAME 'posixGroup' SUP top AUXILIARY MUST gidNumber )
"""
"""What rfc2307bis is about: a posixGroup that is auxiliary, so that a groupOfNames can be one.

The numbers are built into slapd.
"""

CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
{posix}
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {place}/pid
TLSCACertificateFile {place}/ca.pem
TLSCertificateFile {place}/server.pem
TLSCertificateKeyFile {place}/server.pem
sizelimit {size_limit}
referral ldap://127.0.0.1:1/
database mdb
suffix "{base}"
directory {place}/db
maxsize 1073741824
index objectClass,uid,cn,mail,member,gidNumber{more_indexes} eq
access to * by dn.exact="{reader}" read
  by dn.exact="gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth" write by * auth
"""


class Slapd(Server):
    """A slapd with a population; root on the same machine may change it, over ldapi."""

    def __init__(
        self,
        place: Path,
        schema: DirectorySchema,
        people: Population,
        size_limit: str = "unlimited",
        host: str = "127.0.0.1",
        more: str = "",
        ports: tuple[int, int] | None = None,
        names: tuple[str, ...] = (),
    ) -> None:
        self.host, self.names = host, ("localhost", host, *names)
        self.place = place
        self.port, self.ldaps_port = ports or free_ports()
        self.schema = schema
        self.ldapi = f"ldapi://{quote(str(place / 'ldapi'), safe='')}"
        self.ca_file = place / "ca.pem"
        command = ["/usr/sbin/slapd", "-d", "stats", "-f", str(place / "slapd.conf"), "-h", self._addresses()]
        super().__init__(command, place / "log", lambda: answers(host, self.ldaps_port))
        self._write(size_limit)
        self._fill(ldif(people, schema) + "\n" + more)

    def policy(self, **changes: object) -> DirectoryPolicy:
        """Make a policy that suits it; StartTLS unless changed."""
        made = DirectoryPolicy(
            name="test",
            uri=(f"ldap://localhost:{self.port}",),
            base_dn=BASE,
            schema=self.schema,
            tls=Tls.STARTTLS,
            user_filter=USER_FILTERS[self.schema],
            group_filter=GROUP_FILTERS[self.schema],
            bind_dn=READER,
            bind_password=SECRET,
            ca_file=str(self.ca_file),
        )
        return replace(made, **changes)

    def did(self, what: str) -> int:
        """Tell how often its log says that it did something, ACCEPT, BIND or SRCH."""
        return (self.place / "log").read_text(errors="replace").count(f" {what} ")

    def _addresses(self) -> str:
        return f"ldap://{self.host}:{self.port} ldaps://{self.host}:{self.ldaps_port} {self.ldapi}"

    def _write(self, size_limit: str) -> None:
        (self.place / "db").mkdir(parents=True)
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        authority.cert_pem.write_to_path(str(self.ca_file))
        authority.issue_cert(*self.names, key_type=trustme.KeyType.ECDSA).private_key_and_cert_chain_pem.write_to_path(
            str(self.place / "server.pem")
        )
        bis = self.place / "bis.schema"
        bis.write_text(BIS_SCHEMA)
        is_bis = self.schema is DirectorySchema.RFC2307BIS
        posix = bis if is_bis else Path("/etc/ldap/schema/nis.schema")
        text = CONFIGURATION.format(
            posix=f"include {posix}",
            place=self.place,
            base=BASE,
            reader=READER,
            size_limit=size_limit,
            more_indexes="" if is_bis else ",memberUid",
        )
        (self.place / "slapd.conf").write_text(text)

    def _fill(self, text: str) -> None:
        subprocess.run(
            ["/usr/sbin/slapadd", "-q", "-f", str(self.place / "slapd.conf")],
            input=text.encode(), check=True, capture_output=True, timeout=120,
        )  # fmt: skip


@contextmanager
def running(
    place: Path,
    schema: DirectorySchema,
    people: Population,
    size_limit: str = "unlimited",
    host: str = "127.0.0.1",
    more: str = "",
) -> Iterator[Slapd]:
    """Run a slapd for as long as the context lasts; ``more`` is LDIF."""
    slapd = Slapd(place, schema, people, size_limit, host, more)
    slapd.start()
    try:
        yield slapd
    finally:
        slapd.stop()


def ldif(people: Population, schema: DirectorySchema) -> str:
    """Write the population as slapadd reads it."""
    units = sorted({group.unit for group in people.groups} | {"People"})
    entries = [
        entry(BASE, ("objectClass", "organization"), ("objectClass", "dcObject"), ("o", "Example"), ("dc", "example")),
        entry(READER, ("objectClass", "person"), ("cn", "reader"), ("sn", "reader"), ("userPassword", SECRET)),
        *(entry(f"ou={unit},{BASE}", ("objectClass", "organizationalUnit"), ("ou", unit)) for unit in units),
        *(_person(someone, number, people) for number, someone in enumerate(people.people)),
        *(_group(group, number, people, schema) for number, group in enumerate(people.groups)),
    ]
    return "\n".join(entries)


def dn_of(name: str) -> str:
    """Tell where a person is."""
    return f"uid={name},ou=People,{BASE}"


def group_dn(group: Group) -> str:
    """Tell where a group is."""
    return f"cn={escaped(group.name)},ou={group.unit},{BASE}"


def _person(someone: Someone, number: int, people: Population) -> str:
    pairs: list[tuple[str, str | bytes]] = [
        *(("objectClass", kind) for kind in ("inetOrgPerson", "posixAccount", "shadowAccount")),
        ("uid", someone.name),
        ("cn", someone.display or someone.name),
        ("sn", someone.name),
        ("uidNumber", str(10000 + number)),
        ("gidNumber", str(people.gid(someone.primary) if someone.primary else 100)),
        ("homeDirectory", "/nonexistent"),
        *(("mail", mail) for mail in someone.mail),
        *(("mobile", phone) for phone in someone.phones),
        *(("description", note) for note in someone.notes),
    ]
    if someone.display:
        pairs.append(("displayName", someone.display))
    if someone.picture:
        pairs.append(("jpegPhoto", someone.picture))
    if someone.expires is not None:
        pairs.append(("shadowExpire", str(someone.expires)))
    return entry(dn_of(someone.name), *pairs)


def _group(group: Group, number: int, people: Population, schema: DirectorySchema) -> str:
    common = [("cn", group.name), ("gidNumber", str(5000 + number))]
    if schema is DirectorySchema.RFC2307:
        listed = [("memberUid", name) for name in group.people]
        return entry(group_dn(group), ("objectClass", "posixGroup"), *common, *listed)
    inner = {each.name: group_dn(each) for each in people.groups}
    members = [*map(dn_of, group.people), *(inner[name] for name in group.groups)] or [READER]
    kinds = [("objectClass", "groupOfNames"), ("objectClass", "posixGroup")]
    return entry(group_dn(group), *kinds, *common, *(("member", member) for member in members))
