"""The sandbox as a real process, for tests and benchmarks."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.sandbox.behaviours import User

if TYPE_CHECKING:
    from collections.abc import Iterator

EXECUTABLE = Path(__file__).with_name("starling-sandbox")
PATIENCE = 20.0


@dataclass
class Sandbox:
    """A running sandbox. ``url`` serves tokens, service and phone alike; ``process`` is ours, if we started it."""

    state: Path
    process: subprocess.Popen[bytes] | None = None
    url: str = ""
    users: dict[str, User] = field(default_factory=dict)

    @property
    def ca_file(self) -> Path:
        """The authority to trust."""
        return self.state / "ca.pem"

    @property
    def credential(self) -> str:
        """``client_id:client_secret``."""
        return (self.state / "credential").read_text(encoding="utf-8")

    @property
    def api_key(self) -> str:
        """The key of the older service."""
        return (self.state / "api_key").read_text(encoding="utf-8")

    def code_for(self, name: str) -> str:
        """Tell what the user's app shows now."""
        return self.users[name].totp.now()

    def pending(self) -> list[dict[str, Any]]:
        """Tell the pushes that wait."""
        return self._call("GET", "pending")

    def await_push(self, patience: float = PATIENCE) -> dict[str, Any]:
        """Wait until a push reaches the phone, and tell it."""
        ends = time.monotonic() + patience
        while not (waiting := self.pending()):
            if time.monotonic() > ends:
                raise AssertionError("no push reached the phone")
            time.sleep(0.05)
        return waiting[0]

    def approve(self, request: str) -> None:
        """Approve a push."""
        self._call("POST", f"approve/{request}")

    def deny(self, request: str) -> None:
        """Deny a push."""
        self._call("POST", f"deny/{request}")

    def log(self) -> list[dict[str, Any]]:
        """Tell the calls of the service so far."""
        return self._call("GET", "log")

    def stats(self) -> dict[str, int]:
        """Tell how many calls of each kind there were."""
        return self._call("GET", "stats")

    def tokens(self) -> list[str]:
        """Tell all access tokens that were given out: a test looks where they must not be."""
        return self._call("GET", "tokens")

    def forget(self) -> None:
        """Forget log, pushes and faults that happen once."""
        self._call("POST", "forget")

    def add(self, name: str, behaviour: str) -> User:
        """Enrol one more user."""
        made = self._call("POST", "users", {"name": name, "behaviour": behaviour})
        self.users[name] = User(name, made["id"], made["secret"], behaviour)
        return self.users[name]

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(PATIENCE)

    def await_readiness(self) -> None:
        """Wait until it has written what its users need to know, and read that."""
        ready, ends = self.state / "users.json", time.monotonic() + PATIENCE
        while not ready.exists():
            if (self.process is not None and self.process.poll() is not None) or time.monotonic() > ends:
                raise RuntimeError("the sandbox did not start")
            os.sched_yield()
            time.sleep(0.02)
        self.url = "https://" + (self.state / "listen").read_text(encoding="utf-8")
        described = json.loads(ready.read_text(encoding="utf-8"))
        self.users = {name: User(**user) for name, user in described.items()}

    def _call(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401  JSON of a test tool
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self.url}/phone/{path}", data, method=method)
        with self._opener().open(request, timeout=PATIENCE) as response:
            return json.load(response)

    def _opener(self) -> urllib.request.OpenerDirector:
        # The phone must work whatever is wrong with the certificate.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        https = urllib.request.HTTPSHandler(context=context)
        return urllib.request.build_opener(urllib.request.ProxyHandler({}), https)


@contextlib.contextmanager
def sandbox(*arguments: str, listen: str = "127.0.0.1:0") -> Iterator[Sandbox]:
    """Start a sandbox, offer it once it accepts connections, and end it."""
    with tempfile.TemporaryDirectory(prefix="starling-sandbox-") as folder:
        state = Path(folder)
        # A test run that is killed takes it along.
        command = ["/usr/bin/setpriv", "--pdeathsig", "TERM", str(EXECUTABLE)]
        process = subprocess.Popen(
            [*command, "--listen", listen, "--state", folder, *arguments], stdout=subprocess.DEVNULL
        )
        running = Sandbox(state, process)
        try:
            running.await_readiness()
            yield running
        finally:
            running.stop()
