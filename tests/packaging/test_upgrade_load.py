"""500 ssh logins while the daemon is restarted 20 times and the package is upgraded once: nobody is refused for it.

Most logins have no question pending: they are exempt, and the daemon's answer is all they need. Fifty stand at the
prompt for a while; a restart ends that conversation, they are told to try again, and the next attempt lets them in.
"""

from __future__ import annotations

import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.packaging.conftest import NEWER
from tests.sandbox import running
from tests.system import bastion as bastions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.bastion import Bastion
    from tests.system.engine import Engine

UNASKED, ASKED = 450, 50
AT_ONCE = 8
RESTARTS = 20
PATIENCE = 120.0
AGAIN = "does not work at the moment; try again later"
EXEMPT = {
    "user_list calm": "allow = no_user\nexcept = approves",
    "whitelist source=user_list": "name = calm",
    "auth": "push_limit = 1000",
}


@pytest.fixture
def bastion(engine: Engine, newer_deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bastion]:
    """Offer a bastion of its own, with a newer package in its /root."""
    with (
        running.sandbox(listen=f"{engine.gateway}:0") as sandbox,
        bastions.bastion(engine, sandbox, tmp_path_factory.mktemp("client-upgrade"), "upgraded") as booted,
    ):
        engine.docker("cp", str(newer_deb), f"{booted.name}:/root/newer.deb")
        booted.configure("key", sshd="MaxStartups 1000\nLoginGraceTime 120", **EXEMPT)
        yield booted


def unasked(bastion: Bastion) -> subprocess.CompletedProcess[str]:
    """Log in without a question."""
    command = [*bastion.command("ssh"), f"approves@{bastion.address}", "echo in as $(id -un)"]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PATIENCE
    )


def disturb(bastion: Bastion, over: threading.Event) -> None:
    """Restart the daemon again and again, and upgrade the package once in between."""
    for number in range(RESTARTS):
        if number == RESTARTS // 2:
            bastion.shell("DEBIAN_FRONTEND=noninteractive dpkg -i /root/newer.deb")
        else:
            bastion.shell("systemctl reset-failed; systemctl restart starlingd.service")
        time.sleep(1.0)
    over.set()


def complaints(bastion: Bastion) -> str:
    """Tell what the module said, and sshd of a PAM that refused."""
    lines = [
        str(entry["MESSAGE"])
        for entry in bastion.journal()
        if entry.get("SYSLOG_IDENTIFIER") == "pam_starling" or "PAM" in str(entry.get("MESSAGE"))
    ]
    return "\n".join(lines[-40:])


def test_no_login_is_refused_for_restarts_and_an_upgrade(bastion: Bastion) -> None:
    over = threading.Event()
    code = bastion.sandbox.code_for("manual")
    waiting = [bastion.ssh("manual") for _ in range(ASKED)]
    for terminal in waiting:
        terminal.await_prompt(PATIENCE)
    trouble = threading.Thread(target=disturb, args=(bastion, over))
    trouble.start()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(lambda _: unasked(bastion), range(UNASKED)))
    trouble.join(PATIENCE)
    assert over.is_set(), "the daemon was not restarted as often as promised"
    refused = [each for each in done if each.stdout != "in as approves\n"]
    assert not refused, f"{len(refused)} of {UNASKED}: {refused[:3]}\n{complaints(bastion)}"
    assert NEWER in bastion.run("dpkg-query", "-Wf", "${Version}", "pam-starling")
    # Those who stood at the prompt are told so once they answer; sshd asks anew, in the same connection.
    for terminal in waiting:
        terminal.type(code)
    told = 0
    for terminal in waiting:
        if not terminal.await_text_or_end(AGAIN, PATIENCE):
            continue
        told += 1
        terminal.await_prompt(PATIENCE)
        terminal.type(code)
    for terminal in waiting:
        assert terminal.await_end(PATIENCE) == 0, terminal.text
        assert "in as manual" in terminal.text
    assert told == ASKED, f"{told} of {ASKED} were told to try again"
