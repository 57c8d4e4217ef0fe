"""A booted bastion in a container: systemd, sshd, the installed package; and the words tests use about it."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.sandbox.behaviours import BEHAVIOURS
from tests.system.engine import IMAGE
from tests.system.machine import PATIENCE, Machine, booted
from tests.system.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sandbox.running import Sandbox
    from tests.system.engine import Engine

ENTRY = "pam_python.so /usr/lib/pam-starling/entry.py"
RECIPES = "/usr/share/doc/pam-starling/recipes"
EXTRA_PEOPLE = ("expired", "forger")
UNMAPPED = ("newcomer", "ldapper")
"""Accounts that no explicit mapping names."""


def unix_name(behaviour: str) -> str:
    """Tell the account that maps to the sandbox's user of this behaviour."""
    return behaviour if behaviour[0].isalpha() else f"u{behaviour}"


def people() -> list[str]:
    """Tell all accounts of the bastion."""
    return [*map(unix_name, BEHAVIOURS), *EXTRA_PEOPLE, *UNMAPPED]


@dataclass
class Bastion(Machine):
    """One running bastion. ``work`` holds the ssh client's key and known hosts."""

    sandbox: Sandbox
    work: Path
    cursor: str = ""
    recipes: dict[str, list[str]] = field(default_factory=dict)
    terminals: list[Terminal] = field(default_factory=list)

    # --- configuration ------------------------------------------------------------------------------------------

    def configure(self, mode: str = "key", *, sshd: str = "", starling: str = "", **sections: str) -> None:
        """Set PAM and sshd up by the recipe of ``mode``, and starlingd for the sandbox; restart both.

        ``sshd`` goes before the recipe's lines, ``starling`` into [starling], and each of ``sections`` into the
        section of its name.
        """
        stack, snippet = self._recipe(mode)
        files = self._configuration(starling, **sections) | {
            "/etc/pam.d/sshd": (stack, "0644"),
            "/etc/ssh/sshd_config.d/00-starling.conf": (f"{sshd}\nMaxStartups 200\n{snippet}", "0644"),
        }
        # Tests restart sshd more often than systemd's start limit would let them.
        # The state goes too: pushes that an earlier test left unanswered would count.
        self.write_all(
            files,
            "sshd -t && systemctl reset-failed && systemctl stop starlingd.service && rm -f /var/lib/starlingd/* "
            "&& systemctl restart ssh.service starlingd.socket && systemctl start starlingd.service",
        )
        self.await_sshd()
        self.sandbox.forget()
        self.cursor = self._newest_cursor()

    def write_configuration(self, starling: str = "", **sections: str) -> None:
        """Write starling.conf for the sandbox."""
        self.write_all(self._configuration(starling, **sections))

    def _configuration(self, starling: str = "", **sections: str) -> dict[str, tuple[str, str]]:
        lines = [
            "[starling]\ncredential = $",
            f"service_url = {self.sandbox.url}\ntoken_url = {self.sandbox.url}",
            "ca_file = /etc/pam-starling/sandbox-ca.pem",
            starling,
            *(f"[{name}]\n{text}" for name, text in sections.items()),
            "[usermapping source=explicit]",
            *(f"{unix_name(name)} = {self.sandbox.users[name].id}" for name in BEHAVIOURS),
            *(f"{name} = {self.sandbox.users['approves'].id}" for name in EXTRA_PEOPLE),
        ]
        return {
            "/etc/pam-starling/starling.conf": ("\n".join(lines) + "\n", "0640"),
            "/etc/pam-starling/sandbox-ca.pem": (self.sandbox.ca_file.read_text(encoding="ascii"), "0644"),
            "/etc/pam-starling/credentials/starling.credential": (self.sandbox.credential, "0600"),
        }

    def _recipe(self, mode: str) -> tuple[str, str]:
        """Make /etc/pam.d/sshd of the stock one and the recipe of ``mode``; tell the recipe's lines for sshd too."""
        if mode not in self.recipes:
            names = f"/root/pam.d.before/sshd {RECIPES}/{mode}.pam {RECIPES}/{mode}.sshd.conf"
            self.recipes[mode] = self.shell(f"for file in {names}; do cat $file && printf '\\0'; done").split("\0")
        stock, recipe, snippet, _ = self.recipes[mode]
        lines = [line for line in recipe.splitlines() if not line.startswith("#")]
        auth = [line for line in lines if line.startswith("auth")]
        first = [line for line in lines if not line.startswith("auth")]
        if mode == "key":
            stock = stock.replace("@include common-auth", "\n".join(auth))
        elif mode == "password":
            stock = stock.replace("@include common-auth", "\n".join(["@include common-auth", *auth]))
        return "\n".join([*first, stock]), snippet

    def await_sshd(self) -> None:
        """Wait until sshd accepts connections, and trust its host key."""
        known, ends = self.work / "known_hosts", time.monotonic() + PATIENCE
        while True:
            found = subprocess.run(
                ["/usr/bin/ssh-keyscan", "-t", "ed25519", self.address], capture_output=True, text=True, check=False
            )
            if found.stdout:
                known.write_text(found.stdout, encoding="ascii")
                return
            assert time.monotonic() < ends, "sshd does not answer"
            time.sleep(0.1)

    # --- logging in -----------------------------------------------------------------------------------------------

    def command(self, program: str, *options: str, key: bool = True) -> list[str]:
        """Make the client's command line up to its destination."""
        identity = ["-i", str(self.work / "id")] if key else ["-o", "PubkeyAuthentication=no"]
        known = f"UserKnownHostsFile={self.work / 'known_hosts'}"
        # Without this, the stock client asks for a Unix password once sshd offers no method any more.
        methods = "PreferredAuthentications=publickey,keyboard-interactive"
        common = ["-F", "none", "-o", known, "-o", "IdentitiesOnly=yes"]
        # The first of two equal options counts: a test's own come before ours.
        return [f"/usr/bin/{program}", *options, *common, "-o", methods, *identity]

    def ssh(self, user: str, *options: str, remote: str = "echo in as $(id -un)", key: bool = True) -> Terminal:
        """Start a real ssh client."""
        terminal = Terminal.run([*self.command("ssh", *options, key=key), f"{user}@{self.address}", remote])
        self.terminals.append(terminal)
        return terminal

    def log_in(self, user: str, *answers: str | bytes, options: tuple[str, ...] = (), key: bool = True) -> Terminal:
        """Log in, giving ``answers`` one by one, and wait for the end."""
        terminal = self.ssh(user, *options, key=key)
        for answer in answers:
            terminal.await_prompt()
            terminal.type(answer)
        terminal.await_end()
        return terminal

    # --- what happened ----------------------------------------------------------------------------------------------

    def audit(self, event: str = "login") -> list[dict[str, str]]:
        """Tell the audit events of one kind since ``configure``."""
        return [entry for entry in self.journal() if entry.get("STARLING_EVENT") == event]

    def await_audit(self, event: str = "login", count: int = 1, patience: float = PATIENCE) -> list[dict[str, str]]:
        """Wait until there are ``count`` audit events of one kind."""
        ends = time.monotonic() + patience
        while len(found := self.audit(event)) < count:
            assert time.monotonic() < ends, f"{len(found)} instead of {count} {event} events: {found}"
            time.sleep(0.1)
        return found

    def journal(self) -> list[dict[str, str]]:
        """Tell all journal entries since ``configure``."""
        since = f"'--after-cursor={self.cursor}'" if self.cursor else ""
        printed = self.shell(f"journalctl --sync && journalctl -o json --no-pager --all {since}")
        return [json.loads(line) for line in printed.splitlines()]

    def logged(self) -> str:
        """Tell all that programs logged since ``configure``, without the times, in which any digits may stand."""
        told = [{key: value for key, value in entry.items() if "TIMESTAMP" not in key} for entry in self.journal()]
        return str([entry | {"__CURSOR": ""} for entry in told])

    def _newest_cursor(self) -> str:
        newest = self.shell("journalctl --sync && journalctl -n 1 --show-cursor --no-pager")
        found = re.search(r"-- cursor: (\S+)", newest)
        assert found is not None
        return found[1]


@contextlib.contextmanager
def bastion(
    engine: Engine, sandbox: Sandbox, work: Path, name: str = "bastion", image: str = IMAGE
) -> Iterator[Bastion]:
    """Boot a bastion, offer it when systemd is up, and take it away."""
    with booted(engine, image, name) as machine:
        started = Bastion(engine, machine.name, sandbox, work)
        hand_out_keys(started)
        try:
            yield started
        finally:
            for terminal in started.terminals:
                terminal.close()


def hand_out_keys(booted: Bastion) -> None:
    """Make the client's key, and let it log in as everybody."""
    key = booted.work / "id"
    if not key.exists():
        subprocess.run(["/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = (booted.work / "id.pub").read_text(encoding="ascii")
    names = " ".join([*people(), "root"])
    booted.write("/root/key.pub", public)
    booted.shell(
        f"mkdir -p -m 700 /root/.ssh; for name in {names}; do home=$(getent passwd $name | cut -d: -f6); "
        "install -o $name -g $name -m 600 /root/key.pub $home/.ssh/authorized_keys; done"
    )
