"""Numbers for Prometheus: over TCP and a Unix socket, true, and without anybody's name."""

from __future__ import annotations

import asyncio
import http.client
import socket
from pathlib import Path

import pytest

from starlingd.core.rules import Rules
from starlingd.server import metrics
from tests.daemon_under_test import RIGHT_CODE, Bastion, on_bastion


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, whose path stands for the host."""

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.host)


def scrape(listen: str) -> str:
    if listen.startswith("/"):
        connection: http.client.HTTPConnection = UnixConnection(listen)
    else:
        connection = http.client.HTTPConnection(listen)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_what_happened_is_counted_by_reason_and_nobody_is_named(tmp_path: Path, kind: str) -> None:
    listen = f"127.0.0.1:{free_port()}" if kind == "tcp" else str(tmp_path / "metrics.sock")

    async def test(bastion: Bastion) -> None:
        end = metrics.serve(listen, bastion.host, lambda: 7)
        try:
            module = await bastion.call("authenticate")
            await module.answer("000000")
            await module.answer(RIGHT_CODE)
            assert (await module.done())["result"] == "success"
            stranger = await bastion.call("authenticate", user="who-is-this", conn="192.0.2.9 1 192.0.2.1 22")
            for _ in range(3):
                await stranger.answer("x")
            await stranger.done()
            text = await asyncio.to_thread(scrape, listen)
        finally:
            await asyncio.to_thread(end)
        assert 'starlingd_decisions_total{outcome="allow",reason="code_verified"} 1.0' in text
        assert 'starlingd_decisions_total{outcome="deny",reason="unknown_user"} 1.0' in text
        assert 'starlingd_calls_total{call="verify",system="service"} 2.0' in text
        assert "starlingd_waiting_logins 7.0" in text
        assert "starlingd_configured 1.0" in text
        assert "alice" not in text
        assert "who-is-this" not in text

    on_bastion(test, Rules())


def test_a_socket_that_an_earlier_run_left_is_replaced_and_a_taken_port_is_an_error(tmp_path: Path) -> None:
    async def test(bastion: Bastion) -> None:
        path = str(tmp_path / "metrics.sock")
        for _ in range(2):
            end = metrics.serve(path, bastion.host, lambda: 0)
            assert "starlingd_leases 0.0" in await asyncio.to_thread(scrape, path)
            await asyncio.to_thread(end)
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
            metrics.serve(f"127.0.0.1:{taken.getsockname()[1]}", bastion.host, lambda: 0)

    on_bastion(test, Rules())
