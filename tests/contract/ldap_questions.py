"""What tests of the LDAP adapter ask, and what every outage of it must keep to."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from starlingd.adapters.ldap import LdapDirectory
from starlingd.core.rules import DirectoryPolicy, Tls
from starlingd.ports import Fault, Unavailable
from tests.directory.population import SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.directory.slapd import Slapd

SOON = 20.0
SHORT = 0.6
AMPLE = 2.0
"""Seconds in which a server that is well answers, on a busy machine too."""
GRACE = 0.5
"""Seconds that a busy machine may add to a time-out."""


@contextmanager
def directory(policy: DirectoryPolicy) -> Iterator[LdapDirectory]:
    made = LdapDirectory(policy)
    try:
        yield made
    finally:
        made.close()


def name_of(found: LdapDirectory, user: str = "alice") -> str:
    person = found.person(user, (), SOON)
    return person.name if person else ""


def outage_of(policy: DirectoryPolicy, user: str = "alice") -> Unavailable:
    with directory(policy) as asked, pytest.raises(Unavailable) as raised:
        asked.person(user, (), SOON)
    assert raised.value.port == "directory"
    assert raised.value.fault is not Fault.UNREACHABLE
    assert SECRET not in repr(raised.value) + str(raised.value) + raised.value.detail
    assert raised.value.__cause__ is None
    return raised.value


def plain(port: int, slapd: Slapd, **changes: object) -> DirectoryPolicy:
    return slapd.policy(uri=(f"ldap://127.0.0.1:{port}",), tls=Tls.NONE, **changes)


def bounded_outage(policy: DirectoryPolicy) -> Unavailable:
    began = time.monotonic()
    outage = outage_of(policy)
    assert time.monotonic() - began < policy.timeout + GRACE
    return outage
