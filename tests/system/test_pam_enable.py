"""starlingctl pam on a booted bastion: switched on, confirmed or forgotten, and back to the byte whatever happens."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.running import Sandbox
from tests.system import bastion as bastions
from tests.system.bastion import Bastion
from tests.system.engine import Engine
from tests.system.machine import PATIENCE

pytestmark = pytest.mark.system

UNITS = "/etc/systemd/system"
UNDO = "/var/lib/pam-starling-undo"
TOUCHED = f"find /etc/pam.d /etc/ssh {UNITS} -not -type d"
ROOT = "PermitRootLogin yes\nMaxStartups 200\nPerSourceMaxStartups none\n"
BRIEF = "15s"
"""Time to confirm; a busy disk has used half of it up when ``pam enable`` returns."""
ONE_QUESTION = ("-o", "NumberOfPasswordPrompts=1")


@pytest.fixture
def stock(engine: Engine, sandbox: Sandbox, tmp_path: Path) -> Iterator[Bastion]:
    """Offer a bastion as an administrator has it who has configured the daemon and changed no stack yet."""
    with bastions.bastion(engine, sandbox, tmp_path, name="stock") as started:
        started.write_configuration(account="without_second_factor = push", auth="permit_root = yes")
        root = sandbox.users["approves"].id
        started.shell(f"echo root = {root} >> /etc/pam-starling/starling.conf")
        started.write("/etc/ssh/sshd_config.d/50-root.conf", ROOT)
        started.shell("systemctl restart ssh.service && systemctl start starlingd.service")
        started.await_sshd()
        sandbox.forget()
        yield started


def snapshot(bastion: Bastion) -> set[str]:
    """Tell every file that a change may touch: its mode, its owner, its contents. Files may vanish meanwhile."""
    rows = f"{TOUCHED} -printf '%p %m %u %g %l\\n'; {TOUCHED} -type f -exec md5sum {{}} + || true"
    return set(bastion.shell(rows).splitlines())


def enable(bastion: Bastion, mode: str = "key", *options: str, within: str = "10m") -> str:
    """Switch sshd on, as root in a shell that no lease knows."""
    said = bastion.shell(
        f"starlingctl pam enable sshd --mode {mode} --confirm-within {within} --yes {' '.join(options)} 2>&1"
    )
    bastion.await_sshd()  # which listens anew a moment after it was told to reload
    return said


def refused(bastion: Bastion, command: str, status: int = 1) -> str:
    """Run a command that must be refused; return what it said."""
    said = bastion.shell(f"{command} 2>&1; echo status $?", check=False)
    assert f"status {status}" in said, said
    return said


def state(bastion: Bastion, service: str = "sshd") -> dict[str, Any]:
    """Tell what status says about a service."""
    found = json.loads(bastion.shell("starlingctl pam status --json || true"))
    [one] = [one for one in found if one["service"] == service]
    return dict(one)


def as_root(bastion: Bastion, command: str, answer: str = "") -> str:
    """Log in by ssh as root with a second factor, and run a command there."""
    terminal = bastion.ssh("root", remote=f"{command} 2>&1; echo status $?")
    terminal.await_prompt()
    terminal.type(answer)
    terminal.await_end()
    return terminal.text


def await_back(bastion: Bastion, before: set[str], service: str = "sshd") -> None:
    """Wait until all is as it was before, then see that ssh works as before: by key alone."""
    ends = time.monotonic() + PATIENCE
    working = f"systemctl show -P ActiveState pam-starling-undo-{service}.service; systemctl show -P Job ssh.service"
    while (now := snapshot(bastion)) != before or bastion.shell(working).strip() != "inactive":
        assert time.monotonic() < ends, now ^ before
        time.sleep(0.3)
    bastion.await_sshd()
    assert "in as approves" in bastion.log_in("approves", options=("-o", "BatchMode=yes")).text
    assert "in as newcomer" in bastion.log_in("newcomer", options=("-o", "BatchMode=yes")).text


def masked(bastion: Bastion) -> set[str]:
    """Tell what masking has put among the units."""
    return {line for line in snapshot(bastion) if line.endswith(" /dev/null")}


def reboot(bastion: Bastion) -> None:
    """Restart the machine: systemd ends all, and boots anew."""
    bastion.engine.docker("restart", "-t", "30", bastion.name)
    vars(bastion).pop("address", None)
    ends = time.monotonic() + PATIENCE
    while bastion.run("systemctl", "is-system-running", check=False).strip() not in {"running", "degraded"}:
        assert time.monotonic() < ends, "it does not boot"
        time.sleep(0.2)


# --- switched on and confirmed ------------------------------------------------------------------------------------


def test_enable_then_log_in_then_confirm_then_disable(stock: Bastion) -> None:
    before = snapshot(stock)
    said = enable(stock)
    assert "-@include common-auth" in said
    assert "newcomer" in said.partition("Would lose access")[2]
    assert state(stock)["state"] == "pending"
    assert "status 0" in as_root(stock, "starlingctl pam confirm")
    assert (state(stock)["state"], state(stock)["restore_at"]) == ("on", None)
    assert stock.shell(f"ls {UNITS} | grep undo || true") == ""
    assert "in as approves" in stock.log_in("approves", "").text
    assert "in as denies" not in stock.log_in("denies", "", options=ONE_QUESTION).text
    stock.shell("starlingctl pam disable sshd")
    assert state(stock)["state"] == "off"
    await_back(stock, before)


def test_a_confirmed_change_outlives_a_reboot(stock: Bastion) -> None:
    enable(stock)
    as_root(stock, "starlingctl pam confirm")
    reboot(stock)
    stock.await_sshd()
    assert state(stock)["state"] == "on"
    assert "in as denies" not in stock.log_in("denies", "", options=ONE_QUESTION).text
    assert "in as approves" in stock.log_in("approves", "").text


def test_in_password_mode_it_asks_for_both(stock: Bastion) -> None:
    stock.shell("echo approves:secret | chpasswd")
    enable(stock, "password")
    terminal = stock.ssh("approves", key=False)
    for answer in ("secret", ""):
        terminal.await_prompt()
        terminal.type(answer)
    terminal.await_end()
    assert "in as approves" in terminal.text


def test_in_key_push_mode_a_client_without_prompts_gets_a_push(stock: Bastion) -> None:
    enable(stock, "key-push")
    assert "in as approves" in stock.log_in("approves", options=("-o", "BatchMode=yes")).text
    assert "in as denies" not in stock.log_in("denies", options=("-o", "BatchMode=yes")).text
    assert stock.audit()[-2]["STARLING_REASON"] == "push_approved"


# --- forgotten ----------------------------------------------------------------------------------------------------

MISFORTUNES = {
    "nothing": "true",
    "daemon masked": "systemctl mask --now starlingd.service starlingd.socket starlingd-control.socket",
    "package and Python gone": "rm -rf /usr/lib/pam-starling /usr/sbin/starlingctl && mv /usr/bin/python3 /root/",
}


@pytest.mark.parametrize("misfortune", MISFORTUNES)
def test_what_is_not_confirmed_in_time_is_put_back(stock: Bastion, misfortune: str) -> None:
    before = snapshot(stock)
    enable(stock, within=BRIEF)
    stock.shell(MISFORTUNES[misfortune])
    await_back(stock, before | masked(stock))
    assert stock.shell(f"ls {UNDO} | grep -c put-back").strip() == "1"


@pytest.mark.parametrize("misfortune", MISFORTUNES)
def test_a_boot_with_an_unconfirmed_change_puts_it_back_before_sshd_starts(stock: Bastion, misfortune: str) -> None:
    before = snapshot(stock)
    enable(stock)
    stock.shell(MISFORTUNES[misfortune])
    found = re.search(r"-- cursor: (\S+)", stock.run("journalctl", "-n", "1", "--show-cursor", "--no-pager"))
    assert found is not None
    reboot(stock)
    await_back(stock, before | masked(stock))
    # Not -b: a container that is restarted has the boot id that it had.
    units = ("-u", "ssh.service", "-u", "pam-starling-undo-sshd.service")
    log = stock.run("journalctl", f"--after-cursor={found[1]}", "-o", "cat", "--no-pager", *units)
    assert log.index("sshd is as it was before") < log.index("Starting ssh.service")


def test_removing_the_package_before_it_is_confirmed_puts_it_back(stock: Bastion) -> None:
    before = snapshot(stock)
    enable(stock)
    stock.shell("apt-get remove -y -q pam-starling")
    ours = [line for line in before if "starlingd" not in line]
    now = [line for line in snapshot(stock) if "starlingd" not in line]
    assert now == ours
    assert "in as newcomer" in stock.log_in("newcomer", options=("-o", "BatchMode=yes")).text


def test_purging_while_switched_on_leaves_nothing(stock: Bastion) -> None:
    stock.run("cp", "-a", "/etc/pam.d/sshd", "/root/sshd.before")
    enable(stock)
    as_root(stock, "starlingctl pam confirm")
    stock.shell("apt-get purge -y -q pam-starling && cmp /etc/pam.d/sshd /root/sshd.before")
    left = "find / -xdev \\( -path /proc -o -path /sys -o -path /root \\) -prune -o -iname '*starling*' -print"
    assert stock.shell(left) == ""


def test_purging_after_it_was_put_back_leaves_nothing(stock: Bastion) -> None:
    before = snapshot(stock)
    enable(stock, within=BRIEF)
    await_back(stock, before)
    stock.shell("apt-get purge -y -q pam-starling")
    left = "find / -xdev \\( -path /proc -o -path /sys -o -path /root \\) -prune -o -iname '*starling*' -print"
    assert stock.shell(left) == ""
    assert stock.shell("ls -A /run | grep pam-starling || true") == ""


# --- who may confirm ----------------------------------------------------------------------------------------------


def test_confirming_from_where_no_session_is_an_ancestor_is_refused(stock: Bastion) -> None:
    enable(stock)
    assert "does not run inside a session" in refused(stock, "starlingctl pam confirm")
    late = "sleep 1; starlingctl pam confirm > /root/saying 2>&1; mv /root/saying /root/said"
    for away in (
        "systemd-run --wait --pipe -q starlingctl pam confirm",
        f"(setsid sh -c '{late}' &); until cat /root/said 2>&-; do sleep 0.2; done",
    ):
        assert "does not run inside a session" in as_root(stock, away)
    assert state(stock)["state"] == "pending"


def test_confirming_from_a_session_that_is_older_than_the_change_is_refused(stock: Bastion) -> None:
    old = stock.ssh("root", remote="echo ready; read go; starlingctl pam confirm; echo status $?")
    old.await_text("ready")
    enable(stock)
    old.type("go")
    old.await_text("status 1")
    assert state(stock)["state"] == "pending"


def test_with_nothing_to_confirm_it_says_so(stock: Bastion) -> None:
    assert "nothing to confirm" in refused(stock, "starlingctl pam confirm")


# --- what somebody changed since ----------------------------------------------------------------------------------


def test_what_somebody_changed_since_is_explained_and_kept_if_told_to(stock: Bastion) -> None:
    original = stock.run("cat", "/etc/pam.d/sshd")
    enable(stock)
    stock.shell("echo 'account required pam_access.so' >> /etc/pam.d/sshd")
    assert state(stock)["changed"] == ["/etc/pam.d/sshd"]
    assert "somebody changed" in as_root(stock, "starlingctl pam confirm")
    assert "+account required pam_access.so" in refused(stock, "starlingctl pam disable sshd")
    stock.shell("starlingctl pam disable sshd --keep-changes")
    assert stock.run("cat", "/etc/pam.d/sshd") == original + "account required pam_access.so\n"


# --- what is refused before anything changes ----------------------------------------------------------------------

FAULTS = {
    "sshd's configuration is broken": ("echo Nonsense yes > /etc/ssh/sshd_config.d/90-x.conf", "Nonsense"),
    "something overrules ours": (
        "echo PasswordAuthentication yes > /etc/ssh/sshd_config.d/00-a.conf", "PasswordAuthentication would be yes",
    ),
    "our part would not be read": ("sed -i /^Include/d /etc/ssh/sshd_config", "lacks the line: Include"),
    "the daemon is down": ("systemctl stop 'starlingd*'", "control.sock"),
    "the daemon is misconfigured": (
        "echo nonsense >> /etc/pam-starling/starling.conf && systemctl restart starlingd", "no usable configuration",
    ),
    "the module is broken": ("echo 'raise SystemExit' >> /usr/lib/pam-starling/entry.py", "module refuses, but not"),
    "lines by hand": ("cat {recipe} >> /etc/pam.d/sshd", "already"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_with_a_fault_nothing_is_changed(stock: Bastion, fault: str) -> None:
    plant, words = FAULTS[fault]
    stock.shell(plant.replace("{recipe}", f"{bastions.RECIPES}/key.pam"))
    before = snapshot(stock)
    status = 3 if fault == "the daemon is down" else 1
    assert words in refused(stock, "starlingctl pam enable sshd --mode key --yes", status)
    assert snapshot(stock) == before
    assert stock.shell(f"ls -A {UNDO} 2>/dev/null || true") == ""


def test_key_push_mode_without_pushes_for_key_logins_is_refused(stock: Bastion) -> None:
    stock.shell("sed -i /without_second_factor/d /etc/pam-starling/starling.conf && starlingctl reload")
    assert "without_second_factor = push" in refused(stock, "starlingctl pam enable sshd --mode key-push --yes")


# --- login, and the emergency group -------------------------------------------------------------------------------


def test_login_is_refused_unless_another_way_in_is_shown(stock: Bastion) -> None:
    assert "at the console there is no key" in refused(stock, "starlingctl pam enable login --mode key --yes")
    assert "no other way in" in refused(stock, "starlingctl pam enable login --mode password --yes")
    inside = stock.log_in("root", options=("-o", "BatchMode=yes"), key=True)
    assert "in as root" in inside.text
    by_ssh = stock.ssh("root", remote="starlingctl pam enable login --mode password --yes; echo status $?")
    by_ssh.await_end()
    assert "sshd, through which you are logged in now" in by_ssh.text
    assert "status 0" in by_ssh.text
    assert state(stock, "login")["state"] == "pending"
    assert "login asks for the second factor too" in refused(stock, "starlingctl pam enable sshd --mode key --yes")


def test_login_that_is_not_confirmed_in_time_is_put_back(stock: Bastion) -> None:
    before = snapshot(stock)
    stock.shell("groupadd helpers && usermod -aG helpers approves")
    group = f"--emergency-group helpers --confirm-within {BRIEF} --yes"
    said = stock.shell(f"starlingctl pam enable login --mode password {group}")
    assert "approves of helpers, by password at the console" in said
    assert state(stock, "login")["state"] == "pending"
    await_back(stock, before, "login")
    assert state(stock, "login")["put_back"] is not None
    stock.shell("passwd -l approves")
    assert "no other way in" in refused(stock, f"starlingctl pam enable login --mode password {group}")


def test_the_emergency_group_passes_while_the_daemon_is_down_and_it_is_logged(stock: Bastion) -> None:
    stock.shell("groupadd helpers && usermod -aG helpers approves")
    enable(stock, "key", "--emergency-group", "helpers")
    assert state(stock)["emergency_group"] == "helpers"
    stock.shell("systemctl mask --now starlingd.service starlingd.socket")
    assert "in as approves" in stock.log_in("approves").text
    assert "in as manual" not in stock.log_in("manual", options=ONE_QUESTION).text
    assert "pam_succeed_if(sshd:account)" in stock.run("journalctl", "--no-pager", "-o", "cat")


def test_at_the_console_the_emergency_group_needs_its_password_and_nobody_else_gets_in(stock: Bastion) -> None:
    stock.shell("groupadd helpers && usermod -aG helpers approves")
    stock.shell("starlingctl pam enable login --mode password --emergency-group helpers --yes")
    stock.shell("systemctl mask --now starlingd.service starlingd.socket")
    ask = "echo {password} | pamtester login {user} authenticate acct_mgmt open_session close_session 2>&1; echo $?"
    right = ask.format(user="approves", password="Unix-password-of-approves")
    assert "session has successfully been closed" in stock.shell(right)
    wrong = ask.format(user="approves", password="wrong")
    assert "successfully" not in stock.shell(wrong)
    other = ask.format(user="manual", password="Unix-password-of-manual")
    assert "successfully" not in stock.shell(other)
