"""Values that the contract of the stores is asked with."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from starlingd.core.grace import Entry, Key, Moment
from starlingd.core.model import Factor, Process, Reason
from starlingd.core.records import Lease, Record
from starlingd.core.rules import Grace
from starlingd.ports import Store

RECORD = Record(
    login_id="one",
    user="alice",
    service="sshd",
    caller=Process(50, 500),
    parent=Process(40, 400),
    client_ip="198.51.100.7",
    tty="ssh",
    auth_info="publickey ssh-ed25519 AAAA\n",
    factor=Factor.PUSH,
    reason=Reason.PUSH_APPROVED,
    boot="boot-1",
    made=1234.000123,
)

Kept = TypeVar("Kept", Record, Lease)
KEY = Key("alice", "198.51.100.7", "", "")
OTHER_KEY = Key("bob", "2001:db8::1", "SHA256:abc", "sshd")
NOW = Moment(1_700_000_000.25, 1234.5, "boot-1")
ENTRY = Entry("1000 alice", NOW, NOW)
RULE = Grace(soft_timeout=60, hard_timeout=600, reuse_limit=3)
LEASE = Lease(
    login_id="one",
    user="alice",
    service="sshd",
    client_ip="198.51.100.7",
    tty="ssh",
    process=Process(40, 400),
    boot="boot-1",
    since=1_700_000_001.5,
    factor=Factor.PUSH,
    reason=Reason.PUSH_APPROVED,
)


def later(seconds: float) -> Moment:
    return Moment(NOW.wall + seconds, NOW.boottime + seconds, NOW.boot)


def unkeepable(kept: Kept) -> Kept:
    """Give it a user name that no store can write: half of a surrogate pair."""
    return replace(kept, user="\ud800")


def earn(store: Store, key: Key = KEY, entry: Entry = ENTRY, login_id: str = "earned") -> None:
    """Open a session whose login was a real authentication."""
    store.open_session(replace(LEASE, login_id=login_id), (key, entry))


def reuses(store: Store, key: Key = KEY) -> int:
    entry = store.grace_entry(key)
    assert entry is not None
    return entry.reuses


def by_id(store: Store) -> dict[str, Record]:
    return {record.login_id: record for record in store.records()}
