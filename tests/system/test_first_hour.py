"""docs/first-hour.md, word by word, in a fresh container: each command is run, and what the page promises is seen."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system import bastion as bastions
from tests.system.engine import BARE
from tests.system.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.running import Sandbox
    from tests.system.bastion import Bastion
    from tests.system.engine import Engine

pytestmark = pytest.mark.system

PAGE = Path(__file__).resolve().parents[2] / "docs" / "first-hour.md"
COMMAND = re.compile(r"(root@bastion#|laptop\$|alice@bastion\$) (.+)")
PATIENCE = 60.0
APPROVE = "(approve on the phone)"


@dataclass
class Line:
    """A command of the page, and what stands below it."""

    where: str
    command: str
    below: list[str] = field(default_factory=list)


def commands() -> list[Line]:
    """Read the page: every fenced block is a console."""
    found: list[Line] = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for text in block.splitlines():
            prompt = COMMAND.fullmatch(text)
            if prompt is None:
                found[-1].below.append(text)
            else:
                found.append(Line(prompt[1], prompt[2]))
    return found


@pytest.fixture
def fresh(engine: Engine, deb: Path, sandbox: Sandbox, tmp_path: Path) -> Iterator[Bastion]:
    """Offer a bastion that has never seen the package, with alice, who may use sudo."""
    with bastions.bastion(engine, sandbox, tmp_path, "first-hour", BARE) as booted:
        engine.docker("cp", str(deb), f"{booted.name}:/root/")
        booted.shell(
            "useradd -m -s /bin/bash alice && install -d -m 700 -o alice -g alice /home/alice/.ssh "
            "&& install -o alice -m 600 /root/key.pub /home/alice/.ssh/authorized_keys "
            "&& echo 'alice ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/alice"
        )
        booted.await_sshd()
        sandbox.forget()
        yield booted


class Reader:
    """Somebody who does what the page says."""

    def __init__(self, bastion: Bastion, sandbox: Sandbox) -> None:
        self.bastion = bastion
        self.sandbox = sandbox
        self.session: Terminal | None = None
        client_id, secret = sandbox.credential.split(":")
        self.values = {
            "CLIENT-ID": client_id,
            "CLIENT-SECRET": secret,
            "1234567890": sandbox.users["manual"].id,
        }

    def do(self, line: Line) -> None:
        """Run one command, answer what it asks, and see what is promised."""
        terminal, begun = self.begin(line)
        for text in line.below:
            self.follow(terminal, self.own(text), begun)
        if line.where == "root@bastion#":
            # The doctor may warn: sshd does not ask yet.
            assert terminal.await_end(PATIENCE) <= int("doctor" in line.command), terminal.text
        elif line.command == "exit":
            assert terminal.await_end(PATIENCE) == 0, terminal.text
        elif line.where == "alice@bastion$":
            terminal.await_text("done 0", PATIENCE)

    def begin(self, line: Line) -> tuple[Terminal, int]:
        """Start a command, or type it into the session; tell the terminal, and how much it showed before."""
        command = self.own(line.command)
        if line.where == "alice@bastion$":
            assert self.session is not None
            begun = len(self.session.text)
            self.session.type(command if command == "exit" else f"{command}; echo done $?")
            return self.session, begun
        if line.where == "laptop$":
            assert command == "ssh alice@bastion"
            started = Terminal.run([*self.bastion.command("ssh", "-tt"), f"alice@{self.bastion.address}"])
            self.session = started
        else:
            docker = ["/usr/bin/docker", "-H", f"unix://{self.bastion.engine.socket}", "exec", "-it", "-w", "/root"]
            started = Terminal.run([*docker, self.bastion.name, "sh", "-c", command])
        self.bastion.terminals.append(started)
        return started, 0

    def follow(self, terminal: Terminal, text: str, begun: int) -> None:
        """Wait for a line of the page, and type what stands behind its arrow."""
        if text == APPROVE:
            push = self.sandbox.await_push()
            self.sandbox.approve(push["id"])
            return
        shown, arrow, typed = text.partition(" ← ")
        terminal.await_text(shown, PATIENCE, begun)
        if arrow:
            terminal.type("" if typed == "Enter" else typed)

    def own(self, text: str) -> str:
        """Put the site's own values in the place of the page's."""
        for name, value in self.values.items():
            text = text.replace(name, value)
        return text

    def prepare_for_the_sandbox(self) -> None:
        """Have the sandbox stand where the service is: what the page's reader need not do."""
        self.bastion.write("/etc/pam-starling/sandbox-ca.pem", self.sandbox.ca_file.read_text(encoding="ascii"))
        url = self.sandbox.url
        lines = rf"service_url = {url}\ntoken_url = {url}\nca_file = /etc/pam-starling/sandbox-ca.pem"
        self.bastion.shell(rf"sed -i 's|^\[starling\]$|&\n{lines}|' /etc/pam-starling/starling.conf")


def test_the_page_has_a_command_for_each_step() -> None:
    found = [line.command for line in commands()]
    assert len(found) > 15
    for part in ("apt install", "join", "check-config", "doctor", "pam enable", "pam confirm", "pam disable"):
        assert any(part in command for command in found)


def test_the_page_does_what_it_says(fresh: Bastion, sandbox: Sandbox) -> None:
    reader = Reader(fresh, sandbox)
    before = fresh.shell("find /etc/pam.d /etc/ssh -type f -exec md5sum {} + | sort")
    for line in commands():
        reader.do(line)
        if line.command.startswith("apt install"):
            reader.prepare_for_the_sandbox()
    assert fresh.shell("find /etc/pam.d /etc/ssh -type f -exec md5sum {} + | sort") == before
