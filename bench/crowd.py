"""Many people who log in at once: each a connection of the module's wire, without sshd and without PAM.

What the module would say is said (``pam_starling.protocol``), and every wait ends with the daemon's ``done`` or with
our hanging up. The caller is this process for all of them.
"""

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pam_starling import protocol


@dataclass(eq=False)
class Person:
    """One login; times are monotonic seconds, 0 for what has not happened. ``reason`` is the daemon's last word.

    ``began`` is when the daemon was told of the deadline.
    """

    name: str
    number: int
    sock: socket.socket
    began: float = 0.0
    done: float = 0.0
    reason: str = ""

    def hang_up(self) -> None:
        """Be gone."""
        self.sock.close()


class Crowd:
    """People before the daemon at ``path``; ``deadline`` is what the module allows each, in seconds."""

    def __init__(self, path: Path, names: Iterable[str], deadline: float = 100.0) -> None:
        self._path = str(path)
        self._deadline = deadline
        self.people = [Person(name, number, _socket()) for number, name in enumerate(names)]
        self._logins: dict[Person, asyncio.Task[None]] = {}

    async def connect(self) -> None:
        """Connect everybody, until each stands before the prompt."""
        await asyncio.gather(*(self._to_the_prompt(person) for person in self.people))

    def press_enter(self) -> None:
        """Let everybody ask for a push at this moment, and wait for the verdict in the background."""
        for person in self.people:
            person.sock.send(protocol.encode("answer", {"text": ""}))
            self._logins[person] = asyncio.create_task(_await_verdict(person))

    async def verdicts(self, people: Iterable[Person], within: float) -> None:
        """Wait until these people have a verdict, or ``within`` seconds have passed."""
        await asyncio.wait([self._logins[person] for person in people], timeout=within)

    async def hang_up(self) -> None:
        """Let everybody be gone at this moment."""
        for login in self._logins.values():
            login.cancel()
        await asyncio.gather(*self._logins.values(), return_exceptions=True)
        for person in self.people:
            person.hang_up()

    def reasons(self) -> dict[str, int]:
        """Tell how often each verdict was given; empty for those who wait."""
        return dict(Counter(person.reason for person in self.people))

    async def _to_the_prompt(self, person: Person) -> None:
        person.sock.connect(self._path)
        op, _ = await _receive(person)
        assert op == "hello", op
        person.began = time.monotonic()
        person.sock.send(protocol.encode("authenticate", _first_packet(person, self._deadline)))
        op, fields = await _receive(person)
        assert op == "ask", f"{op} {fields}"


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)
    return sock


def _first_packet(person: Person, deadline: float) -> dict[str, str]:
    address = f"198.51.{100 + person.number // 250}.{1 + person.number % 250}"
    return {
        "v": str(protocol.VERSION),
        "user": person.name,
        "service": "sshd",
        "rhost": address,
        "tty": "ssh",
        "ppid": str(os.getppid()),
        "start": _start_time("self"),
        "pstart": _start_time(str(os.getppid())),
        "login": "",
        "first_factor": "",
        "authinfo": "",
        "conn": f"{address} 50000 192.0.2.1 22",
        "deadline": f"{deadline:.3f}",
    }


def _start_time(pid: str) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]


async def _receive(person: Person) -> tuple[str, dict[str, str]]:
    data = await asyncio.get_running_loop().sock_recv(person.sock, protocol.MAX_PACKET)
    return protocol.decode(data) if data else ("hang-up", {})


async def _await_verdict(person: Person) -> None:
    while True:
        op, fields = await _receive(person)
        if op != "say":
            person.done = time.monotonic()
            person.reason = fields.get("reason", op)
            return
