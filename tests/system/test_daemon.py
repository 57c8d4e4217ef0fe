"""The daemon under a real systemd: its cage, its socket, the watchdog, and the ways in which it stops."""

import re
import time

import pytest

from tests.sandbox.running import Sandbox
from tests.system.bastion import Bastion

pytestmark = pytest.mark.system

DROP_IN = "/run/systemd/system/starlingd.service.d"


def show(bastion: Bastion, name: str) -> str:
    return bastion.run("systemctl", "show", "starlingd.service", f"--property={name}", "--value").strip()


def await_other_pid(bastion: Bastion, pid: str, patience: float) -> None:
    ends = time.monotonic() + patience
    while (now := show(bastion, "MainPID")) in {pid, "0"}:
        assert time.monotonic() < ends, f"the daemon is still {now}"
        time.sleep(0.2)


def test_it_runs_as_nobody_special(bastion: Bastion) -> None:
    status = bastion.shell("cat /proc/$(systemctl show -P MainPID starlingd.service)/status")
    assert bastion.shell("ps -o user= -p $(systemctl show -P MainPID starlingd.service)").strip() == "starlingd"
    assert set(re.findall(r"^Cap(?:Inh|Prm|Eff|Bnd|Amb):\s+(\S+)$", status, re.MULTILINE)) == {"0000000000000000"}
    assert "NoNewPrivs:\t1" in status
    groups = re.search(r"^Groups:\s*(.*?)\s*$", status, re.MULTILINE)
    assert groups is not None
    assert groups[1] in {"", bastion.run("id", "-g", "starlingd").strip()}


def test_restarting_it_leaves_both_sockets_where_they_are(bastion: Bastion) -> None:
    sockets = "stat -c %i /run/starlingd/pam.sock /run/starlingd/control.sock"
    before = bastion.shell(sockets)
    for _ in range(7):
        bastion.shell("systemctl restart starlingd.service")
    assert bastion.shell(sockets) == before
    assert "in as approves" in bastion.log_in("approves", "").text


def test_its_status_says_ready_or_what_is_wrong(bastion: Bastion) -> None:
    assert show(bastion, "StatusText") == "ready"
    bastion.shell(
        "sed -i s/^ca_file.*/nonsense=1/ /etc/pam-starling/starling.conf; systemctl restart starlingd.service"
    )
    assert "nonsense" in show(bastion, "StatusText")
    assert show(bastion, "ActiveState") == "active"


def test_without_its_credential_it_is_up_and_denies(bastion: Bastion) -> None:
    bastion.shell("rm /etc/pam-starling/credentials/starling.credential && systemctl restart starlingd.service")
    assert show(bastion, "ActiveState") == "active"
    assert "credential" in show(bastion, "StatusText")
    refused = bastion.log_in("approves", options=("-o", "NumberOfPasswordPrompts=1"))
    assert "The second factor is not set up correctly on this host" in refused.text
    assert bastion.audit()[0]["STARLING_REASON"] == "misconfigured"


def test_a_daemon_that_hangs_is_replaced_and_the_socket_waits(bastion: Bastion) -> None:
    bastion.shell(f"mkdir -p {DROP_IN} && printf '[Service]\\nWatchdogSec=5\\n' > {DROP_IN}/test.conf")
    try:
        bastion.shell("systemctl daemon-reload && systemctl restart starlingd.service")
        pid = show(bastion, "MainPID")
        bastion.shell(f"kill -STOP {pid}")
        terminal = bastion.ssh("approves")
        await_other_pid(bastion, pid, 20)
        terminal.await_prompt()
        terminal.type("")
        assert terminal.await_end() == 0
    finally:
        bastion.shell(f"rm -r {DROP_IN}; systemctl daemon-reload")


def test_a_login_that_waits_when_it_stops_is_answered_and_its_push_forgotten(
    bastion: Bastion, sandbox: Sandbox
) -> None:
    terminal = bastion.ssh("manual", "-o", "NumberOfPasswordPrompts=1")
    terminal.await_prompt()
    terminal.type("")
    push = sandbox.await_push()
    began = time.monotonic()
    bastion.shell("systemctl restart starlingd.service")
    assert time.monotonic() - began < 8
    assert terminal.await_end() != 0
    assert "The second factor does not work at the moment" in terminal.text
    sandbox.approve(push["id"])
    assert [event["STARLING_REASON"] for event in bastion.audit()] == ["busy"]
    assert not bastion.audit("session_open")


def test_a_reload_with_a_bad_file_says_in_the_journal_and_the_status_what_to_write(bastion: Bastion) -> None:
    pid = show(bastion, "MainPID")
    bastion.write_configuration(auth="max_atempts = 3")
    bastion.shell("systemctl reload starlingd.service")
    [event] = bastion.await_audit("reload")
    said = [str(entry.get("MESSAGE")) for entry in bastion.journal() if entry.get("_PID") == pid]
    assert any("reload" in line and "max_attempts" in line for line in said), said
    assert event["STARLING_OUTCOME"] == "deny"
    assert "max_attempts" in show(bastion, "StatusText")
    assert "in as approves" in bastion.log_in("approves", "").text
    bastion.write_configuration()
    bastion.shell("systemctl reload starlingd.service")
    assert bastion.await_audit("reload", 2)[1]["STARLING_OUTCOME"] == "allow"
    assert show(bastion, "StatusText") == "ready"
    assert show(bastion, "MainPID") == pid


def test_it_leaves_no_core_dump_that_would_hold_tokens(bastion: Bastion) -> None:
    limits = bastion.shell("cat /proc/$(systemctl show -P MainPID starlingd.service)/limits")
    assert re.search(r"^Max core file size\s+0\s+0\s", limits, re.MULTILINE)
