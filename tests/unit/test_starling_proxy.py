"""The way through a proxy, which only the configuration can name."""

from __future__ import annotations

import base64
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from starlingd.core.model import PushStatus
from starlingd.ports import Fault, Unavailable
from starlingd.web.line import parse_proxy
from tests.unit.starling_peer import Authority, Peer, http, provider, scripted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.starling_peer import Reaction, Seen

PENDING = http(200, {"status": "pending"})
BRIEF = 0.25


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def tunnel(seen: Seen) -> Reaction:
    """Be a CONNECT proxy."""
    host, _, port = seen.target.rpartition(":")

    def carry(near: socket.socket) -> None:
        near.sendall(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
        with socket.create_connection((host.strip("[]"), int(port)), 5) as far:
            back = threading.Thread(target=pump, args=(far, near))
            back.start()
            pump(near, far)
            back.join(10)

    return carry


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def outage_through(authority: Authority, proxy: str, http_timeout: float = 5.0) -> Unavailable:
    with (
        provider(authority.file, "https://localhost:9", proxy=proxy, http_timeout=http_timeout) as starling,
        pytest.raises(Unavailable) as caught,
    ):
        starling.check_push("r", 60.0)
    return caught.value


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_configured_proxy_is_used_with_its_password(authority: Authority, host: str) -> None:
    with Peer(scripted(PENDING), authority.tls) as service, Peer(tunnel, None) as proxy:
        url = f"http://j%40ne:p%3Aw%2F%C3%BC@127.0.0.1:{proxy.port}"
        with provider(authority.file, f"https://{host}:{service.port}", proxy=url) as starling:
            assert starling.check_push("r", 5.0) is PushStatus.PENDING
            assert starling.check_push("r", 5.0) is PushStatus.PENDING
    (connect,) = proxy.seen
    assert (connect.method, connect.target) == ("CONNECT", f"{host}:{service.port}")
    assert connect.headers["proxy-authorization"] == "Basic " + base64.b64encode("j@ne:p:w/ü".encode()).decode()
    assert all("proxy-authorization" not in seen.headers for seen in service.seen)


def test_a_proxy_without_a_password_is_sent_none(authority: Authority) -> None:
    with (
        Peer(scripted(PENDING), authority.tls) as service,
        Peer(tunnel, None) as proxy,
        provider(authority.file, service.url, proxy=f"http://127.0.0.1:{proxy.port}") as starling,
    ):
        assert starling.check_push("r", 5.0) is PushStatus.PENDING
    assert "proxy-authorization" not in proxy.seen[0].headers


def test_a_proxy_cannot_stand_in_for_the_service(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path)
    with (
        Peer(scripted(PENDING), stranger.tls) as service,
        Peer(tunnel, None) as proxy,
        provider(authority.file, service.url, proxy=f"http://127.0.0.1:{proxy.port}") as starling,
        pytest.raises(Unavailable) as caught,
    ):
        starling.check_push("r", 5.0)
    assert caught.value.fault is Fault.MISCONFIGURED
    assert service.seen == []


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (http(407, None, {"Proxy-Authenticate": "Basic"}), Fault.MISCONFIGURED),
        (http(403), Fault.MISCONFIGURED),
        (http(502), Fault.UNREACHABLE),
        (http(503), Fault.UNREACHABLE),
        (http(504), Fault.UNREACHABLE),
        (http(500), Fault.BROKEN),
        (http(301), Fault.BROKEN),
        (http(200, b"too much"), Fault.BROKEN),
        (b"SSH-2.0-x\r\n\r\n", Fault.BROKEN),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, Fault.BROKEN),
        (b"", Fault.UNREACHABLE),
    ],
)
def test_a_proxy_that_refuses_is_told_from_one_that_cannot_reach(
    authority: Authority, answer: bytes, fault: Fault
) -> None:
    with Peer(lambda _: answer, None) as proxy:
        assert outage_through(authority, f"http://127.0.0.1:{proxy.port}").fault is fault


def test_a_proxy_that_is_down_is_unreachable(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert outage_through(authority, f"http://127.0.0.1:{port}").fault is Fault.UNREACHABLE


def test_a_proxy_that_drips_holds_nobody(authority: Authority) -> None:
    peers: list[Peer] = []
    with Peer(lambda _: peers[0].drip(b"H"), None) as proxy:
        peers.append(proxy)
        assert outage_through(authority, f"http://127.0.0.1:{proxy.port}", BRIEF).fault is Fault.UNREACHABLE


@pytest.mark.parametrize(
    "url", ["https://proxy:3128", "socks5://proxy:1", "proxy:3128", "http://", "http://proxy:port", "http://[::1"]
)
def test_a_proxy_url_that_cannot_be_used_is_a_misconfiguration(url: str) -> None:
    with pytest.raises(Unavailable) as caught:
        parse_proxy(url)
    assert caught.value.fault is Fault.MISCONFIGURED


def test_the_port_of_a_proxy_is_3128_unless_it_is_named() -> None:
    assert parse_proxy("http://proxy") == ("proxy", 3128, "")
    assert parse_proxy("http://[2001:db8::1]:80") == ("2001:db8::1", 80, "")


def test_the_environment_names_no_proxy_no_password_and_no_authority(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login eve password eve\n")
    keys = tmp_path / "keys"
    with Peer(tunnel, None) as proxy, Peer(scripted(PENDING), authority.tls) as service:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.setenv(name, str(authority.file))
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
        monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
        monkeypatch.setenv("NETRC", str(netrc))
        with provider(authority.file, service.url) as starling:
            assert starling.check_push("r", 5.0) is PushStatus.PENDING
        with provider(None, service.url) as starling, pytest.raises(Unavailable) as caught:
            starling.check_push("r", 5.0)
    assert caught.value.fault is Fault.MISCONFIGURED
    assert proxy.seen == []
    assert [seen.headers["authorization"].split()[0] for seen in service.seen] == ["Basic", "Bearer"]
    assert not keys.exists()
