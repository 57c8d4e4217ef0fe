"""What starlingctl tells an administrator about a running bastion."""

import json
import re

import pytest

from tests.system.bastion import Bastion

pytestmark = pytest.mark.system


def test_status_tells_who_waits_how_the_service_is_and_how_today_went(bastion: Bastion) -> None:
    bastion.log_in("approves", "")
    bastion.log_in("denies", "")
    waiting = bastion.ssh("manual")
    waiting.await_prompt()
    told = json.loads(bastion.run("starlingctl", "status", "--json"))
    assert told["waiting"] == 1
    assert told["today"]["allow"] == {"push_approved": 1}
    assert told["today"]["deny"]["push_denied"] == 1
    assert told["health"]["service"]["outage"] == ""
    screen = bastion.run("starlingctl", "status")
    assert "1 waiting" in screen
    assert re.search(r"^allow +push_approved +1 *$", screen, re.MULTILINE), screen
    assert "OBSERVING" not in screen


def test_a_daemon_that_only_observes_says_so_first(bastion: Bastion) -> None:
    bastion.configure("key", auth="enforce = observe until 2999-12-31")
    assert bastion.run("starlingctl", "status").startswith("OBSERVING: until 3000-01-01")
    assert json.loads(bastion.run("starlingctl", "status", "--json"))["observing"] is True


def test_events_are_the_audit_log_for_people_and_for_machines(bastion: Bastion) -> None:
    bastion.log_in("approves", "")
    bastion.await_audit("session_close")
    screen = bastion.run("starlingctl", "events", "--user", "approves", "--lines", "3")
    assert "push_approved" in screen
    assert "session_open" in screen
    lines = bastion.run("starlingctl", "events", "--json", "--user", "approves", "--lines", "3").splitlines()
    assert {json.loads(line)["event"] for line in lines} == {"login", "session_open", "session_close"}
    assert json.loads(lines[0])["client_ip"] == bastion.engine.gateway


def test_lines_counts_events_and_not_what_the_daemon_says_besides(bastion: Bastion) -> None:
    bastion.configure("key", auth="fail_mode = safe", metrics="listen = 127.0.0.1:9109")
    bastion.log_in("approves", "")
    bastion.await_audit("session_close")
    bastion.run("systemctl", "restart", "starlingd.service")  # it tells its warnings, and where the numbers are
    bastion.run("journalctl", "--sync")
    lines = bastion.run("starlingctl", "events", "--json", "--lines", "3").splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["login", "session_open", "session_close"]


def test_a_user_is_shown_on_one_screen(bastion: Bastion) -> None:
    bastion.configure("key", authentication_cache="reuse_limit = 3\nsoft_timeout = 1h\nhard_timeout = 1h")
    bastion.log_in("approves", "")
    bastion.await_audit("session_close")
    screen = bastion.run("starlingctl", "user", "show", "approves")
    assert bastion.sandbox.users["approves"].id in screen
    assert f"from {bastion.engine.gateway}" in screen
    assert "login allow push_approved" in screen
    missing = bastion.shell("starlingctl user show nobody-there; echo status $?", check=False)
    assert "status 1" in missing


def test_numbers_are_served_from_inside_the_cage(bastion: Bastion) -> None:
    bastion.configure("key", metrics="listen = 127.0.0.1:9109")
    bastion.log_in("approves", "")
    scrape = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9109/metrics').read().decode())"
    text = bastion.run("python3", "-I", "-c", scrape)
    assert 'starlingd_decisions_total{outcome="allow",reason="push_approved"} 1.0' in text
    assert 'starlingd_events_total{event="session_open",outcome="allow"} 1.0' in text
    assert "approves" not in text


def test_numbers_on_a_socket_are_for_whoever_is_on_the_host(bastion: Bastion) -> None:
    path = "/run/starlingd-metrics/metrics.sock"
    bastion.configure("key", metrics=f"listen = {path}")
    bastion.run("systemctl", "restart", "starlingd.service")  # which leaves the sockets in /run/starlingd
    bastion.log_in("approves", "")
    assert bastion.run("stat", "-c", "%U %a", "/run/starlingd-metrics").split() == ["starlingd", "755"]
    scrape = (
        f"import socket as s; c = s.socket(s.AF_UNIX); c.connect({path!r}); "
        "c.sendall(b'GET /metrics HTTP/1.0\\r\\n\\r\\n'); print(c.makefile('rb').read().decode())"
    )
    text = bastion.run("runuser", "-u", "newcomer", "--", "python3", "-I", "-c", scrape)
    assert 'starlingd_decisions_total{outcome="allow",reason="push_approved"} 1.0' in text
