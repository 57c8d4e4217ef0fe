"""A daemon's server in this process, over real SEQPACKET pairs, with fakes behind its ports.

``Bastion`` builds a Host; ``bastion.call(operation, ...)`` plays a module that connects and says one first packet.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from pam_starling.protocol import decode, encode
from starlingd.adapters.patterns import RegexPatterns
from starlingd.adapters.phones import Phones
from starlingd.core.model import Check, NotStarted, Process, Push, PushStatus, Started
from starlingd.core.pushes import PushLedger
from starlingd.core.rules import Rules
from starlingd.server.audit import Audit
from starlingd.server.daemon import Daemon, Loaded
from starlingd.server.deaths import Deaths
from starlingd.server.enrolments import Enrolments
from starlingd.server.host import Current, Host, Pools, boottime
from starlingd.server.listener import bind
from starlingd.server.localcodes import LocalCodes
from starlingd.server.logins import Logins
from starlingd.server.session import Session
from starlingd.server.workers import Pool
from tests.fakes import AuditList, MemoryStore, People

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from starlingd.core.enrolment import Contact

RIGHT_CODE = "123456"
CHILD = Process(50, 500)
PATIENCE = 5.0


@dataclass
class ScriptedFactor:
    """A provider that knows one code; ``statuses`` are what polls find, the last one again and again."""

    statuses: list[PushStatus | Exception] = field(default_factory=lambda: [PushStatus.APPROVED])
    outage: Exception | None = None
    wrong: Check = Check.WRONG
    """What every other code is answered by."""
    calls: list[str] = field(default_factory=list)
    polled: threading.Event = field(default_factory=threading.Event)

    def verify(self, identity: str, code: str, timeout: float) -> Check:
        """Say whether it is the one right code."""
        self._note(f"verify {identity}", timeout)
        return Check.RIGHT if code == RIGHT_CODE else self.wrong

    def start_push(self, identity: str, push: Push, timeout: float) -> Started | NotStarted:
        """Start one push for whoever is asked about."""
        self._note(f"push {identity} {push.lifetime}", timeout)
        return Started("request-1")

    def check_push(self, request: str, timeout: float) -> PushStatus:
        """Tell the next status of the script."""
        self._note(f"poll {request}", timeout)
        self.polled.set()
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(status, Exception):
            raise status
        return status

    def enrol(self, contact: Contact, timeout: float) -> str | None:
        """Enrol anybody."""
        self._note(f"enrol {contact.phone}", timeout)
        return contact.phone.lstrip("+")

    def probe_token(self, timeout: float) -> None:
        """Fail as every call does while there is an outage."""
        self._note("probe", timeout)

    def _note(self, call: str, timeout: float) -> None:
        assert timeout > 0
        self.calls.append(call)
        if self.outage:
            raise self.outage


class Dead(Deaths):
    """Processes of a test die when it says so; no test's numbers are looked up in /proc. ``gone`` are the dead ones."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: dict[Process, dict[str, Callable[[], None]]] = {}
        self.gone: set[Process] = set()

    def watch(self, process: Process, name: str, callback: Callable[[], None]) -> None:
        """Keep what is to be called, or call it soon if the process is dead already."""
        if process in self.gone:
            asyncio.get_running_loop().call_soon(callback)
        else:
            self.watched.setdefault(process, {})[name] = callback

    def forget(self, process: Process, name: str) -> None:
        """Forget it."""
        self.watched.get(process, {}).pop(name, None)

    def die(self, process: Process) -> None:
        """Let a process die."""
        self.gone.add(process)
        for callback in list(self.watched.pop(process, {}).values()):
            asyncio.get_running_loop().call_soon(callback)


class Module:
    """The module's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setblocking(False)

    async def receive(self) -> tuple[str, dict[str, str]]:
        """Take the daemon's next packet; ("", {}) when it has hung up."""
        data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._sock, 65536), PATIENCE)
        return decode(data) if data else ("", {})

    def send(self, op: str, **fields: str) -> None:
        """Send one packet."""
        self._sock.send(encode(op, fields))

    async def answer(self, text: str) -> str:
        """Wait for the prompt, type ``text``, and return the prompt."""
        while True:
            op, fields = await self.receive()
            if op == "ask":
                self.send("answer", text=text)
                return fields["text"]
            assert op == "say", f"{op} {fields} where a prompt was expected"

    async def done(self) -> dict[str, str]:
        """Wait for the last packet; what was said before it is under ``said``."""
        said = []
        while True:
            op, fields = await self.receive()
            if op == "done":
                return {**fields, "said": " / ".join(said)}
            assert op == "say", f"{op} {fields} where done was expected"
            said.append(fields["text"])

    def hang_up(self) -> None:
        """Close the connection."""
        self._sock.close()


class Bastion:
    """A Host with fakes, and the processes that call it."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.provider = ScriptedFactor()
        self.store = MemoryStore()
        self.people = People()
        self.log = AuditList()
        self.sessions: dict[asyncio.Task[None], Session] = {}
        self.modules: list[Module] = []
        workers = (
            Pool("starling", 4, 8),
            Pool("nss", 2, 8),
            Pool("store", 1, 64),
            Pool("patterns", 1, 8),
            Pool("directory", 2, 8),
            Pool("hashing", 2, 64),
        )
        pools = Pools(*workers)
        self.deaths = Dead()
        audit = Audit(self.log)
        self.host = Host(
            gateway="bastion.example.org",
            boot="boot-1",
            pools=pools,
            accounts=self.people,
            store=self.store,
            patterns=RegexPatterns(),
            audit=audit,
            enrolments=Enrolments(self.store, pools.store, Phones(), audit),
            local=LocalCodes(self.store, pools.store, pools.hashing),
            draw="QR of {}".format,
            logins=Logins(self.store, pools.store, "boot-1", boottime, self.deaths),
            pushes=PushLedger({}),
            current=Current(rules or Rules(), self.provider, 5.0),
        )

    async def call(self, operation: str, caller: Process = CHILD, **fields: str) -> Module:
        """Connect as process ``caller`` and send the first packet; ``fields`` change its defaults."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        session = Session(self.host, ours, caller.pid)
        task = asyncio.create_task(session.serve())
        self.sessions[task] = session
        module = Module(theirs)
        self.modules.append(module)
        assert await module.receive() == ("hello", {"v": "1"})
        first = {
            "v": "1",
            "user": "alice",
            "service": "sshd",
            "rhost": "198.51.100.7",
            "tty": "ssh",
            "conn": "198.51.100.7 50000 192.0.2.1 22",
            "authinfo": "publickey ssh-ed25519 AAAA",
            "ppid": "40",
            "pstart": "400",
            "start": str(caller.start),
            "deadline": "100",
            "login": "",
        }
        module.send(operation, **{**first, **fields})
        return module

    def events(self, event: str = "login") -> list[dict[str, str]]:
        """Tell the audit events of one kind, after everything that waits was written."""
        self.host.audit.flush()
        return [fields for fields in self.log.events if fields["STARLING_EVENT"] == event]

    async def settled(self) -> None:
        """Wait until no session is left."""
        await asyncio.wait_for(asyncio.gather(*self.sessions, return_exceptions=True), PATIENCE)

    @classmethod
    @asynccontextmanager
    async def running(cls, rules: Rules | None = None) -> AsyncIterator[Self]:
        """Offer a bastion, and see that nothing of it outlives the test."""
        bastion = cls(rules)
        try:
            yield bastion
            await bastion.settled()
        finally:
            for module in bastion.modules:
                module.hang_up()
            bastion.host.audit.close()
            bastion.host.pools.close()


class Connection:
    """One ssh connection: sshd's child asks, its monitor opens the session."""

    def __init__(self, bastion: Bastion, number: int, **fields: str) -> None:
        self.bastion = bastion
        self.child, self.monitor = Process(1000 + number, number), Process(2000 + number, number)
        address = fields.pop("address", "198.51.100.7")
        self.fields = {
            "conn": f"{address} {50000 + number} 192.0.2.1 22",
            "ppid": str(self.monitor.pid),
            "pstart": str(self.monitor.start),
            **fields,
        }

    async def begin(self, operation: str = "authenticate") -> Module:
        """Begin to authenticate, or another operation of the child's."""
        return await self.bastion.call(operation, self.child, **self.fields)

    async def authenticate(self, *answers: str) -> dict[str, str]:
        """Authenticate with these answers; return the last packet."""
        module = await self.begin()
        for answer in answers:
            await module.answer(answer)
        return await module.done()

    async def hook(self, operation: str, login: str) -> dict[str, str]:
        """Run a later hook in the monitor."""
        return await (await self.bastion.call(operation, self.monitor, **{**self.fields, "login": login})).done()

    async def log_in(self, *answers: str) -> dict[str, str]:
        """Go all the way to a session; return the last packet of ``open_session``."""
        login = (await self.authenticate(*answers))["env.PAM_STARLING_LOGIN"]
        assert (await self.hook("account", login))["result"] == "success"
        return await self.hook("open_session", login)


class Whole:
    """A bastion's whole daemon. ``loaded`` is what it finds when it reads its configuration."""

    def __init__(self, bastion: Bastion, directory: Path) -> None:
        self.loaded: Loaded = (bastion.host.current, "ready")
        self.control = directory / "control.sock"
        self._read = asyncio.Event()
        self._sockets = bind(directory / "pam.sock", socket.SOCK_SEQPACKET), bind(self.control, socket.SOCK_STREAM)
        self._daemon = Daemon(bastion.host, self._sockets[0], self._load, self._sockets[1])

    def _load(self) -> Loaded:
        self._read.set()
        return self.loaded

    async def reload(self, loaded: Loaded) -> None:
        """Have the daemon reload by its signal; what that drops is dropped later."""
        self.loaded = loaded
        self._read.clear()
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(self._read.wait(), PATIENCE)

    async def _answers(self) -> None:
        """Wait until it serves: until then it may still be reading what was kept."""
        reader, writer = await asyncio.open_unix_connection(self.control)
        writer.write(b"{}\n")
        await reader.readline()
        writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Run it until a signal ends it."""
        running = asyncio.create_task(self._daemon.run())
        try:
            await asyncio.wait_for(self._answers(), PATIENCE)
            yield self
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(running, PATIENCE)
            for sock in self._sockets:
                sock.close()


def whole_daemon(bastion: Bastion, directory: Path) -> AbstractAsyncContextManager[Whole]:
    """Run the daemon around a bastion's host, on sockets in ``directory``."""
    return Whole(bastion, directory).running()


def on_bastion(test: Callable[[Bastion], object], rules: Rules | None = None) -> None:
    """Run the coroutine function ``test`` with a fresh bastion."""

    async def run() -> None:
        async with Bastion.running(rules) as bastion, asyncio.timeout(20):
            await test(bastion)  # type: ignore[misc]

    asyncio.run(run())
