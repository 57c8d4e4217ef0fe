"""Whom the provider trusts: an untrusted or wrong certificate is our configuration's fault, never an outage."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from starlingd.core.model import PushStatus
from starlingd.ports import Fault, Unavailable
from tests.unit.starling_peer import Authority, Greeter, Peer, http, provider, scripted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PENDING = http(200, {"status": "pending"})
PAST = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def outage_of(call: Callable[[], object]) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        call()
    return caught.value


def test_an_authority_that_is_not_ours_is_a_misconfiguration(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path)
    with Peer(scripted(PENDING), stranger.tls) as peer, provider(authority.file, peer.url) as starling:
        assert outage_of(lambda: starling.check_push("r", 5.0)).fault is Fault.MISCONFIGURED
        assert outage_of(lambda: starling.probe_token(5.0)).fault is Fault.MISCONFIGURED
    assert peer.seen == []


@pytest.mark.parametrize(
    ("names", "validity", "host"),
    [
        (["other.example"], {}, "localhost"),
        (["localhost"], {}, "127.0.0.1"),
        (["*.example"], {}, "localhost"),
        (["localhost"], {"not_before": PAST, "not_after": PAST.replace(month=6)}, "localhost"),
    ],
)
def test_a_certificate_that_is_wrong_is_a_misconfiguration(
    authority: Authority, names: list[str], validity: dict[str, datetime], host: str
) -> None:
    with (
        Peer(scripted(PENDING), authority.server_context(*names, **validity)) as peer,
        provider(authority.file, f"https://{host}:{peer.port}") as starling,
    ):
        assert outage_of(lambda: starling.check_push("r", 5.0)).fault is Fault.MISCONFIGURED
    assert peer.seen == []


def test_an_address_in_the_certificate_is_good_for_that_address(authority: Authority) -> None:
    with (
        Peer(scripted(PENDING), authority.tls) as peer,
        provider(authority.file, f"https://127.0.0.1:{peer.port}") as starling,
    ):
        assert starling.check_push("r", 5.0) is PushStatus.PENDING


def test_tls_1_2_is_enough(authority: Authority) -> None:
    context = authority.server_context("localhost")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Peer(scripted(PENDING), context) as peer, provider(authority.file, peer.url) as starling:
        assert starling.check_push("r", 5.0) is PushStatus.PENDING


def test_a_server_without_tls_is_unreachable(authority: Authority) -> None:
    with Greeter() as peer, provider(authority.file, peer.url) as starling:
        assert outage_of(lambda: starling.check_push("r", 5.0)).fault is Fault.UNREACHABLE


def test_a_server_without_a_certificate_is_unreachable(authority: Authority) -> None:
    with (
        Peer(scripted(PENDING), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as peer,
        provider(authority.file, peer.url) as starling,
    ):
        assert outage_of(lambda: starling.check_push("r", 5.0)).fault is Fault.UNREACHABLE
    assert peer.seen == []


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_authorities_that_cannot_be_read_are_a_misconfiguration(tmp_path: Path, content: str | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)

    def make() -> None:
        with provider(ca_file, "https://localhost"):
            pass

    assert outage_of(make).fault is Fault.MISCONFIGURED


@pytest.mark.parametrize("url", ["http://localhost", "localhost", "ftp://localhost", ""])
def test_only_https_is_spoken(authority: Authority, url: str) -> None:
    def make() -> None:
        with provider(authority.file, url):
            pass

    assert outage_of(make).fault is Fault.MISCONFIGURED
