"""The daemon or the service is not there: refused in time, with a sentence, and well again afterwards."""

import time

import pytest

from tests.sandbox import running
from tests.sandbox.running import Sandbox
from tests.system.bastion import Bastion

pytestmark = pytest.mark.system

SENTENCE = "The second factor is not available; try again later or ask your administrator"


def test_without_a_daemon_a_login_is_refused_within_a_second_and_told_why(bastion: Bastion) -> None:
    bastion.shell("systemctl stop starlingd.socket starlingd.service")
    try:
        terminal = bastion.ssh("approves")
        terminal.await_text(SENTENCE)
        terminal.kill()
        # The whole of a refusal, interpreter included, as pamtester sees it; bash writes the seconds below it.
        timed = "TIMEFORMAT=%R; time pamtester sshd approves authenticate 2>&1"
        said, _, seconds = bastion.run("bash", "-c", f"{{ {timed}; }} 2>&1; true").strip().rpartition("\n")
        assert "Authentication failure" in said
        assert float(seconds) < 1.0
        lines = [entry for entry in bastion.journal() if entry.get("SYSLOG_IDENTIFIER") == "pam_starling"]
        assert lines
        assert all("cannot reach the daemon" in line["MESSAGE"] for line in lines)
    finally:
        bastion.shell("systemctl start starlingd.socket")
    assert "in as approves" in bastion.log_in("approves", "").text


def test_a_stopped_service_is_started_by_the_next_login(bastion: Bastion) -> None:
    bastion.shell("systemctl stop starlingd.service 2>/dev/null")
    assert "in as approves" in bastion.log_in("approves", "").text


def test_a_daemon_killed_at_the_prompt_refuses_that_login_and_serves_the_next(bastion: Bastion) -> None:
    terminal = bastion.ssh("manual", "-o", "NumberOfPasswordPrompts=1")
    terminal.await_prompt()
    bastion.shell("systemctl kill -s KILL starlingd.service")
    terminal.type("123456")
    terminal.await_text(SENTENCE)
    assert terminal.await_end() != 0
    assert "in as approves" in bastion.log_in("approves", "").text


def test_quick_crashes_leave_the_socket_and_the_next_login_works(bastion: Bastion) -> None:
    for _ in range(6):
        bastion.shell("systemctl start starlingd.service && systemctl kill -s KILL starlingd.service")
    assert bastion.shell("systemctl is-active starlingd.socket").strip() == "active"
    assert "in as approves" in bastion.log_in("approves", "").text


def test_fifty_logins_at_once_all_get_in(bastion: Bastion, sandbox: Sandbox) -> None:
    terminals = [bastion.ssh("manual") for _ in range(50)]
    for terminal in terminals:
        terminal.await_prompt(90)
        terminal.type(sandbox.code_for("manual"))
    for terminal in terminals:
        assert terminal.await_end(90) == 0, terminal.text
    assert len(bastion.await_audit("session_close", 50)) == 50


def test_a_service_that_swallows_everything_is_given_up_in_time(bastion: Bastion) -> None:
    bastion.configure("key", starling="http_timeout = 3", auth="max_attempts = 1")
    terminal = bastion.ssh("black-hole", "-o", "NumberOfPasswordPrompts=1")
    terminal.await_prompt()
    terminal.type("123456")
    began = time.monotonic()
    terminal.await_text("The second-factor service cannot be reached")
    assert time.monotonic() - began < 5.0
    [event] = bastion.await_audit()
    assert event["STARLING_REASON"] == "unreachable"


def test_a_service_that_refuses_connections_is_unreachable(bastion: Bastion, sandbox: Sandbox) -> None:
    address = sandbox.url
    try:
        sandbox.url = f"https://{bastion.engine.gateway}:1"
        bastion.write_configuration()
    finally:
        sandbox.url = address
    bastion.shell("systemctl restart starlingd.service")
    terminal = bastion.ssh("approves", "-o", "NumberOfPasswordPrompts=1")
    terminal.await_prompt()
    terminal.type("")
    terminal.await_text("The second-factor service cannot be reached")
    assert bastion.await_audit()[0]["STARLING_REASON"] == "unreachable"


@pytest.mark.parametrize("flaw", ["wrong-host", "expired", "self-signed"])
def test_a_service_with_a_wrong_certificate_is_never_talked_to(bastion: Bastion, flaw: str) -> None:
    good = bastion.sandbox
    with running.sandbox("--certificate", flaw, listen=f"{bastion.engine.gateway}:0") as impostor:
        bastion.sandbox = impostor
        try:
            bastion.write_configuration()
            bastion.shell("systemctl restart starlingd.service")
            terminal = bastion.ssh("approves", "-o", "NumberOfPasswordPrompts=1")
            terminal.await_prompt()
            terminal.type("")
            event = bastion.await_audit()[0]
            terminal.kill()
            assert event["STARLING_REASON"] == "misconfigured"
            assert impostor.log() == []
        finally:
            bastion.sandbox = good


def test_a_bad_configuration_denies_everybody_and_says_what_to_write(bastion: Bastion) -> None:
    bastion.write_configuration(auth="max_atempts = 3")
    bastion.shell("systemctl restart starlingd.service")
    status = bastion.shell("systemctl show -p ActiveState -p StatusText starlingd.service")
    assert "ActiveState=active" in status
    assert "max_attempts" in status
    terminal = bastion.ssh("approves", "-o", "NumberOfPasswordPrompts=1")
    terminal.await_text("The second factor is not set up correctly on this host; ask your administrator")
    terminal.kill()
    assert bastion.await_audit()[0]["STARLING_REASON"] == "misconfigured"


def test_a_reload_with_a_bad_file_changes_nothing(bastion: Bastion) -> None:
    bastion.write_configuration(auth="max_attempts = none")
    bastion.shell("systemctl reload starlingd.service")
    [event] = bastion.await_audit("reload")
    assert event["STARLING_OUTCOME"] == "deny"
    assert "in as approves" in bastion.log_in("approves", "").text
