"""LDAP's own: TLS, who we are, several servers, time, limits, and servers that misbehave. Asked of a real slapd."""

from __future__ import annotations

import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from starlingd.adapters.ldap import LdapDirectory, budget, groups, line, links
from starlingd.core.directory import Membership
from starlingd.core.rules import DirectoryPolicy, DirectorySchema, Tls
from starlingd.ports import Fault, Unavailable
from tests.directory import slapd as slapds
from tests.directory.ldif import entry
from tests.directory.peers import drips, hangs_up, message, peer, replies, says
from tests.directory.population import EVERYBODY, SECRET, Group, Population, Someone
from tests.directory.slapd import BASE, READER, Slapd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BIS, OLD = DirectorySchema.RFC2307BIS, DirectorySchema.RFC2307
SOON = 20.0
SHORT = 0.6
GRACE = 0.5
"""Seconds that a busy machine may add to a time-out."""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """Run a slapd that no test changes."""
    with slapds.running(tmp_path_factory.mktemp("slapd") / "s", BIS, EVERYBODY) as running:
        yield running


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Slapd]:
    """Run a slapd for one test."""
    with slapds.running(tmp_path / "own", BIS, EVERYBODY) as running:
        yield running


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Slapd]:
    """Run a second one."""
    with slapds.running(tmp_path / "other", BIS, EVERYBODY) as running:
        yield running


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


def plain(port: int, server: Slapd, **changes: object) -> DirectoryPolicy:
    return server.policy(uri=(f"ldap://127.0.0.1:{port}",), tls=Tls.NONE, **changes)


# How it is reached


def test_starttls_ldaps_ldapi_and_plain(server: Slapd) -> None:
    policies = [
        server.policy(),
        server.policy(uri=(f"ldaps://localhost:{server.ldaps_port}",), tls=Tls.LDAPS),
        server.policy(uri=(server.ldapi,), tls=Tls.NONE),
        server.policy(uri=(server.ldapi,), tls=Tls.NONE, bind_dn="", bind_password=""),  # as root, by the socket
        plain(server.port, server),
    ]
    for policy in policies:
        with directory(policy) as asked:
            assert name_of(asked) == "alice"


@pytest.mark.parametrize(("scheme", "tls"), [("ldap", Tls.STARTTLS), ("ldaps", Tls.LDAPS)])
def test_a_certificate_for_another_host_is_refused(server: Slapd, scheme: str, tls: Tls) -> None:
    port = server.port if scheme == "ldap" else server.ldaps_port
    policy = server.policy(uri=(f"{scheme}://ldap.example.org:{port}",), tls=tls)
    asked = LdapDirectory(policy, look_up=lambda _, port: line.system_look_up("127.0.0.1", port))
    with pytest.raises(Unavailable, match="certificate: Hostname mismatch") as raised:
        asked.person("alice", (), SOON)
    assert raised.value.fault is Fault.MISCONFIGURED


@pytest.mark.parametrize(("scheme", "tls"), [("ldap", Tls.STARTTLS), ("ldaps", Tls.LDAPS)])
def test_a_certificate_of_another_authority_is_refused(server: Slapd, scheme: str, tls: Tls, own: Slapd) -> None:
    port = server.port if scheme == "ldap" else server.ldaps_port
    policy = server.policy(uri=(f"{scheme}://localhost:{port}",), tls=tls, ca_file=str(own.ca_file))
    assert outage_of(policy).fault is Fault.MISCONFIGURED
    assert outage_of(server.policy(uri=policy.uri, tls=tls, ca_file="")).fault is Fault.MISCONFIGURED


def test_authorities_that_cannot_be_read_are_an_outage(server: Slapd, tmp_path: Path) -> None:
    assert outage_of(server.policy(ca_file=str(tmp_path / "none"))).fault is Fault.MISCONFIGURED


EXTENDED, BIND, DONE = b"\x78", b"\x61", b"\x65"
START_TLS = b"1.3.6.1.4.1.1466.20037"


def result(kind: bytes, code: int) -> bytes:
    """Write an operation that only tells a result."""
    return kind + bytes.fromhex("070a01") + bytes([code]) + bytes.fromhex("04000400")


@pytest.mark.parametrize("answer", [result(EXTENDED, 2), result(EXTENDED, 52), result(BIND, 0), result(DONE, 0)])
def test_without_starttls_nobody_learns_who_we_are(server: Slapd, answer: bytes) -> None:
    with peer(replies(answer)) as bad:
        outage_of(server.policy(uri=(f"ldap://localhost:{bad.port}",), timeout=SHORT))
    assert bytes(bad.heard).count(START_TLS) == 1
    assert SECRET.encode() not in bytes(bad.heard)
    assert READER.encode() not in bytes(bad.heard)


def test_nothing_that_was_said_before_tls_is_heard_after_it(server: Slapd) -> None:
    # A success of StartTLS, and in the same breath the answers to the bind and the search that would come next.
    with peer(replies(result(EXTENDED, 0), result(BIND, 0), result(DONE, 0))) as bad:
        outage_of(server.policy(uri=(f"ldap://localhost:{bad.port}",), timeout=SHORT))
    assert bytes(bad.heard).count(START_TLS) == 1
    assert SECRET.encode() not in bytes(bad.heard)


# Who we are


def test_a_wrong_password_is_our_own_fault_and_said_once(own: Slapd) -> None:
    uri = f"ldap://localhost:{own.port}"
    outage = outage_of(own.policy(bind_password="not it", uri=(uri, uri + "/")))
    assert (outage.fault, outage.detail) == (Fault.MISCONFIGURED, "bind: invalidCredentials (49)")
    assert own.did("BIND") == 1


def test_a_name_without_a_password_is_not_taken_for_a_name(own: Slapd) -> None:
    assert outage_of(own.policy(bind_password="")).fault is Fault.MISCONFIGURED
    assert own.did("BIND") == 0


def test_who_may_not_read_gets_an_outage_and_no_stranger(server: Slapd) -> None:
    assert outage_of(server.policy(bind_dn="", bind_password="")).fault is Fault.MISCONFIGURED


def test_what_is_not_below_the_base_is_not_looked_for_elsewhere(server: Slapd) -> None:
    # slapd refers to another server for what it does not hold.
    outage = outage_of(server.policy(base_dn="dc=elsewhere,dc=org"))
    assert outage.detail == "search: referral (10)"


def test_referrals_are_not_followed(tmp_path: Path) -> None:
    with peer() as elsewhere:
        away = f"ou=Away,{BASE}"
        link = entry(
            away,
            ("objectClass", "referral"),
            ("objectClass", "extensibleObject"),
            ("ou", "Away"),
            ("ref", f"ldap://127.0.0.1:{elsewhere.port}/{BASE}"),
        )
        with slapds.running(tmp_path / "s", BIS, EVERYBODY, more=link) as refers, directory(refers.policy()) as asked:
            assert name_of(asked) == "alice"
            alice = asked.person("alice", (), SOON)
            assert alice is not None
            assert asked.membership(alice, ("admins",), SOON) == Membership("admins")
            assert [len(page) for page in asked.people(("ops",), (), 100)] == [3]
    assert elsewhere.accepted == 0


# Connections


def test_a_connection_serves_many_questions(own: Slapd) -> None:
    with directory(own.policy()) as asked:
        assert {name_of(asked) for _ in range(20)} == {"alice"}
    assert (own.did("ACCEPT"), own.did("BIND")) == (2, 2)  # slapd logs a bind twice; the other is the fixture's probe


def test_threads_share_few_connections_and_get_their_own_answers(own: Slapd) -> None:
    names = [someone.name for someone in EVERYBODY.people] * 20
    with directory(own.policy(pool_size=3)) as asked, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda name: name_of(asked, name), names)) == names
    assert own.did("ACCEPT") <= 1 + 3


def test_when_all_connections_are_in_use_the_wait_is_bounded(server: Slapd) -> None:
    with directory(server.policy(pool_size=1, timeout=SHORT)) as asked:
        pages = asked.people(("admins",), (), 1)
        next(pages)
        began = time.monotonic()
        with pytest.raises(Unavailable) as raised:
            asked.person("alice", (), SOON)
        assert raised.value.fault is Fault.BUSY
        assert SHORT <= time.monotonic() - began < SHORT + GRACE
        assert len(list(pages)) > 1
        assert name_of(asked) == "alice"


def test_a_restarted_server_is_told_again_who_we_are(own: Slapd) -> None:
    with directory(own.policy()) as asked:
        assert name_of(asked) == "alice"
        own.stop()
        own.start()
        assert name_of(asked) == "alice"


def test_a_server_that_drops_us_after_each_answer_costs_no_login(own: Slapd) -> None:
    with directory(own.policy(uri=(own.ldapi,), tls=Tls.NONE)) as asked:
        for _ in range(3):
            assert name_of(asked) == "alice"
            for link in [link for kept in asked._links._idle.values() for link in kept]:  # noqa: SLF001  as if the line were cut
                link._connection.socket.shutdown(socket.SHUT_RDWR)  # noqa: SLF001


def test_what_is_closed_keeps_no_connection(own: Slapd) -> None:
    asked = LdapDirectory(own.policy())
    assert name_of(asked) == "alice"
    asked.close()
    asked.close()
    assert name_of(asked) == "alice"
    assert not any(asked._links._idle.values())  # noqa: SLF001


# Several servers


def test_the_second_address_answers_when_the_first_is_down(own: Slapd, server: Slapd) -> None:
    own.stop()
    policy = plain(own.port, server)
    with directory(server.policy(tls=Tls.NONE, uri=(*policy.uri, f"ldap://127.0.0.1:{server.port}"))) as asked:
        assert name_of(asked) == "alice"


def test_the_first_address_gets_its_place_back(own: Slapd, other: Slapd, monkeypatch: pytest.MonkeyPatch) -> None:
    with directory(own.policy(tls=Tls.NONE, uri=tuple(f"ldap://127.0.0.1:{it.port}" for it in (own, other)))) as asked:
        own.stop()
        assert name_of(asked) == "alice"
        own.start()
        before = own.did("SRCH")
        assert name_of(asked) == "alice"
        assert own.did("SRCH") == before  # it comes last for a while
        monkeypatch.setattr(links, "HOLD", 0.0)
        assert name_of(asked) == "alice"
        assert own.did("SRCH") > before


def test_when_all_are_down_the_outage_comes_at_once(own: Slapd, other: Slapd) -> None:
    own.stop()
    other.stop()
    began = time.monotonic()
    outage_of(own.policy(tls=Tls.NONE, uri=tuple(f"ldap://127.0.0.1:{it.port}" for it in (own, other))))
    assert time.monotonic() - began < GRACE


def test_an_address_with_a_wrong_certificate_leaves_the_others(server: Slapd, own: Slapd) -> None:
    with directory(server.policy(uri=(f"ldap://localhost:{own.port}", f"ldap://localhost:{server.port}"))) as asked:
        assert name_of(asked) == "alice"


def test_an_address_that_swallows_everything_leaves_time_for_the_next(server: Slapd) -> None:
    with peer() as hole:
        uris = (f"ldap://localhost:{hole.port}", f"ldap://localhost:{server.port}")
        with directory(server.policy(uri=uris, timeout=2 * SHORT)) as asked:
            began = time.monotonic()
            assert name_of(asked) == "alice"
            assert SHORT <= time.monotonic() - began < 2 * SHORT
            began = time.monotonic()
            assert name_of(asked) == "alice"
            assert time.monotonic() - began < SHORT


# Time


def bounded_outage(policy: DirectoryPolicy) -> Unavailable:
    began = time.monotonic()
    outage = outage_of(policy)
    assert time.monotonic() - began < policy.timeout + GRACE
    return outage


@pytest.mark.parametrize("tls", [Tls.NONE, Tls.STARTTLS, Tls.LDAPS])
def test_a_server_that_never_answers_costs_the_time_out(server: Slapd, tls: Tls) -> None:
    with peer() as hole:
        uri = f"{'ldaps' if tls is Tls.LDAPS else 'ldap'}://localhost:{hole.port}"
        outage = bounded_outage(server.policy(uri=(uri,), tls=tls, timeout=SHORT))
    assert "no answer within" in outage.detail


def test_a_server_that_drips_costs_the_time_out(server: Slapd) -> None:
    with peer(drips) as dripping:
        assert "no answer within" in bounded_outage(plain(dripping.port, server, timeout=SHORT)).detail


def test_a_frozen_server_costs_the_time_out_and_is_asked_again_later(
    own: Slapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "HOLD", 0.0)
    with directory(own.policy(timeout=SHORT)) as asked:
        assert name_of(asked) == "alice"
        own.signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(Unavailable, match="no answer within"):
            asked.person("alice", (), SOON)
        assert time.monotonic() - began < SHORT + GRACE
        own.signal(signal.SIGCONT)
        assert name_of(asked) == "alice"


def test_the_callers_time_is_kept_to_as_well(server: Slapd) -> None:
    with peer() as hole, directory(plain(hole.port, server, timeout=SOON)) as asked:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            asked.person("alice", (), SHORT)
        assert time.monotonic() - began < SHORT + GRACE


def test_a_name_that_takes_for_ever_to_look_up_costs_the_time_out(server: Slapd) -> None:
    over = threading.Event()

    def look_up(_host: str, _port: int) -> list[object]:
        over.wait()
        return []

    asked = LdapDirectory(server.policy(uri=("ldap://of.no.name",), timeout=SHORT), look_up=look_up)  # type: ignore[arg-type]
    began = time.monotonic()
    with pytest.raises(Unavailable, match="no answer within"):
        asked.person("alice", (), SOON)
    assert time.monotonic() - began < SHORT + GRACE
    over.set()
    with pytest.raises(Unavailable, match="no address"):
        asked.person("alice", (), SOON)


@pytest.mark.parametrize("host", ["of.no.name.invalid", "a" * 80, "x..y", "é" * 70])
def test_a_host_that_is_none_is_an_outage(server: Slapd, host: str) -> None:
    bounded_outage(server.policy(uri=(f"ldap://{host}",), timeout=3.0))


@pytest.mark.parametrize("uri", ["ldap://[::1", "ldap://a:b", "http://localhost", "ldap://", "localhost", ""])
def test_an_address_that_is_none_is_our_own_fault(server: Slapd, uri: str) -> None:
    with pytest.raises(Unavailable) as raised:
        LdapDirectory(server.policy(uri=(uri,)))
    assert raised.value.fault is Fault.MISCONFIGURED


# Servers that misbehave

GARBAGE = {
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "zeros": bytes(64),
    "answer to another question": message(0x7FFFFFFF, result(BIND, 0)),
    "farewell": message(0, b"\x78\x1f\x0a\x01\x34\x04\x00\x04\x00\x8a\x16" + b"1.3.6.1.4.1.1466.20036"),
    "nested": b"\x30\x84\x00\x00\x10\x00" + b"\x30\x80" * 2048,
    "empty": bytes.fromhex("3000"),
    "not BER": b"\xff" * 300,
    "length of everything": b"\x30\x84\xff\xff\xff\xff" + bytes(1000),
    "length of length": b"\x30\xff" + b"\xff" * 127 + bytes(1000),
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
def test_nonsense_is_an_outage(server: Slapd, answer: bytes) -> None:
    with peer(says(answer)) as bad:
        bounded_outage(plain(bad.port, server, timeout=SHORT))


@pytest.mark.parametrize(
    "answer",
    [
        b"\x61\x08\x0a\x02\x7f\xff\x04\x00\x04\x00",  # a result that nobody knows
        result(BIND, 14),  # more is wanted
        result(BIND, 10),  # somebody else is to be asked
        result(DONE, 0),  # an answer to another kind of question
        b"\x61\x00",  # nothing at all
        b"\x61\x07\x0a\x01\x00\x04\x00\x04\x7f",  # a text longer than the message
        b"\x64\x04\x04\x00\x30\x00",  # an entry, and no end
    ],
)
def test_an_answer_that_is_none_lets_nobody_in(server: Slapd, answer: bytes) -> None:
    with peer(replies(answer)) as bad:
        bounded_outage(plain(bad.port, server, timeout=SHORT))


def test_an_empty_answer_from_a_stranger_is_not_heard_without_tls(server: Slapd) -> None:
    # Who can speak for the server could say "no such user": TLS is what keeps them from it.
    with peer(replies(result(BIND, 0))) as bad:
        outage_of(server.policy(uri=(f"ldaps://localhost:{bad.port}",), tls=Tls.LDAPS, timeout=SHORT))
    assert READER.encode() not in bytes(bad.heard)


def test_a_server_that_hangs_up_is_an_outage(server: Slapd) -> None:
    with peer(hangs_up) as bad:
        bounded_outage(plain(bad.port, server, timeout=SHORT))


def test_an_answer_without_end_is_an_outage(server: Slapd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MAX_RECEIVED", 60_000)
    with directory(server.policy()) as asked:
        assert name_of(asked, "henry") == "henry"
        with pytest.raises(Unavailable, match="too long"):
            asked.person("henry", ("description",), SOON)
        assert name_of(asked) == "alice"


# Limits and filters


def test_a_part_of_everybody_is_not_everybody(tmp_path: Path) -> None:
    with slapds.running(tmp_path / "s", BIS, EVERYBODY, size_limit="4") as limits, directory(limits.policy()) as asked:
        assert name_of(asked) == "alice"
        with pytest.raises(Unavailable, match="sizeLimitExceeded"):
            list(asked.people(("admins",), (), 2))


@pytest.mark.parametrize("broken", ["(uid={user}", "uid={user}", "()", "(&(uid={user})(x))", ""])
def test_a_filter_that_makes_no_sense_is_our_own_fault(server: Slapd, broken: str) -> None:
    assert outage_of(server.policy(user_filter=broken)).fault is Fault.MISCONFIGURED


def test_a_group_called_like_a_person_lends_its_members_nothing(tmp_path: Path) -> None:
    people = Population(
        people=(Someone("alice"), Someone("mallory")),
        groups=(Group("alice", ("mallory",)), Group("admins", ("alice",))),
    )
    with slapds.running(tmp_path / "s", OLD, people) as old:
        both = "(&(objectClass=posixGroup)(|(memberUid={user})(description={dn})))"
        for policy in (old.policy(), old.policy(group_filter=both)):
            with directory(policy) as asked:
                mallory = asked.person("mallory", (), SOON)
                assert mallory is not None
                assert asked.membership(mallory, ("admins",), SOON) == Membership()


def test_groups_deeper_than_anybody_needs_are_an_outage_and_not_a_no(
    server: Slapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    with directory(server.policy()) as asked:
        ivan = asked.person("ivan", (), SOON)
        assert ivan is not None
        monkeypatch.setattr(groups, "DEEPEST", 10)
        with pytest.raises(Unavailable, match="levels deep"):
            asked.membership(ivan, ("admins",), SOON)
        with pytest.raises(Unavailable, match="levels deep"):
            list(asked.people(("loop3",), (), 10))


def test_more_groups_than_anybody_is_in_are_an_outage_and_not_a_no(
    server: Slapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    with directory(server.policy()) as asked:
        ivan = asked.person("ivan", (), SOON)
        assert ivan is not None
        monkeypatch.setattr(groups, "MOST_GROUPS", 10)
        with pytest.raises(Unavailable, match="more than 10 groups"):
            asked.membership(ivan, ("admins",), SOON)


def test_a_group_outside_of_the_base_is_our_own_fault(server: Slapd) -> None:
    with directory(server.policy(base_dn=f"ou=People,{BASE}")) as asked:
        alice = asked.person("alice", (), SOON)
        assert alice is not None
        with pytest.raises(Unavailable, match="not below base_dn"):
            asked.membership(alice, (slapds.group_dn(EVERYBODY.groups[0]),), SOON)


def test_a_group_filter_that_hides_who_is_listed_cannot_tell_everybody(server: Slapd) -> None:
    policy = server.policy(group_filter="(&(objectClass=groupOfNames)(member={dn}*))")
    with directory(policy) as asked, pytest.raises(Unavailable, match="does not show which attribute"):
        list(asked.people(("admins",), (), 10))
