"""starlingctl join on a real bastion: asked for without echo, checked, and kept so that only this host can read it."""

import pytest

from tests.sandbox.running import Sandbox
from tests.system.bastion import Bastion
from tests.system.terminal import Terminal

pytestmark = pytest.mark.system

PLAIN = "/etc/pam-starling/credentials/starling.credential"
ENCRYPTED = "/etc/pam-starling/credentials.encrypted/starling.credential"
DROP_IN = "/etc/systemd/system/starlingd.service.d/pam-starling-starling.credential.conf"


@pytest.fixture
def fresh(bastion: Bastion) -> Bastion:
    """Offer a bastion that has not joined, with the line for it as the package brings it."""
    bastion.shell(
        f"sed -i 's/^credential = .*/#credential = $/' /etc/pam-starling/starling.conf; "
        f"rm -rf {PLAIN} {ENCRYPTED} {DROP_IN}; systemctl daemon-reload; systemctl restart starlingd.service"
    )
    return bastion


def join(bastion: Bastion, *arguments: str) -> Terminal:
    docker = ["/usr/bin/docker", "-H", f"unix://{bastion.engine.socket}", "exec", "-it", bastion.name]
    terminal = Terminal.run([*docker, "starlingctl", "join", *arguments])
    bastion.terminals.append(terminal)
    return terminal


def answer(terminal: Terminal, credential: str) -> None:
    client_id, secret = credential.split(":")
    terminal.await_text("Client id: ")
    terminal.type(client_id)
    terminal.await_text("Client secret: ")
    terminal.type(secret)


def test_it_is_kept_encrypted_and_used(fresh: Bastion, sandbox: Sandbox) -> None:
    terminal = join(fresh, "--restart")
    answer(terminal, sandbox.credential)
    assert terminal.await_end() == 0, terminal.text
    secret = sandbox.credential.split(":")[1]
    assert secret not in terminal.text
    assert "kept encrypted" in terminal.text
    assert fresh.shell(f"stat -c '%a %U' {ENCRYPTED}").split() == ["600", "root"]
    assert secret not in fresh.shell(f"cat {ENCRYPTED} {DROP_IN}; test ! -e {PLAIN}")
    assert "in as approves" in fresh.log_in("approves", "").text
    assert "fine" in fresh.run("starlingctl", "check-config")
    assert secret not in fresh.logged()
    assert fresh.shell("grep ^credential /etc/pam-starling/starling.conf").strip() == "credential = $"
    assert fresh.shell("stat -c '%a %U:%G' /etc/pam-starling/starling.conf").split() == ["640", "root:starlingd"]


def test_what_was_kept_before_is_replaced_either_way(fresh: Bastion, sandbox: Sandbox) -> None:
    for arguments, there, gone in (
        (("--plain",), PLAIN, ENCRYPTED),
        ((), ENCRYPTED, PLAIN),
        (("--plain",), PLAIN, DROP_IN),
    ):
        said = fresh.run(
            "sh", "-c", f"cat | starlingctl join --restart --file - {' '.join(arguments)}", text=sandbox.credential
        )
        assert "restarted" in said
        fresh.shell(f"test -s {there} && test ! -e {gone}")
        fresh.sandbox.forget()
        assert "in as approves" in fresh.log_in("approves", "").text
    assert fresh.shell(f"stat -c '%a %U' {PLAIN}").split() == ["600", "root"]


def test_what_the_service_refuses_is_not_kept(fresh: Bastion, sandbox: Sandbox) -> None:
    terminal = join(fresh)
    answer(terminal, f"{sandbox.credential.split(':')[0]}:wrong-secret")
    assert terminal.await_end() == 1
    assert "nothing is kept" in terminal.text
    assert "wrong-secret" not in terminal.text
    fresh.shell(f"test ! -e {PLAIN} && test ! -e {ENCRYPTED} && test ! -e {DROP_IN}")
    assert fresh.shell("grep -c '^#credential = \\$' /etc/pam-starling/starling.conf").strip() == "1"


def test_a_service_that_cannot_be_reached_keeps_nothing_unless_told(fresh: Bastion, sandbox: Sandbox) -> None:
    fresh.shell("sed -i 's|^token_url.*|token_url = https://127.0.0.1:9|' /etc/pam-starling/starling.conf")
    keep = "cat | starlingctl join --file - {} 2>&1; echo status $?"
    said = fresh.run("sh", "-c", keep.format(""), text=sandbox.credential)
    assert "nothing is kept" in said
    assert "status 1" in said
    said = fresh.run("sh", "-c", keep.format("--without-check"), text=sandbox.credential)
    assert "status 0" in said
    fresh.shell(f"test -s {ENCRYPTED}")


def test_a_host_without_a_key_keeps_it_in_roots_file(fresh: Bastion, sandbox: Sandbox) -> None:
    fresh.shell("mv /usr/bin/systemd-creds /root/")
    try:
        said = fresh.run("sh", "-c", "cat | starlingctl join --restart --file -", text=sandbox.credential)
    finally:
        fresh.shell("mv /root/systemd-creds /usr/bin/")
    assert "keeps no encrypted credential" in said
    assert "which only root can read" in said
    assert fresh.shell(f"stat -c '%a %U' {PLAIN}").split() == ["600", "root"]
    assert "in as approves" in fresh.log_in("approves", "").text


def test_nobody_but_root_joins(fresh: Bastion) -> None:
    said = fresh.shell("runuser -u approves -- /usr/sbin/starlingctl join --file /dev/null 2>&1; echo status $?")
    assert "needs root" in said
    assert "status 1" in said
