"""LDAP's own: TLS, who we are, connections, several servers, limits and filters. Asked of a real slapd."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from starlingd.adapters.ldap import LdapDirectory, groups, line, links
from starlingd.core.directory import Membership
from starlingd.core.rules import DirectorySchema, Tls
from starlingd.ports import Fault, Unavailable
from tests.contract.ldap_questions import AMPLE, GRACE, SHORT, SOON, directory, name_of, outage_of, plain
from tests.directory import slapd as slapds
from tests.directory.ldif import entry
from tests.directory.peers import BIND, DONE, EXTENDED, peer, replies, result
from tests.directory.population import EVERYBODY, SECRET, Group, Population, Someone
from tests.directory.slapd import BASE, READER, Slapd

if TYPE_CHECKING:
    from pathlib import Path

BIS, OLD = DirectorySchema.RFC2307BIS, DirectorySchema.RFC2307


# How it is reached


def test_starttls_ldaps_ldapi_and_plain(slapd: Slapd) -> None:
    policies = [
        slapd.policy(),
        slapd.policy(uri=(f"ldaps://localhost:{slapd.ldaps_port}",), tls=Tls.LDAPS),
        slapd.policy(uri=(slapd.ldapi,), tls=Tls.NONE),
        slapd.policy(uri=(slapd.ldapi,), tls=Tls.NONE, bind_dn="", bind_password=""),  # as root, by the socket
        plain(slapd.port, slapd),
    ]
    for policy in policies:
        with directory(policy) as asked:
            assert name_of(asked) == "alice"


@pytest.mark.parametrize(("scheme", "tls"), [("ldap", Tls.STARTTLS), ("ldaps", Tls.LDAPS)])
def test_a_certificate_for_another_host_is_refused(slapd: Slapd, scheme: str, tls: Tls) -> None:
    port = slapd.port if scheme == "ldap" else slapd.ldaps_port
    policy = slapd.policy(uri=(f"{scheme}://ldap.example.org:{port}",), tls=tls)
    asked = LdapDirectory(policy, look_up=lambda _, port: line.system_look_up("127.0.0.1", port))
    with pytest.raises(Unavailable, match="certificate: Hostname mismatch") as raised:
        asked.person("alice", (), SOON)
    assert raised.value.fault is Fault.MISCONFIGURED


@pytest.mark.parametrize(("scheme", "tls"), [("ldap", Tls.STARTTLS), ("ldaps", Tls.LDAPS)])
def test_a_certificate_of_another_authority_is_refused(slapd: Slapd, scheme: str, tls: Tls, own_slapd: Slapd) -> None:
    port = slapd.port if scheme == "ldap" else slapd.ldaps_port
    policy = slapd.policy(uri=(f"{scheme}://localhost:{port}",), tls=tls, ca_file=str(own_slapd.ca_file))
    assert outage_of(policy).fault is Fault.MISCONFIGURED
    assert outage_of(slapd.policy(uri=policy.uri, tls=tls, ca_file="")).fault is Fault.MISCONFIGURED


def test_authorities_that_cannot_be_read_are_an_outage(slapd: Slapd, tmp_path: Path) -> None:
    assert outage_of(slapd.policy(ca_file=str(tmp_path / "none"))).fault is Fault.MISCONFIGURED


START_TLS = b"1.3.6.1.4.1.1466.20037"


@pytest.mark.parametrize("answer", [result(EXTENDED, 2), result(EXTENDED, 52), result(BIND, 0), result(DONE, 0)])
def test_without_starttls_nobody_learns_who_we_are(slapd: Slapd, answer: bytes) -> None:
    with peer(replies(answer)) as bad:
        outage_of(slapd.policy(uri=(f"ldap://localhost:{bad.port}",), timeout=SHORT))
    assert bytes(bad.heard).count(START_TLS) == 1
    assert SECRET.encode() not in bytes(bad.heard)
    assert READER.encode() not in bytes(bad.heard)


def test_nothing_that_was_said_before_tls_is_heard_after_it(slapd: Slapd) -> None:
    # A success of StartTLS, and in the same breath the answers to the bind and the search that would come next.
    with peer(replies(result(EXTENDED, 0), result(BIND, 0), result(DONE, 0))) as bad:
        outage_of(slapd.policy(uri=(f"ldap://localhost:{bad.port}",), timeout=SHORT))
    assert bytes(bad.heard).count(START_TLS) == 1
    assert SECRET.encode() not in bytes(bad.heard)


# Who we are


def test_a_wrong_password_is_our_own_fault_and_said_once(own_slapd: Slapd) -> None:
    uri = f"ldap://localhost:{own_slapd.port}"
    outage = outage_of(own_slapd.policy(bind_password="not it", uri=(uri, uri + "/")))
    assert (outage.fault, outage.detail) == (Fault.MISCONFIGURED, "bind: invalidCredentials (49)")
    assert own_slapd.did("BIND") == 1


def test_a_name_without_a_password_is_not_taken_for_a_name(own_slapd: Slapd) -> None:
    assert outage_of(own_slapd.policy(bind_password="")).fault is Fault.MISCONFIGURED
    assert own_slapd.did("BIND") == 0


def test_who_may_not_read_gets_an_outage_and_no_stranger(slapd: Slapd) -> None:
    assert outage_of(slapd.policy(bind_dn="", bind_password="")).fault is Fault.MISCONFIGURED


def test_what_is_not_below_the_base_is_not_looked_for_elsewhere(slapd: Slapd) -> None:
    # slapd refers to another server for what it does not hold.
    outage = outage_of(slapd.policy(base_dn="dc=elsewhere,dc=org"))
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


def test_a_connection_serves_many_questions(own_slapd: Slapd) -> None:
    with directory(own_slapd.policy()) as asked:
        assert {name_of(asked) for _ in range(20)} == {"alice"}
    assert (own_slapd.did("ACCEPT"), own_slapd.did("BIND")) == (
        2,
        2,
    )  # slapd logs a bind twice; the other is the fixture's probe


def test_threads_share_few_connections_and_get_their_own_answers(own_slapd: Slapd) -> None:
    names = [someone.name for someone in EVERYBODY.people] * 20
    with directory(own_slapd.policy(pool_size=3)) as asked, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda name: name_of(asked, name), names)) == names
    assert own_slapd.did("ACCEPT") <= 1 + 3


def test_when_all_connections_are_in_use_the_wait_is_bounded(slapd: Slapd) -> None:
    with directory(slapd.policy(pool_size=1, timeout=SHORT)) as asked:
        pages = asked.people(("admins",), (), 1)
        next(pages)
        began = time.monotonic()
        with pytest.raises(Unavailable) as raised:
            asked.person("alice", (), SOON)
        assert raised.value.fault is Fault.BUSY
        assert SHORT <= time.monotonic() - began < SHORT + GRACE
        assert len(list(pages)) > 1
        assert name_of(asked) == "alice"


def test_a_restarted_server_is_told_again_who_we_are(own_slapd: Slapd) -> None:
    with directory(own_slapd.policy()) as asked:
        assert name_of(asked) == "alice"
        own_slapd.stop()
        own_slapd.start()
        assert name_of(asked) == "alice"


def test_a_server_that_drops_us_after_each_answer_costs_no_login(own_slapd: Slapd) -> None:
    with directory(own_slapd.policy(uri=(own_slapd.ldapi,), tls=Tls.NONE)) as asked:
        for _ in range(3):
            assert name_of(asked) == "alice"
            for link in [link for kept in asked._links._idle.values() for link in kept]:  # noqa: SLF001  as if the line were cut
                link._connection.socket.shutdown(socket.SHUT_RDWR)  # noqa: SLF001


def test_what_is_closed_keeps_no_connection(own_slapd: Slapd) -> None:
    asked = LdapDirectory(own_slapd.policy())
    assert name_of(asked) == "alice"
    asked.close()
    asked.close()
    assert name_of(asked) == "alice"
    assert not any(asked._links._idle.values())  # noqa: SLF001


# Several servers


def test_the_second_address_answers_when_the_first_is_down(own_slapd: Slapd, slapd: Slapd) -> None:
    own_slapd.stop()
    policy = plain(own_slapd.port, slapd)
    with directory(slapd.policy(tls=Tls.NONE, uri=(*policy.uri, f"ldap://127.0.0.1:{slapd.port}"))) as asked:
        assert name_of(asked) == "alice"


def test_the_first_address_gets_its_place_back(
    own_slapd: Slapd, other_slapd: Slapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    with directory(
        own_slapd.policy(tls=Tls.NONE, uri=tuple(f"ldap://127.0.0.1:{it.port}" for it in (own_slapd, other_slapd)))
    ) as asked:
        own_slapd.stop()
        assert name_of(asked) == "alice"
        own_slapd.start()
        before = own_slapd.did("SRCH")
        assert name_of(asked) == "alice"
        assert own_slapd.did("SRCH") == before  # it comes last for a while
        monkeypatch.setattr(links, "HOLD", 0.0)
        assert name_of(asked) == "alice"
        assert own_slapd.did("SRCH") > before


def test_when_all_are_down_the_outage_comes_at_once(own_slapd: Slapd, other_slapd: Slapd) -> None:
    own_slapd.stop()
    other_slapd.stop()
    began = time.monotonic()
    outage_of(
        own_slapd.policy(tls=Tls.NONE, uri=tuple(f"ldap://127.0.0.1:{it.port}" for it in (own_slapd, other_slapd)))
    )
    assert time.monotonic() - began < GRACE


def test_an_address_with_a_wrong_certificate_leaves_the_others(slapd: Slapd, own_slapd: Slapd) -> None:
    with directory(slapd.policy(uri=(f"ldap://localhost:{own_slapd.port}", f"ldap://localhost:{slapd.port}"))) as asked:
        assert name_of(asked) == "alice"


def test_an_address_that_swallows_everything_leaves_time_for_the_next(slapd: Slapd) -> None:
    with peer() as hole:
        uris = (f"ldap://localhost:{hole.port}", f"ldap://localhost:{slapd.port}")
        with directory(slapd.policy(uri=uris, timeout=2 * AMPLE)) as asked:
            began = time.monotonic()
            assert name_of(asked) == "alice"
            assert AMPLE <= time.monotonic() - began < 2 * AMPLE
            began = time.monotonic()
            assert name_of(asked) == "alice"
            assert time.monotonic() - began < AMPLE


# Limits and filters


def test_a_part_of_everybody_is_not_everybody(tmp_path: Path) -> None:
    with slapds.running(tmp_path / "s", BIS, EVERYBODY, size_limit="4") as limits, directory(limits.policy()) as asked:
        assert name_of(asked) == "alice"
        with pytest.raises(Unavailable, match="sizeLimitExceeded"):
            list(asked.people(("admins",), (), 2))


@pytest.mark.parametrize("broken", ["(uid={user}", "uid={user}", "()", "(&(uid={user})(x))", ""])
def test_a_filter_that_makes_no_sense_is_our_own_fault(slapd: Slapd, broken: str) -> None:
    assert outage_of(slapd.policy(user_filter=broken)).fault is Fault.MISCONFIGURED


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
    slapd: Slapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    with directory(slapd.policy()) as asked:
        ivan = asked.person("ivan", (), SOON)
        assert ivan is not None
        monkeypatch.setattr(groups, "DEEPEST", 10)
        with pytest.raises(Unavailable, match="levels deep"):
            asked.membership(ivan, ("admins",), SOON)
        with pytest.raises(Unavailable, match="levels deep"):
            list(asked.people(("loop3",), (), 10))


def test_more_groups_than_anybody_is_in_are_an_outage_and_not_a_no(
    slapd: Slapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    with directory(slapd.policy()) as asked:
        ivan = asked.person("ivan", (), SOON)
        assert ivan is not None
        monkeypatch.setattr(groups, "MOST_GROUPS", 10)
        with pytest.raises(Unavailable, match="more than 10 groups"):
            asked.membership(ivan, ("admins",), SOON)


def test_a_group_outside_of_the_base_is_our_own_fault(slapd: Slapd) -> None:
    with directory(slapd.policy(base_dn=f"ou=People,{BASE}")) as asked:
        alice = asked.person("alice", (), SOON)
        assert alice is not None
        with pytest.raises(Unavailable, match="not below base_dn"):
            asked.membership(alice, (slapds.group_dn(EVERYBODY.groups[0]),), SOON)


def test_a_group_filter_that_hides_who_is_listed_cannot_tell_everybody(slapd: Slapd) -> None:
    policy = slapd.policy(group_filter="(&(objectClass=groupOfNames)(member={dn}*))")
    with directory(policy) as asked, pytest.raises(Unavailable, match="does not show which attribute"):
        list(asked.people(("admins",), (), 10))
