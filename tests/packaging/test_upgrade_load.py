"""500 ssh logins while the daemon is restarted 20 times and the package is upgraded once: nobody is refused for it.

Most logins have no question pending: they are exempt or in their grace period, and the daemon's answer is all they
need. They run under a connection limit, so that a slot which a restart leaves taken would refuse somebody, and each
takes one reuse, no more. Fifty stand at the prompt for a while; a restart ends that conversation, they are told to try
again, and the next attempt lets them in.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.packaging.conftest import NEWER
from tests.sandbox import running
from tests.system import bastion as bastions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sandbox.running import Sandbox
    from tests.system.bastion import Bastion
    from tests.system.engine import Engine
    from tests.system.terminal import Terminal

UNASKED, ASKED = 450, 50
AT_ONCE = 8
RESTARTS = 20
PATIENCE = 120.0
AGAIN = "does not work at the moment; try again later"
EXEMPT, CACHED = "denies", "approves"
RULES = {
    "user_list calm": f"allow = no_user\nexcept = {EXEMPT}",
    "whitelist source=user_list": "name = calm",
    "auth": "push_limit = 1000",
}
TIGHT = {
    # Each client of the moment, and the session before it, which the next daemon may be told the end of.
    "connection_limit by=client_ip_gateway_user": f"limit = {2 * AT_ONCE}",
    "authentication_cache": "soft_timeout = 1h\nhard_timeout = 1h\nreuse_limit = 10000",
}


@pytest.fixture
def bastion(engine: Engine, newer_deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bastion]:
    """Offer a bastion of its own, with a newer package in its /root."""
    with (
        running.sandbox(listen=f"{engine.gateway}:0") as sandbox,
        bastions.bastion(engine, sandbox, tmp_path_factory.mktemp("client-upgrade"), "upgraded") as booted,
    ):
        engine.docker("cp", str(newer_deb), f"{booted.name}:/root/newer.deb")
        booted.configure("key", sshd="MaxStartups 1000\nLoginGraceTime 600", **RULES, **TIGHT)
        yield booted


@dataclass(frozen=True)
class Login:
    """One ssh login that is asked nothing; times in monotonic seconds."""

    user: str
    began: float
    ended: float
    said: str
    errors: str


@dataclass
class Load:
    """Logins without a question, until the trouble is over and there were enough of them."""

    bastion: Bastion
    over: threading.Event = field(default_factory=threading.Event)
    restarts: list[float] = field(default_factory=list)
    """When each began."""
    done: list[Login] = field(default_factory=list)

    def log_in(self, worker: int) -> None:
        """Log in again and again."""
        users = (EXEMPT, CACHED)
        while not self.over.is_set() or len(self.done) < UNASKED:
            self.done.append(unasked(self.bastion, users[worker % 2]))
            worker += 1

    def disturb(self) -> None:
        """Restart the daemon again and again, and upgrade the package once in between; logins are under way first."""
        try:
            while not self.done:
                time.sleep(0.1)
            for number in range(RESTARTS):
                self.restarts.append(time.monotonic())
                if number == RESTARTS // 2:
                    self.bastion.shell("DEBIAN_FRONTEND=noninteractive dpkg -i /root/newer.deb")
                else:
                    self.bastion.shell("systemctl restart starlingd.service")
                time.sleep(1.0)
        finally:
            self.over.set()


def unasked(bastion: Bastion, user: str) -> Login:
    """Log in without a question."""
    command = [*bastion.command("ssh"), f"{user}@{bastion.address}", "echo in as $(id -un)"]
    began = time.monotonic()
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    return Login(user, began, time.monotonic(), done.stdout, done.stderr)


def complaints(bastion: Bastion) -> str:
    """Tell what the module said, and sshd of a PAM that refused."""
    lines = [
        str(entry["MESSAGE"])
        for entry in bastion.journal()
        if entry.get("SYSLOG_IDENTIFIER") == "pam_starling" or "PAM" in str(entry.get("MESSAGE"))
    ]
    return "\n".join(lines[-40:])


def test_no_login_is_refused_for_restarts_and_an_upgrade(bastion: Bastion) -> None:
    load = Load(bastion)
    assert f"in as {CACHED}" in bastion.log_in(CACHED, "").text
    waiting = [bastion.ssh("manual") for _ in range(ASKED)]
    for terminal in waiting:
        terminal.await_prompt(PATIENCE)
    trouble = threading.Thread(target=load.disturb)
    trouble.start()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(load.log_in, range(AT_ONCE)))
    trouble.join(PATIENCE)
    assert len(load.restarts) == RESTARTS, "the daemon was not restarted as often as promised"
    assert len(load.done) >= UNASKED
    for restart in load.restarts:
        under_way = sum(login.began < restart < login.ended for login in load.done)
        assert under_way, f"nobody was logging in at the restart at {restart}"
    refused = [login for login in load.done if login.said != f"in as {login.user}\n"]
    assert not refused, f"{len(refused)} of {len(load.done)}: {refused[:3]}\n{complaints(bastion)}"
    assert NEWER in bastion.run("dpkg-query", "-Wf", "${Version}", "pam-starling")
    [entry] = json.loads(bastion.run("starlingctl", "grace", "list", "--json"))
    assert (entry["user"], entry["reuse_count"]) == (CACHED, Counter(login.user for login in load.done)[CACHED])
    # Those who stand at the prompt all log in at once; neither the limit nor the grace period is about that.
    bastion.write_configuration(**RULES)
    bastion.run("starlingctl", "reload")
    whoever_was_asked_is_told_and_asked_again(waiting, bastion.sandbox)


def whoever_was_asked_is_told_and_asked_again(waiting: list[Terminal], sandbox: Sandbox) -> None:
    """Type a code at each prompt; sshd asks anew, in the same connection."""
    for terminal in waiting:
        terminal.type(sandbox.code_for("manual"))
    told = 0
    for terminal in waiting:
        if not terminal.await_text_or_end(AGAIN, PATIENCE):
            continue
        told += 1
        terminal.await_prompt(PATIENCE)
        terminal.type(sandbox.code_for("manual"))
    for terminal in waiting:
        assert terminal.await_end(PATIENCE) == 0, terminal.text
        assert "in as manual" in terminal.text
    assert told == ASKED, f"{told} of {ASKED} were told to try again"
