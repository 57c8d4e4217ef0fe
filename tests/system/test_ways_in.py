"""Every way into the bastion passes the second factor, and no way around it does."""

import pytest

from tests.sandbox.running import Sandbox
from tests.system.bastion import ENTRY, Bastion
from tests.system.terminal import Terminal

pytestmark = pytest.mark.system

EXEMPT = {"whitelist source=user_list": "name = robots", "user_list robots": "allow = no_user\nexcept = approves"}


def start(bastion: Bastion, *command: str) -> Terminal:
    terminal = Terminal.run(list(command))
    bastion.terminals.append(terminal)
    return terminal


def approve_at_prompt(terminal: Terminal) -> None:
    terminal.await_prompt()
    terminal.type("")


# --- the recipes ------------------------------------------------------------------------------------------------------


def test_password_mode_asks_for_the_password_and_then_for_the_second_factor(bastion: Bastion, sandbox: Sandbox) -> None:
    bastion.configure("password")
    code = sandbox.code_for("manual")
    terminal = bastion.log_in("manual", "Unix-password-of-manual", code, key=False)
    assert "in as manual" in terminal.text
    assert [call.get("code") for call in sandbox.log() if "code" in call] == [code]


def test_password_mode_asks_nothing_more_after_a_wrong_password(bastion: Bastion, sandbox: Sandbox) -> None:
    bastion.configure("password")
    terminal = bastion.ssh("manual", "-o", "NumberOfPasswordPrompts=1", key=False)
    terminal.await_prompt()
    terminal.type("not-the-password")
    assert terminal.await_end() != 0
    assert "Press Enter" not in terminal.text
    assert sandbox.log() == []


def test_key_push_mode_lets_batch_clients_in_by_a_push(bastion: Bastion) -> None:
    bastion.configure("key-push", account="without_second_factor = push")
    batch = ("-o", "BatchMode=yes")
    destination = f"approves@{bastion.address}"
    file = bastion.work / "id.pub"
    assert "in as approves" in bastion.log_in("approves", options=batch).text
    assert start(bastion, *bastion.command("scp", *batch), str(file), f"{destination}:one").await_end() == 0
    batch_file = bastion.work / "sftp.txt"
    batch_file.write_text(f"put {file} two\n", encoding="ascii")
    assert start(bastion, *bastion.command("sftp", *batch, "-b", str(batch_file)), destination).await_end() == 0
    shell = " ".join(bastion.command("ssh", *batch))
    assert start(bastion, "/usr/bin/rsync", "-e", shell, str(file), f"{destination}:three").await_end() == 0
    assert bastion.shell("cd /home/approves && cat one two three | sort -u | wc -l").strip() == "1"
    bastion.shell("git init -q --bare /home/approves/repository && chown -R approves: /home/approves/repository")
    git = start(bastion, "/usr/bin/env", f"GIT_SSH_COMMAND={shell}", "git", "ls-remote", f"{destination}:repository")
    assert git.await_end() == 0, git.text
    assert [event["STARLING_REASON"] for event in bastion.audit()] == ["push_approved"] * 5


def test_key_push_mode_refuses_who_denies(bastion: Bastion) -> None:
    bastion.configure("key-push", account="without_second_factor = push")
    terminal = bastion.log_in("denies", options=("-o", "BatchMode=yes"))
    assert terminal.status != 0
    assert "in as" not in terminal.text


# --- other clients and channels -------------------------------------------------------------------------------------


def test_scp_and_sftp_are_behind_the_second_factor(bastion: Bastion) -> None:
    file, destination = bastion.work / "id.pub", f"approves@{bastion.address}"
    for program in ("scp", "sftp"):
        terminal = start(bastion, *bastion.command(program), *([str(file)] if program == "scp" else []),
                         f"{destination}:{'copied' if program == 'scp' else '.bashrc'}",
                         *([] if program == "scp" else [str(bastion.work / "fetched")]))  # fmt: skip
        approve_at_prompt(terminal)
        assert terminal.await_end() == 0, terminal.text
    assert (bastion.work / "fetched").exists()
    assert [event["STARLING_REASON"] for event in bastion.audit()] == ["push_approved"] * 2


def test_a_forwarding_only_connection_is_behind_the_second_factor(bastion: Bastion) -> None:
    terminal = start(bastion, *bastion.command("ssh", "-N"), f"approves@{bastion.address}")
    approve_at_prompt(terminal)
    [opened] = bastion.await_audit("session_open")
    terminal.kill()
    [closed] = bastion.await_audit("session_close")
    assert opened["STARLING_LOGIN"] == closed["STARLING_LOGIN"]


def test_both_ends_of_a_jump_are_behind_the_second_factor(bastion: Bastion) -> None:
    jump = " ".join(bastion.command("ssh", "-W", "%h:%p"))
    hop = f"ProxyCommand={jump} approves@{bastion.address}"
    key_anyway = ("-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR")
    terminal = start(bastion, *bastion.command("ssh", "-o", hop, *key_anyway), "approves@127.0.0.1", "echo inside")
    approve_at_prompt(terminal)
    approve_at_prompt(terminal)
    assert terminal.await_end() == 0, terminal.text
    assert "inside" in terminal.text
    assert [event["STARLING_REASON"] for event in bastion.audit()] == ["push_approved"] * 2


def test_what_follows_on_a_shared_connection_needs_no_second_one(bastion: Bastion) -> None:
    control = ("-o", f"ControlPath={bastion.work / 'control'}")
    first = bastion.ssh("approves", "-o", "ControlMaster=yes", *control, remote="echo first; sleep 60")
    approve_at_prompt(first)
    first.await_text("first")
    second = bastion.log_in("approves", options=control)
    assert "in as approves" in second.text
    assert len(bastion.audit()) == 1


# --- ways around ----------------------------------------------------------------------------------------------------


def test_a_login_by_key_alone_is_refused(bastion: Bastion, sandbox: Sandbox) -> None:
    bastion.configure("key", sshd="AuthenticationMethods publickey")
    terminal = bastion.log_in("approves")
    assert "in as" not in terminal.text
    assert [event["STARLING_REASON"] for event in bastion.audit()] == ["no_second_factor"]
    assert bastion.audit("session_open") == []
    assert sandbox.log() == []


def test_a_sufficient_line_before_ours_does_not_skip_the_second_factor(bastion: Bastion) -> None:
    stack = bastion.run("cat", "/etc/pam.d/sshd")
    bastion.write("/etc/pam.d/sshd", "auth sufficient pam_permit.so\n" + stack)
    terminal = bastion.log_in("approves")
    assert "in as" not in terminal.text
    assert [event["STARLING_REASON"] for event in bastion.audit()] == ["no_second_factor"]


def test_forged_variables_do_not_change_whose_session_it_is(bastion: Bastion) -> None:
    forged = "PAM_STARLING_LOGIN DEFAULT=11111111-1111-4111-8111-111111111111\nSSH_CONNECTION DEFAULT=192.0.2.1\n"
    bastion.write("/home/forger/.pam_environment", forged)
    terminal = bastion.log_in("forger", "")
    assert "in as forger" in terminal.text
    [event] = bastion.audit()
    [opened] = bastion.await_audit("session_open")
    [closed] = bastion.await_audit("session_close")
    assert opened["STARLING_LOGIN"] == closed["STARLING_LOGIN"] == event["STARLING_LOGIN"]
    assert opened["STARLING_CLIENT_IP"] == bastion.engine.gateway


def test_forged_variables_that_reach_us_first_open_no_session(bastion: Bastion) -> None:
    bastion.write("/home/forger/.pam_environment", "PAM_STARLING_LOGIN DEFAULT=11111111-1111-4111-8111-111111111111\n")
    stack = bastion.run("cat", "/etc/pam.d/sshd")
    wrong_order = stack.replace(f"session  requisite  {ENTRY}\n", "") + f"session requisite {ENTRY}\n"
    assert wrong_order != stack
    bastion.write("/etc/pam.d/sshd", wrong_order)
    terminal = bastion.log_in("forger", "")
    assert "in as" not in terminal.text
    assert [event["STARLING_REASON"] for event in bastion.audit("session_open")] == ["no_record"]


def test_the_unix_password_never_reaches_the_service(bastion: Bastion, sandbox: Sandbox) -> None:
    bastion.configure("key", sshd="PasswordAuthentication yes\nAuthenticationMethods password")
    methods = ("-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1")
    terminal = bastion.ssh("approves", *methods, key=False)
    terminal.await_prompt()
    terminal.type("Unix-password-of-approves")
    assert terminal.await_end() != 0
    assert "in as" not in terminal.text
    assert sandbox.log() == []


@pytest.mark.parametrize("method", ["keyboard-interactive:pam", "password", "any"])
def test_whoever_is_exempt_is_not_let_in_by_name_alone(bastion: Bastion, method: str) -> None:
    bastion.configure("key", sshd=f"PasswordAuthentication yes\nAuthenticationMethods {method}", **EXEMPT)
    offered = ("-o", "PreferredAuthentications=keyboard-interactive,password", "-o", "NumberOfPasswordPrompts=1")
    terminal = bastion.ssh("approves", *offered, key=False)
    if method != "keyboard-interactive:pam":
        terminal.await_prompt()
        terminal.type("anything at all")
    assert terminal.await_end() != 0
    assert "in as" not in terminal.text
    assert {event["STARLING_REASON"] for event in bastion.audit()} == {"no_first_factor"}
    assert bastion.audit("session_open") == []


def test_an_expired_unix_password_does_not_skip_the_second_factor(bastion: Bastion) -> None:
    bastion.shell("chage -d 0 expired")
    try:
        bastion.configure("key", sshd="AuthenticationMethods publickey")
        assert "in as" not in bastion.log_in("expired").text
        bastion.configure("key")
        terminal = bastion.ssh("expired")
        approve_at_prompt(terminal)
        terminal.await_text("required to change your password")
        terminal.kill()
        assert [event["STARLING_REASON"] for event in bastion.audit()] == ["push_approved"]
    finally:
        bastion.shell("chage -d 2026-01-01 expired")


def test_a_pam_service_that_is_not_ours_is_refused(bastion: Bastion) -> None:
    bastion.write("/etc/pam.d/other-service", f"auth requisite {ENTRY}\n")
    refused = bastion.shell("pamtester other-service approves authenticate 2>&1", check=False)
    assert "Authentication failure" in refused
    messages = [entry["MESSAGE"] for entry in bastion.journal() if entry.get("SYSLOG_IDENTIFIER") == "pam_starling"]
    assert messages == ["authenticate refused: the PAM service other-service is not among services="]
