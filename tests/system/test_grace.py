"""The grace period through real sshd: who was asked lately is not asked again, and never for longer than promised."""

import json
import subprocess

import pytest

from tests.sandbox.running import Sandbox
from tests.system.bastion import Bastion

pytestmark = pytest.mark.system

CACHE = "soft_timeout = 1h\nhard_timeout = 1h\nreuse_limit = {}"


def reasons(bastion: Bastion) -> list[str]:
    return [event["STARLING_REASON"] for event in bastion.audit()]


def entries(bastion: Bastion) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(bastion.run("starlingctl", "grace", "list", "--json"))
    return found


def test_n_reuses_are_n_and_a_restart_changes_nothing(bastion: Bastion) -> None:
    bastion.configure("key", authentication_cache=CACHE.format(2))
    bastion.log_in("approves", "")
    bastion.await_audit("session_open")
    assert "in as approves" in bastion.log_in("approves").text
    bastion.shell("systemctl restart starlingd.service")
    assert "in as approves" in bastion.log_in("approves").text
    assert "in as approves" in bastion.log_in("approves", "").text
    assert reasons(bastion) == ["push_approved", "cached", "cached", "push_approved"]
    [entry] = entries(bastion)
    assert (entry["user"], entry["client_ip"], entry["reuse_count"]) == ("approves", bastion.engine.gateway, 0)


def test_it_is_written_when_the_session_opens_and_by_nobody_else(bastion: Bastion) -> None:
    exempt = {"whitelist source=user_list": "name = x", "user_list x": "allow = no_user\nexcept = manual"}
    bastion.configure("key", authentication_cache=CACHE.format(5), **exempt)
    assert "in as manual" in bastion.log_in("manual").text
    bastion.await_audit("session_open")
    assert entries(bastion) == []
    # The account line after ours refuses: authenticated, but never in a session.
    bastion.shell("sed -i 's/^@include common-account/account required pam_deny.so/' /etc/pam.d/sshd")
    assert "in as" not in bastion.log_in("approves", "").text
    assert entries(bastion) == []


def test_a_reuse_that_no_session_follows_is_given_back(bastion: Bastion) -> None:
    bastion.configure("key", authentication_cache=CACHE.format(1))
    bastion.log_in("approves", "")
    bastion.await_audit("session_open")
    bastion.shell("sed -i 's/^@include common-account/account required pam_deny.so/' /etc/pam.d/sshd")
    assert "in as" not in bastion.log_in("approves").text
    bastion.await_audit(count=2)
    bastion.shell("sed -i 's/^account required pam_deny.so/@include common-account/' /etc/pam.d/sshd")
    bastion.shell(
        "for i in $(seq 50); do starlingctl grace list --json | grep -q '\"reuse_count\": 0' && break; sleep 0.1; done"
    )
    assert "in as approves" in bastion.log_in("approves").text
    assert reasons(bastion) == ["push_approved", "cached", "cached"]


def test_bound_to_the_key_another_key_is_asked(bastion: Bastion) -> None:
    bastion.configure("key", authentication_cache=CACHE.format(-1) + "\nbind = user, client_ip, ssh_key")
    other = bastion.work / "other"
    if not other.exists():
        subprocess.run(["/usr/bin/ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(other)], check=True)
    bastion.shell(f"echo '{other.with_suffix('.pub').read_text().strip()}' >> /home/approves/.ssh/authorized_keys")
    bastion.log_in("approves", "")
    bastion.await_audit("session_open")
    assert "in as approves" in bastion.log_in("approves").text
    assert "in as approves" in bastion.log_in("approves", "", options=("-i", str(other))).text
    assert reasons(bastion) == ["push_approved", "cached", "push_approved"]
    printed = fingerprints(bastion)
    assert {entry["ssh_key"] for entry in entries(bastion)} == printed


def fingerprints(bastion: Bastion) -> set[str]:
    keys = [bastion.work / "id.pub", bastion.work / "other.pub"]
    return {
        subprocess.run(
            ["/usr/bin/ssh-keygen", "-lf", str(key)], capture_output=True, text=True, check=True
        ).stdout.split()[1]
        for key in keys
    }


def test_forgetting_asks_again(bastion: Bastion) -> None:
    bastion.configure("key", authentication_cache=CACHE.format(-1))
    bastion.log_in("approves", "")
    bastion.await_audit("session_open")
    assert "1 forgotten" in bastion.run("starlingctl", "grace", "forget", "approves")
    assert "in as approves" in bastion.log_in("approves", "").text
    assert reasons(bastion) == ["push_approved", "push_approved"]


def test_grace_helps_a_batch_client_through_the_account_hook(bastion: Bastion) -> None:
    bastion.configure(
        "key-push", account="without_second_factor = push\npush_timeout = 20", authentication_cache=CACHE.format(1)
    )
    batch = ("-o", "BatchMode=yes")
    assert "in as approves" in bastion.log_in("approves", options=batch).text
    bastion.await_audit("session_open")
    assert "in as approves" in bastion.log_in("approves", options=batch).text
    assert "in as approves" in bastion.log_in("approves", options=batch).text
    assert reasons(bastion) == ["push_approved", "cached", "push_approved"]


def test_a_client_that_hangs_up_in_a_batch_push_leaves_no_grace(bastion: Bastion, sandbox: Sandbox) -> None:
    bastion.configure(
        "key-push", account="without_second_factor = push\npush_timeout = 20", authentication_cache=CACHE.format(5)
    )
    terminal = bastion.ssh("manual", "-o", "BatchMode=yes")
    push = sandbox.await_push()
    terminal.kill()
    bastion.await_audit()
    sandbox.approve(push["id"])
    assert reasons(bastion) == ["hung_up"]
    assert entries(bastion) == []
    assert not bastion.audit("session_open")
