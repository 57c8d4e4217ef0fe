"""A real daemon over a real slapd and the sandbox, for provisioning at size: started, asked, killed, started again."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlingd.core.rules import DirectorySchema
from tests.directory.population import SECRET, Group, Population, Someone
from tests.directory.slapd import BASE, READER, Slapd
from tests.directory.slapd import running as running_slapd
from tests.sandbox.running import Sandbox
from tests.sandbox.running import sandbox as running_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

TREE = Path(__file__).resolve().parents[2]
RUN = f"import sys; sys.path[:0] = ['{TREE}', '{TREE}/daemon']; from starlingd.main import main; main()"
PATIENCE = 30.0
CONFIG = """
[starling]
credential = {credential}
service_url = {url}
token_url = {url}
ca_file = {starling_ca}
[ldap_server]
name = corp
[ldap_server_policy corp]
uri = ldap://localhost:{port}
base_dn = {base}
bind_dn = {reader}
bind_password = {secret}
schema = rfc2307
tls = starttls
ca_file = {ldap_ca}
[starling_auto_provision]
email_attribute = mail
phone_attribute = mobile
[provisioning]
groups = staff
rate_limit = 6000
interval = 1h
"""


@dataclass
class Provisioned:
    """A daemon that may be killed, what it knows people from, and where it enrols them."""

    folder: Path
    slapd: Slapd
    sandbox: Sandbox
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        for name in ("pam.sock", "control.sock"):
            (self.folder / name).unlink(missing_ok=True)
        files = ["--config", "starling.conf", "--state", "state.db"]
        sockets = ["--socket", "pam.sock", "--control-socket", "control.sock"]
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["/usr/bin/python3", "-I", "-c", RUN, *files, *sockets], cwd=self.folder, stderr=log
            )
        ends = time.monotonic() + PATIENCE
        while True:
            try:
                self.ask("provision status", brief=True)
            except OSError:
                if time.monotonic() > ends or self.process.poll() is not None:
                    raise
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """Kill the daemon as nothing else kills."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(PATIENCE)

    def memory(self) -> float:
        """Tell the most memory that the daemon ever had resident, in MiB."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024

    def ask(self, command: str, **request: object) -> Any:  # noqa: ANN401  JSON
        """Ask as starlingctl does."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(self.folder / "control.sock"))
            sock.sendall(json.dumps({"command": command, **request}).encode() + b"\n")
            with sock.makefile("rb") as lines:
                answer = json.loads(lines.readline())
        assert "result" in answer, answer
        return answer["result"]

    def finish(self, *, plan: bool = False, patience: float = 4 * PATIENCE) -> dict[str, Any]:
        """Wait for the end of the run or plan that is under way, and tell it."""
        ends = time.monotonic() + patience
        while not (run := self.ask("provision status", plan=plan, brief=True)["run"])["outcome"]:
            assert time.monotonic() < ends, run
            time.sleep(0.05)
        told: dict[str, Any] = run
        return told


@contextmanager
def provisioned(folder: Path, people: int) -> Iterator[Provisioned]:
    """Offer a daemon, not started yet, with a directory of that many people, all of them in the group."""
    names = tuple(f"person{number}" for number in range(people))
    staff = tuple(
        Someone(name, (f"{name}@example.org",), (f"+49 151 {10_000_000 + number}",))
        for number, name in enumerate(names)
    )
    population = Population(staff, (Group("staff", names),))
    with running_sandbox() as sandbox, running_slapd(folder, DirectorySchema.RFC2307, population) as slapd:
        text = CONFIG.format(
            credential=sandbox.credential,
            url=sandbox.url,
            starling_ca=sandbox.ca_file,
            port=slapd.port,
            base=BASE,
            reader=READER,
            secret=SECRET,
            ldap_ca=slapd.ca_file,
        )
        config = folder / "starling.conf"
        config.write_text(text, encoding="ascii")
        config.chmod(0o600)
        made = Provisioned(folder, slapd, sandbox)
        try:
            yield made
        finally:
            made.kill()
