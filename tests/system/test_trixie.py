"""The same package on the next Debian: another Python, another pam_python, another OpenSSH."""

import time
from collections.abc import Iterator

import pytest

from tests.sandbox.running import Sandbox
from tests.system import bastion as bastions
from tests.system import engine as engines
from tests.system.bastion import Bastion
from tests.system.engine import TRIXIE, Engine

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def trixie(
    engine: Engine, deb: "object", sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bastion]:
    """Offer a bastion on trixie."""
    engines.build_image(engine, deb, bastions.people(), TRIXIE)
    work = tmp_path_factory.mktemp("client-trixie")
    with bastions.bastion(engine, sandbox, work, "trixie", engines.image_of(TRIXIE)) as booted:
        yield booted


@pytest.fixture
def bastion(trixie: Bastion) -> Iterator[Bastion]:
    """Offer it in key mode."""
    trixie.configure("key")
    yield trixie
    for terminal in trixie.terminals:
        terminal.close()
    trixie.terminals.clear()


def test_it_is_the_next_debian(bastion: Bastion) -> None:
    assert "VERSION_CODENAME=trixie" in bastion.run("cat", "/etc/os-release")
    assert bastion.run("python3", "--version") >= "Python 3.13"


def test_a_push_and_a_code_let_in_and_a_wrong_code_does_not(bastion: Bastion, sandbox: Sandbox) -> None:
    assert "in as approves" in bastion.log_in("approves", "").text
    assert "in as manual" in bastion.log_in("manual", sandbox.code_for("manual")).text
    refused = bastion.log_in("manual", "000000", "000000", "000000")
    assert "in as" not in refused.text
    assert [event["STARLING_OUTCOME"] for event in bastion.audit()] == ["allow", "allow", "deny"]


def test_password_mode_and_the_session_hooks_work(bastion: Bastion) -> None:
    bastion.configure("password")
    terminal = bastion.ssh("approves", key=False)
    terminal.await_prompt()
    terminal.type("Unix-password-of-approves")
    terminal.await_prompt()
    terminal.type("")
    assert terminal.await_end() == 0
    assert len(bastion.await_audit("session_close")) == 1


def test_both_sockets_survive_a_restart_of_the_daemon(bastion: Bastion) -> None:
    before = bastion.shell("stat -c %i /run/starlingd/pam.sock /run/starlingd/control.sock")
    for _ in range(2):
        bastion.run("systemctl", "restart", "starlingd.service")
        assert "configured" in bastion.run("starlingctl", "status", "--json")
        assert "in as approves" in bastion.log_in("approves", "").text
    assert bastion.shell("stat -c %i /run/starlingd/pam.sock /run/starlingd/control.sock") == before
    assert not [line for line in bastion.journal() if "clean up" in str(line.get("MESSAGE"))]


def test_a_client_of_the_control_socket_that_says_nothing_holds_up_no_stop(bastion: Bastion) -> None:
    client = "import socket as s; c = s.socket(s.AF_UNIX); c.connect('/run/starlingd/control.sock'); input()"
    bastion.shell(f'mkfifo /root/held && (sleep 60 > /root/held & python3 -c "{client}" < /root/held &) && sleep 1')
    began = time.monotonic()
    bastion.run("systemctl", "restart", "starlingd.service")
    assert time.monotonic() - began < 10, "systemd had to kill it"
    assert "timed out" not in bastion.logged()


def test_doctor_finds_no_error(bastion: Bastion) -> None:
    found = bastion.shell("starlingctl doctor --json", check=False)
    assert '"severity": "error"' not in found, found


def test_the_cage_is_as_tight(bastion: Bastion) -> None:
    said = bastion.shell("systemd-analyze security --no-pager --threshold=15 starlingd.service; echo status $?")
    assert said.rstrip().endswith("status 0"), said[-500:]
