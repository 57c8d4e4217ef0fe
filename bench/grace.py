"""Grace hits: decisions per second through the real socket, next to a bare echo on the same kind of socket.

64 clients in processes of their own, one connection for each decision (or echo). The daemon is the real one, its state
on disk, commits grouped, audit events on. Told for a cache of a thousand and of a million entries.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pam_starling.protocol import decode, encode
from starlingd.adapters.sqlite import SqliteStore
from starlingd.core.grace import Entry, Key, Moment
from starlingd.core.model import Account, Factor, Process, Reason
from starlingd.core.policy import basis_of
from starlingd.core.records import Lease
from starlingd.core.rules import Rules
from starlingd.server import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TREE = Path(__file__).resolve().parent.parent
CLIENTS = 64
PROCESSES = 4
SECONDS = 6.0
SIZES = (1_000, 1_000_000)
USER = "nobody"
CONFIG = """
[starling]
credential = id:secret
service_url = https://127.0.0.1:9
token_url = https://127.0.0.1:9
[authentication_cache]
reuse_limit = -1
soft_timeout = 10h
hard_timeout = 10h
"""


def echo_server(path: str) -> None:
    """Send back one packet to each connection: what any asyncio server on this kind of socket costs at least."""

    async def serve(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        with connection:
            data = await loop.sock_recv(connection, 65536)
            await loop.sock_sendall(connection, data)

    async def listen() -> None:
        loop = asyncio.get_running_loop()
        tasks = set()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(path)
            listener.listen(4096)
            listener.setblocking(False)
            while True:
                connection, _ = await loop.sock_accept(listener)
                connection.setblocking(False)
                task = loop.create_task(serve(loop, connection))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    asyncio.run(listen())


async def echo(path: str, loop: asyncio.AbstractEventLoop, packet: bytes) -> None:
    """Do one echo."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, path)
        await loop.sock_sendall(sock, packet)
        if await loop.sock_recv(sock, 65536) != packet:
            sys.exit("that was no echo")


async def decide(path: str, loop: asyncio.AbstractEventLoop, packet: bytes) -> None:
    """Have one login decided; anything but a grace hit ends the measurement."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, path)
        await loop.sock_recv(sock, 65536)
        await loop.sock_sendall(sock, packet)
        op, fields = decode(await loop.sock_recv(sock, 65536))
        if op != "done" or fields["reason"] != "cached":
            sys.exit(f"no grace hit but {op} {fields}")


def load(path: str, act: Callable[..., object], results: multiprocessing.Queue[int]) -> None:
    """Act again and again, with this process's share of the clients."""
    start = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]

    async def client(number: int, ends: float) -> int:
        done, loop = 0, asyncio.get_running_loop()
        while time.monotonic() < ends:
            address = f"10.0.{number}.{done % 10}"
            fields = {"v": "1", "user": USER, "service": "sshd", "rhost": address, "tty": "ssh", "login": ""}
            fields |= {"conn": f"{address} 50000 192.0.2.1 22", "ppid": str(os.getppid()), "pstart": "1"}
            fields["authinfo"] = "publickey ssh-ed25519 AAAA"
            packet = encode("authenticate", {**fields, "start": start, "deadline": "60"})
            await act(path, loop, packet)  # type: ignore[misc]
            done += 1
        return done

    async def everybody() -> int:
        ends = time.monotonic() + SECONDS
        return sum(await asyncio.gather(*(client(number, ends) for number in range(CLIENTS // PROCESSES))))

    results.put(asyncio.run(everybody()))


def rate(path: Path, act: Callable[..., object]) -> float:
    """Tell how often per second it was done."""
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[int] = context.Queue()
    began = time.monotonic()
    clients = [context.Process(target=load, args=(str(path), act, results)) for _ in range(PROCESSES)]
    for client in clients:
        client.start()
    total = sum(results.get() for _ in clients)
    for client in clients:
        client.join()
    return total / (time.monotonic() - began)


@contextmanager
def bare(folder: Path) -> Iterator[Path]:
    """Run the echo."""
    path = folder / "echo.sock"
    server = multiprocessing.get_context("fork").Process(target=echo_server, args=(str(path),))
    server.start()
    try:
        _await(path)
        yield path
    finally:
        server.kill()
        server.join()


@contextmanager
def daemon(folder: Path, entries: int) -> Iterator[Path]:
    """Run the real daemon on a cache of that many entries."""
    config, state, path = folder / "starling.conf", folder / "state.db", folder / "pam.sock"
    config.write_text(CONFIG, encoding="ascii")
    config.chmod(0o600)
    seed(state, entries)
    command = ["/usr/bin/python3", "-m", "starlingd.main", "--config", config, "--state", state, "--socket", path]
    environment = {"PATH": "/usr/bin", "PYTHONPATH": f"{TREE}:{TREE}/daemon"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as server:
        try:
            _await(path)
            yield path
        finally:
            server.send_signal(signal.SIGKILL)


def seed(state: Path, entries: int) -> None:
    """Fill the cache: the entries that will be hit, and all the others."""
    store, now = SqliteStore(state), Moment(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), processes.boot_id())
    lease = Lease("x", USER, "", "", "", Process(1, 1), "another boot", 0.0, Factor.PUSH, Reason.CACHED)
    entry = Entry(basis_of_user(), now, now)
    hit = [(USER, f"10.0.{client}.{last}") for client in range(CLIENTS) for last in range(10)]
    others = [(f"user{number}", "10.1.0.1") for number in range(entries - len(hit))]
    with store.together():
        for user, address in [*hit, *others]:
            store.open_session(lease, (Key(user, address, "", ""), entry))
    store.close()


def basis_of_user() -> str:
    """Tell what the entries of the user rest on."""
    from tests.unit.script import LOGIN  # noqa: PLC0415  only for a login of any kind

    return basis_of(LOGIN, Account(USER, pwd.getpwnam(USER).pw_uid), Rules())


def _await(path: Path) -> None:
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            try:
                sock.connect(str(path))
            except OSError:
                time.sleep(0.05)
            else:
                return


def main() -> None:
    """Measure and report."""
    print(f"\nGrace hits through the real socket, {CLIENTS} clients, one connection each, {SECONDS:.0f} s\n")
    print("| what | per second | ratio to the echo |\n|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="pam-starling-bench", dir="/var/tmp") as folder:
        with bare(Path(folder)) as path:
            base = rate(path, echo)
        print(f"| bare asyncio echo | {base:.0f} | 1 |")
        for size in SIZES:
            own = Path(folder) / str(size)
            own.mkdir()
            with daemon(own, size) as path:
                found = rate(path, decide)
            print(f"| grace hit, {size:,} entries | {found:.0f} | {found / base:.2f} |")


if __name__ == "__main__":
    main()
