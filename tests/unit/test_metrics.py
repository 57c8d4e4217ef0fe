"""Numbers for Prometheus: over TCP and a Unix socket, true, and without anybody's name."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import stat
from pathlib import Path

import pytest

from starlingd.core.provisioning import Tally
from starlingd.core.rules import Rules
from starlingd.server import metrics
from starlingd.server.decoy import BUCKETS, Totals
from starlingd.server.provisioning import Run
from tests.daemon_under_test import RIGHT_CODE, Bastion, on_bastion

RUN = Run(started=1.0, dry=False, tally=Tally(members=3, counts={"create": 3}), ended=2.0, outcome="complete")
DASHBOARD = Path(__file__).resolve().parents[2] / "docs" / "dashboard.json"
SUFFIXES = ("", "_bucket", "_count", "_sum")


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


def free_port(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("kind", ["tcp", "tcp6", "unix"])
def test_what_happened_is_counted_by_reason_and_nobody_is_named(tmp_path: Path, kind: str) -> None:
    listen = {
        "tcp": f"127.0.0.1:{free_port('127.0.0.1')}",
        "tcp6": f"[::1]:{free_port('::1')}",
        "unix": str(tmp_path / "metrics.sock"),
    }[kind]

    async def test(bastion: Bastion) -> None:
        end = metrics.serve(listen, bastion.host, lambda: 7, lambda: RUN)
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
        assert 'starlingd_call_duration_seconds_count{call="verify",system="service"} 2.0' in text
        assert 'starlingd_call_duration_seconds_bucket{call="verify",le="+Inf",system="service"} 2.0' in text
        assert 'starlingd_provisioning_people{action="create"} 3.0' in text
        assert "starlingd_observing 0.0" in text
        assert "starlingd_waiting_logins 7.0" in text
        assert "starlingd_configured 1.0" in text
        assert "alice" not in text
        assert "who-is-this" not in text

    on_bastion(test, Rules())


def test_a_socket_that_an_earlier_run_left_is_replaced_and_a_taken_port_is_an_error(tmp_path: Path) -> None:
    async def test(bastion: Bastion) -> None:
        path = str(tmp_path / "metrics.sock")
        for _ in range(2):
            end = metrics.serve(path, bastion.host, lambda: 0, lambda: None)
            assert "starlingd_leases 0.0" in await asyncio.to_thread(scrape, path)
            await asyncio.to_thread(end)
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
            metrics.serve(f"127.0.0.1:{taken.getsockname()[1]}", bastion.host, lambda: 0, lambda: None)

    on_bastion(test, Rules())


def test_whatever_is_no_socket_is_left_alone_and_whoever_is_on_this_host_may_scrape(tmp_path: Path) -> None:
    path, linked = tmp_path / "metrics.sock", tmp_path / "link"
    path.write_text("somebody's", encoding="ascii")
    linked.symlink_to(path)

    async def test(bastion: Bastion) -> None:
        for taken in (path, linked, tmp_path):
            with pytest.raises(OSError, match="that is no socket") as caught:
                metrics.serve(str(taken), bastion.host, lambda: 0, lambda: None)
            assert "name another path" in str(caught.value.strerror)
        assert path.read_text(encoding="ascii") == "somebody's"
        end = metrics.serve(str(tmp_path / "free.sock"), bastion.host, lambda: 0, lambda: None)
        await asyncio.to_thread(end)
        assert stat.S_IMODE((tmp_path / "free.sock").stat().st_mode) == 0o666

    on_bastion(test, Rules())


def test_each_call_is_in_one_bucket_and_those_above() -> None:
    totals = Totals()
    for seconds in (0.0, 0.05, 0.06, 10.0, 11.0):
        totals.add(seconds, failed=seconds > 10)
    assert (totals.buckets[0], totals.buckets[1], totals.buckets[len(BUCKETS) - 1], totals.buckets[-1]) == (2, 1, 1, 1)
    assert (totals.number, totals.errors) == (5, 1)


def test_the_dashboard_shows_only_what_is_served_and_everything_that_was_asked_for(tmp_path: Path) -> None:
    listen = str(tmp_path / "metrics.sock")
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    shown = {
        name for panel in panels for target in panel["targets"] for name in re.findall(r"starlingd_\w+", target["expr"])
    }

    async def test(bastion: Bastion) -> None:
        end = metrics.serve(listen, bastion.host, lambda: 0, lambda: RUN)
        try:
            module = await bastion.call("authenticate")
            await module.answer(RIGHT_CODE)
            await module.done()
            bastion.host.audit.reload("reloaded", taken=True)
            text = await asyncio.to_thread(scrape, listen)
        finally:
            await asyncio.to_thread(end)
        served = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
        assert shown - served == set()
        unshown = {name.removesuffix("_created") for name in served if name.startswith("starlingd_")} - shown
        families = {name for name in unshown if not any(f"{name.rpartition('_')[0]}{end}" in shown for end in SUFFIXES)}
        assert families <= {"starlingd_info", "starlingd_start_time_seconds", "starlingd_recovered"}, families

    on_bastion(test, Rules())


def test_no_label_can_hold_a_name(tmp_path: Path) -> None:
    listen = str(tmp_path / "metrics.sock")

    async def test(bastion: Bastion) -> None:
        end = metrics.serve(listen, bastion.host, lambda: 0, lambda: RUN)
        try:
            text = await asyncio.to_thread(scrape, listen)
        finally:
            await asyncio.to_thread(end)
        labels = set(re.findall(r"[{,](\w+)=", text))
        assert labels <= {"outcome", "reason", "pool", "system", "call", "le", "event", "action", "version"}

    on_bastion(test, Rules())
