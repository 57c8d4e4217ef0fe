"""A service that swallows everything: how long after the login's deadline the verdict comes, for many people at once.

Three holes: connections that nobody accepts, connections on which nobody speaks, and the sandbox over TLS with a token
but no answer to anything else.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

from bench import live
from bench.crowd import Crowd
from starlingd.web.https import SYSTEM_STORE
from tests.sandbox.running import sandbox

PEOPLE = 2000
DEADLINE = 9.0
"""Seconds that the module allows each login: enough for a push, and less than the time-out of one call, 10 s."""
ALLOWED = 0.5
"""Seconds after the deadline, at most, at which the verdict may come."""
PATIENCE = 30.0
BACKLOG = 16

Service = tuple[str, str, str, str]
"""URL, credential, authorities, and the identity that everybody is mapped to."""


@contextmanager
def nobody_accepts() -> Iterator[Service]:
    """Offer a listener whose queue is full: the kernel drops whoever knocks."""
    with ExitStack() as open_sockets, _listener(0) as listener:
        for _ in range(BACKLOG):
            knocking = open_sockets.enter_context(socket.socket())
            knocking.setblocking(False)
            with suppress(BlockingIOError):
                knocking.connect(listener.getsockname())
        yield _service(listener)


@contextmanager
def nobody_speaks() -> Iterator[Service]:
    """Offer a listener whose connections stand and stay silent."""
    with _listener(4096) as listener:
        yield _service(listener)


@contextmanager
def nobody_answers() -> Iterator[Service]:
    """Offer the sandbox, with somebody whose calls it never answers."""
    with sandbox() as service:
        yield service.url, service.credential, str(service.ca_file), service.users["black-hole"].id


def _listener(backlog: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=backlog)


def _service(listener: socket.socket) -> Service:
    host, port = listener.getsockname()
    return f"https://{host}:{port}", "id:secret", SYSTEM_STORE, "1"


HOLES: dict[str, Callable[[], AbstractContextManager[Service]]] = {
    "no connection is accepted": nobody_accepts,
    "connections stay silent": nobody_speaks,
    "requests stay unanswered": nobody_answers,
}


async def measure(hole: Callable[[], AbstractContextManager[Service]]) -> tuple[list[float], dict[str, int]]:
    """Let everybody ask for a push that never comes; tell when the verdicts came, from the deadlines, and which."""
    names = [f"person{number:04}" for number in range(PEOPLE)]
    with hole() as (url, *settings, identity), live.daemon(dict.fromkeys(names, identity), url, *settings) as daemon:
        crowd = Crowd(daemon.socket, names, DEADLINE)
        await crowd.connect()
        crowd.press_enter()
        await crowd.verdicts(crowd.people, PATIENCE)
        await crowd.hang_up()
    if any(not person.done or person.reason == "push_approved" for person in crowd.people):
        sys.exit(f"somebody has no verdict, or the wrong one: {crowd.reasons()}")
    return sorted(person.done - person.began - DEADLINE for person in crowd.people), crowd.reasons()


def main() -> None:
    """Measure and report."""
    load = os.getloadavg()[0]
    results = {name: asyncio.run(measure(hole)) for name, hole in HOLES.items()}
    print(f"\nA black hole for {PEOPLE} people who press Enter at once; deadline {DEADLINE:.0f} s; load {load:.1f}\n")
    print("| hole | last verdict after the deadline | goal | reasons |\n|---|---|---|---|")
    for name, (late, reasons) in results.items():
        counted = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
        print(f"| {name} | {late[-1]:+.2f} s | {ALLOWED} s | {counted} |")


if __name__ == "__main__":
    main()
