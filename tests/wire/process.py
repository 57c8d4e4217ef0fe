"""starlingd as a process of its own: what systemd gives it and hears of it, and a module's end of the wire.

Nothing here sleeps: the daemon's notifications and packets say when things have happened.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pam_starling.protocol import decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.sandbox.running import Sandbox

PATIENCE = 20.0
TREE = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"
ENVIRONMENT = {"PATH": "/usr/bin", "PYTHONPATH": f"{TREE}:{TREE}/daemon", "LC_ALL": "C.UTF-8"}
ADDRESS = "198.51.100.7"
ACTIVATE = 'export LISTEN_PID=$$ LISTEN_FDS={count}; {moves} exec {python} -m starlingd.main "$@"'
"""systemd's end of socket activation: the sockets are descriptors 3 and up, and the pid is the daemon's own."""

USERS = {"daemon": "manual", "bin": "approves", "sys": "denies", "games": "black-hole"}
"""Accounts of every Debian, and the sandbox's user that each is mapped to."""
MANUAL, APPROVES, DENIES, HOLE = USERS


class Gone(Exception):  # noqa: N818  it is what it is called
    """The daemon hung up without a word."""


class Module:
    """The module's end of one connection; it blocks, as the real one does, for PATIENCE at most."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock.settimeout(PATIENCE)
        self._sock.connect(str(path))

    def receive(self) -> tuple[str, dict[str, str]]:
        """Take one packet; raises Gone when there is none to come."""
        try:
            data = self._sock.recv(65536)
        except ConnectionResetError:
            raise Gone from None
        if not data:
            raise Gone
        return decode(data)

    def send(self, op: str, **fields: str) -> None:
        """Send one packet; a daemon that is gone takes none."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._sock.send(encode(op, fields))

    def greet(self) -> Self:
        """Take the daemon's greeting."""
        assert self.receive() == ("hello", {"v": "1"})
        return self

    def ask_for(self, operation: str, user: str, **fields: str) -> Self:
        """Say what PAM wants, as a child of this process's parent would."""
        start, parent = start_time("self"), os.getppid()
        first = {"v": "1", "user": user, "service": "sshd", "rhost": ADDRESS, "tty": "ssh", "deadline": "60"}
        first |= {"ppid": str(parent), "pstart": start_time(parent), "start": start, "login": ""}
        first |= {"authinfo": "publickey ssh-ed25519 AAAA"}
        first |= {"conn": f"{ADDRESS} {time.monotonic_ns() % 60000} 192.0.2.1 22"}  # a new connection each time
        self.greet().send(operation, **{**first, **fields})
        return self

    def answer(self, text: str) -> Self:
        """Wait for the prompt and type ``text``."""
        op, fields = self.receive()
        while op == "say":
            op, fields = self.receive()
        assert op == "ask", f"{op} {fields} where a prompt was expected"
        self.send("answer", text=text)
        return self

    def done(self) -> dict[str, str]:
        """Wait for the verdict; what was said before it is under ``said``."""
        said = []
        while True:
            op, fields = self.receive()
            if op != "say":
                assert op == "done", f"{op} {fields} where done was expected"
                return {**fields, "said": " / ".join(said)}
            said.append(fields["text"])

    def close(self) -> None:
        """Hang up."""
        self._sock.close()


def start_time(pid: int | str) -> str:
    """Tell a process's start time, as the module does."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]


@dataclass
class Daemon:
    """A daemon that can be started, stopped and killed; ``folder`` outlives it."""

    folder: Path
    process: subprocess.Popen[str] | None = None
    modules: list[Module] = field(default_factory=list)
    told: deque[str] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.folder.chmod(0o755)  # so that others can reach the socket
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(str(self.folder / "notify"))
        self.notified.settimeout(PATIENCE)

    @property
    def socket(self) -> Path:
        """Where the PAM socket is."""
        return self.folder / "pam.sock"

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "starling.conf"

    @property
    def state(self) -> Path:
        """The state file."""
        return self.folder / "state.db"

    @property
    def log(self) -> str:
        """All that the daemons wrote so far, audit events included."""
        return (self.folder / "log").read_text(encoding="utf-8")

    def configure(self, sandbox: Sandbox, **sections: str) -> None:
        """Write a configuration for the sandbox; each of ``sections`` goes into the section of its name."""
        mapped = "\n".join(f"{user} = {sandbox.users[name].id}" for user, name in USERS.items())
        lines = [
            f"[starling]\ncredential = {sandbox.credential}",
            f"service_url = {sandbox.url}\ntoken_url = {sandbox.url}\nca_file = {sandbox.ca_file}",
            f"[usermapping source=explicit]\n{mapped}",
            *(f"[{name}]\n{text}" for name, text in sections.items()),
        ]
        self.write("\n".join(lines))

    def write(self, text: str) -> None:
        """Write the configuration file."""
        self.config.touch(0o600)
        self.config.write_text(text + "\n", encoding="utf-8")

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Self:
        """Start it on a socket of its own, and wait until it is ready."""
        self.launch([PYTHON, "-m", "starlingd.main", "--socket", str(self.socket), *arguments], environment)
        self.expect("READY=1")
        return self

    def activate(self, *sockets: socket.socket) -> Self:
        """Start it as systemd does, with these sockets; it is not ready yet."""
        count = len(sockets)
        far = [os.dup(sock.fileno()) for sock in sockets]
        moves = "".join(
            f"exec {3 + number}<&{descriptor};" for number, descriptor in enumerate(_out_of_way(far, count))
        )
        script = ACTIVATE.format(count=count, moves=moves, python=PYTHON)
        try:
            self.launch(["/bin/bash", "-c", script, "bash"], pass_fds=far)
        finally:
            for descriptor in far:
                os.close(descriptor)
        return self

    def launch(
        self, command: list[str], environment: Mapping[str, str] | None = None, pass_fds: Iterable[int] = ()
    ) -> None:
        """Start it by ``command``, in an environment of its own."""
        assert self.process is None
        full = {**ENVIRONMENT, "NOTIFY_SOCKET": str(self.folder / "notify"), **(environment or {})}
        command = [*command, "--config", str(self.config), "--state", str(self.state)]
        with (self.folder / "log").open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, env=full, stderr=log, pass_fds=list(pass_fds), text=True)

    def expect(self, line: str) -> list[str]:
        """Wait until the daemon tells systemd a line that begins so; return all it told since the last time."""
        seen = []
        while True:
            while not self.told:
                self.told.extend(self.notified.recv(65536).decode().split("\n"))
            seen.append(self.told.popleft())
            if seen[-1].startswith(line):
                return seen

    def module(self) -> Module:
        """Connect as a module does."""
        made = Module(self.socket)
        self.modules.append(made)
        return made

    def call(self, operation: str, user: str, **fields: str) -> Module:
        """Connect and say what PAM wants."""
        return self.module().ask_for(operation, user, **fields)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end, and tell its status; what it told systemd before is forgotten."""
        assert self.process is not None
        status = self.process.wait(PATIENCE)
        self.process = None
        self.told.clear()
        self.notified.setblocking(False)
        with suppress(BlockingIOError):
            while self.notified.recv(65536):
                continue
        self.notified.settimeout(PATIENCE)
        return status

    def stop(self) -> int:
        """Stop it as systemd does."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Kill it as nothing else kills."""
        self.signal(signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL

    def close(self) -> None:
        """Leave nothing behind."""
        for module in self.modules:
            module.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE)
        self.notified.close()
        shutil.rmtree(self.folder)


def await_call(sandbox: Sandbox, word: str) -> None:
    """Wait until the sandbox has been asked for something whose path holds ``word``."""
    ends = time.monotonic() + PATIENCE
    while not any(word in str(entry["path"]) for entry in sandbox.log()):
        assert time.monotonic() < ends, f"nobody asked for {word}"
        os.sched_yield()


def make() -> Daemon:
    """Make a daemon in a folder of its own; ``close`` leaves nothing of it behind."""
    return Daemon(Path(tempfile.mkdtemp(prefix="starlingd-process-")))


def _out_of_way(descriptors: list[int], count: int) -> list[int]:
    """Check that none is where it is going to be put: shells cannot move in circles."""
    assert all(descriptor >= 3 + count for descriptor in descriptors), descriptors
    return descriptors
