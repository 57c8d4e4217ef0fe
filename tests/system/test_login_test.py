"""starlingctl login-test on a real bastion: the real stack, in a process of its own, and nothing that stays."""

import json

import pytest

from tests.sandbox.running import Sandbox
from tests.system.bastion import Bastion
from tests.system.terminal import Terminal

pytestmark = pytest.mark.system

APPLICATION = "/usr/lib/pam-starling/daemon/starlingd/cli/logintest/application.py"
UNTOLD = f"""
import json, socket, subprocess
ours, theirs = socket.socketpair()
request = {{"service": "sshd", "user": "approves", "rhost": "192.0.2.7", "tty": "ssh", "steps": ["account"]}}
command = ["/usr/bin/python3", "-I", "{APPLICATION}", str(theirs.fileno()), json.dumps(request)]
with subprocess.Popen(command, pass_fds=[theirs.fileno()]):
    theirs.close()
    ours.sendall(b"go\\n")
    print(ours.makefile().read())
"""
"""Has login-test's application run for a daemon that was told of no test, as after a restart in between."""


def begin(bastion: Bastion, *arguments: str) -> Terminal:
    """Start login-test on a terminal of its own."""
    docker = ["/usr/bin/docker", "-H", f"unix://{bastion.engine.socket}", "exec", "-it", bastion.name]
    terminal = Terminal.run([*docker, "starlingctl", "login-test", *arguments])
    bastion.terminals.append(terminal)
    return terminal


def leaves_nothing(bastion: Bastion) -> bool:
    tables = ("records", "sessions", "grace")
    counts = [bastion.shell(f"sqlite3 /var/lib/starlingd/state.db 'select count(*) from {name}'") for name in tables]
    return {count.strip() for count in counts} == {"0"}


def test_a_code_passes_every_step_and_leaves_nothing_but_an_audit_event(bastion: Bastion, sandbox: Sandbox) -> None:
    bastion.configure("key", authentication_cache="reuse_limit = 3", **{
        "connection_limit by=client_ip_gateway_user": "limit = 1",
    })  # fmt: skip
    terminal = begin(bastion, "manual", "--from", "192.0.2.7")
    assert "Press Enter for push notification" in terminal.await_prompt()
    terminal.type(sandbox.code_for("manual"))
    assert terminal.await_end() == 0, terminal.text
    assert "authenticate  passed\n              starlingd: allow, code_verified" in terminal.text
    assert "account       passed" in terminal.text
    assert "would get in; this was a test" in terminal.text
    [event] = bastion.await_audit()
    assert (event["STARLING_MODE"], event["STARLING_CLIENT_IP"]) == ("test", "192.0.2.7")
    assert bastion.audit("session_open") == []
    assert leaves_nothing(bastion)
    told = json.loads(bastion.run("starlingctl", "status", "--json"))
    assert (told["sessions"], told["today"]) == (0, {})


def test_a_push_that_is_denied_tells_why(bastion: Bastion) -> None:
    terminal = begin(bastion, "denies")
    terminal.await_prompt()
    terminal.type("")
    assert terminal.await_end() == 1
    assert "authenticate  refused: " in terminal.text
    assert "starlingd: deny, push_denied" in terminal.text
    assert "would not get in" in terminal.text


def test_passwords_are_asked_for_without_echo(bastion: Bastion, sandbox: Sandbox) -> None:
    bastion.configure("password")
    terminal = begin(bastion, "manual")
    terminal.await_prompt()
    terminal.type("Unix-password-of-manual")
    terminal.await_text("Press Enter")
    terminal.await_prompt()
    terminal.type(sandbox.code_for("manual"))
    assert terminal.await_end() == 0, terminal.text
    assert "Unix-password" not in terminal.text


def test_key_push_mode_has_the_account_step_alone(bastion: Bastion) -> None:
    bastion.configure("key-push", account="without_second_factor = push")
    terminal = begin(bastion, "approves", "--json")
    assert terminal.await_end() == 0, terminal.text
    told = json.loads(terminal.text)
    assert (told["passed"], told["mode"]) == (True, "key-push")
    assert [step["step"] for step in told["steps"]] == ["account"]
    assert [decision["reason"] for decision in told["decisions"]] == ["push_approved"]


def test_what_the_module_itself_refuses_is_read_from_the_log(bastion: Bastion) -> None:
    bastion.shell("sed -i 's/entry.py$/entry.py no_such_option=1/' /etc/pam.d/sshd")
    terminal = begin(bastion, "manual")
    assert terminal.await_end() == 1
    assert "not understood: no_such_option=1" in terminal.text


def test_an_interrupt_hangs_up(bastion: Bastion) -> None:
    terminal = begin(bastion, "never-answers")
    terminal.await_prompt()
    terminal.type("")
    bastion.sandbox.await_push()
    terminal.type(b"\x03")
    assert terminal.await_end() != 0
    assert bastion.await_audit()[0]["STARLING_REASON"] == "hung_up"


def test_without_a_daemon_it_is_status_3_and_nothing_runs(bastion: Bastion) -> None:
    bastion.shell("systemctl stop starlingd.socket starlingd-control.socket starlingd.service")
    try:
        terminal = begin(bastion, "manual")
        assert terminal.await_end() == 3
        assert "Press Enter" not in terminal.text
    finally:
        bastion.shell("systemctl start starlingd.socket starlingd-control.socket")


def test_a_daemon_that_was_restarted_takes_no_test_for_a_login(bastion: Bastion) -> None:
    exempt = {"whitelist source=user_list": "name = robots", "user_list robots": "allow = no_user\nexcept = approves"}
    bastion.configure("key-push", **exempt)
    terminal = begin(bastion, "approves", "--json")
    assert terminal.await_end() == 0, terminal.text
    bastion.write("/root/untold.py", UNTOLD)
    told = json.loads(bastion.shell("python3 /root/untold.py"))
    assert (told["step"], told["code"] != 0) == ("account", True)
    assert [event["STARLING_REASON"] for event in bastion.audit()] == ["exempt_user_list", "no_record"]
    assert leaves_nothing(bastion)


def test_nobody_but_root_runs_it(bastion: Bastion) -> None:
    said = bastion.shell("runuser -u approves -- /usr/sbin/starlingctl login-test manual 2>&1; echo status $?")
    assert "needs root" in said
    assert "status 1" in said
    said = bastion.shell(f"runuser -u approves -- python3 -I {APPLICATION} 0 '{{}}' 2>&1; echo status $?")
    assert "only root" in said
