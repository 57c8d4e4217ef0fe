"""LDAP servers that are slow, frozen or talk nonsense: each costs the time-out at most, and is never an answer."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from starlingd.adapters.ldap import LdapDirectory, budget, links
from starlingd.core.rules import Tls
from starlingd.ports import Fault, Unavailable
from tests.contract.ldap_questions import (
    AMPLE,
    GRACE,
    SHORT,
    SOON,
    bounded_outage,
    directory,
    name_of,
    outage_of,
    plain,
)
from tests.directory.peers import BIND, DONE, drips, hangs_up, message, peer, replies, result, says
from tests.directory.slapd import READER, Slapd

# Time


@pytest.mark.parametrize("tls", [Tls.NONE, Tls.STARTTLS, Tls.LDAPS])
def test_a_server_that_never_answers_costs_the_time_out(slapd: Slapd, tls: Tls) -> None:
    with peer() as hole:
        uri = f"{'ldaps' if tls is Tls.LDAPS else 'ldap'}://localhost:{hole.port}"
        outage = bounded_outage(slapd.policy(uri=(uri,), tls=tls, timeout=SHORT))
    assert "no answer within" in outage.detail


def test_a_server_that_drips_costs_the_time_out(slapd: Slapd) -> None:
    with peer(drips) as dripping:
        assert "no answer within" in bounded_outage(plain(dripping.port, slapd, timeout=SHORT)).detail


def test_a_frozen_server_costs_the_time_out_and_is_asked_again_later(
    own_slapd: Slapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "HOLD", 0.0)
    with directory(own_slapd.policy(timeout=AMPLE)) as asked:
        assert name_of(asked) == "alice"
        own_slapd.signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(Unavailable, match="no answer within"):
            asked.person("alice", (), SOON)
        assert time.monotonic() - began < AMPLE + GRACE
        own_slapd.signal(signal.SIGCONT)
        assert name_of(asked) == "alice"


def test_the_callers_time_is_kept_to_as_well(slapd: Slapd) -> None:
    with peer() as hole, directory(plain(hole.port, slapd, timeout=SOON)) as asked:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            asked.person("alice", (), SHORT)
        assert time.monotonic() - began < SHORT + GRACE


def test_a_name_that_takes_for_ever_to_look_up_costs_the_time_out(slapd: Slapd) -> None:
    over = threading.Event()

    def look_up(_host: str, _port: int) -> list[object]:
        over.wait()
        return []

    asked = LdapDirectory(slapd.policy(uri=("ldap://of.no.name",), timeout=SHORT), look_up=look_up)  # type: ignore[arg-type]
    began = time.monotonic()
    with pytest.raises(Unavailable, match="no answer within"):
        asked.person("alice", (), SOON)
    assert time.monotonic() - began < SHORT + GRACE
    over.set()
    with pytest.raises(Unavailable, match="no address"):
        asked.person("alice", (), SOON)


@pytest.mark.parametrize("host", ["of.no.name.invalid", "a" * 80, "x..y", "é" * 70])
def test_a_host_that_is_none_is_an_outage(slapd: Slapd, host: str) -> None:
    bounded_outage(slapd.policy(uri=(f"ldap://{host}",), timeout=3.0))


@pytest.mark.parametrize("uri", ["ldap://[::1", "ldap://a:b", "http://localhost", "ldap://", "localhost", ""])
def test_an_address_that_is_none_is_our_own_fault(slapd: Slapd, uri: str) -> None:
    with pytest.raises(Unavailable) as raised:
        LdapDirectory(slapd.policy(uri=(uri,)))
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
def test_nonsense_is_an_outage(slapd: Slapd, answer: bytes) -> None:
    with peer(says(answer)) as bad:
        bounded_outage(plain(bad.port, slapd, timeout=SHORT))


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
def test_an_answer_that_is_none_lets_nobody_in(slapd: Slapd, answer: bytes) -> None:
    with peer(replies(answer)) as bad:
        bounded_outage(plain(bad.port, slapd, timeout=SHORT))


def test_an_empty_answer_from_a_stranger_is_not_heard_without_tls(slapd: Slapd) -> None:
    # Who can speak for the server could say "no such user": TLS is what keeps them from it.
    with peer(replies(result(BIND, 0))) as bad:
        outage_of(slapd.policy(uri=(f"ldaps://localhost:{bad.port}",), tls=Tls.LDAPS, timeout=SHORT))
    assert READER.encode() not in bytes(bad.heard)


def test_a_server_that_hangs_up_is_an_outage(slapd: Slapd) -> None:
    with peer(hangs_up) as bad:
        bounded_outage(plain(bad.port, slapd, timeout=SHORT))


def test_an_answer_without_end_is_an_outage(slapd: Slapd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MAX_RECEIVED", 60_000)
    with directory(slapd.policy()) as asked:
        assert name_of(asked, "henry") == "henry"
        with pytest.raises(Unavailable, match="too long"):
            asked.person("henry", ("description",), SOON)
        assert name_of(asked) == "alice"
