"""Two thousand people waiting for a push at once: what they cost the daemon, and how long a verdict takes.

The daemon is the real one, the service the sandbox over TLS, the crowd this process; only the daemon is measured. Two
rounds, each with a fresh daemon: in the first many approve after the wait, in the second everybody hangs up at once.
"""

import asyncio
import http.client
import json
import os
import random
import ssl
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bench import live
from bench.crowd import Crowd, Person
from starlingd.core.pushes import SCHEDULE
from tests.sandbox.running import Sandbox, sandbox

PEOPLE = 2000
WATCH = 30.0
"""Seconds of waiting that are measured, after everybody's push has reached the phone."""
APPROVALS = 500
"""People who approve, spread evenly over one poll interval."""
INTERVAL = float(SCHEDULE[-1])
"""The poll interval in force by then."""
NOTICE = 1.0
"""Seconds in which the daemon must have noticed that everybody is gone."""
LONGEST_START = 20.0
"""Seconds; with more, the pushes would expire before the measurements are over."""


@dataclass
class Figures:
    """What is measured; seconds, MiB, and shares of one core."""

    idle: float = 0.0
    start: float = 0.0
    start_cpu: float = 0.0
    waiting: float = 0.0
    waiting_cpu: float = 0.0
    polls: float = 0.0
    most: float = 0.0
    verdicts: list[float] = field(default_factory=list)
    noticed: float = 0.0
    late_polls: int = 0
    load: float = 0.0


class Phone:
    """Everybody's phone, over one kept connection."""

    def __init__(self, service: Sandbox) -> None:
        context = ssl.create_default_context(cafile=str(service.ca_file))
        self._connection = http.client.HTTPSConnection(urlsplit(service.url).netloc, context=context)

    def call(self, method: str, path: str, body: object = None) -> object:
        """Call the sandbox."""
        self._connection.request(method, f"/phone/{path}", json.dumps(body) if body is not None else None)
        with self._connection.getresponse() as response:
            return json.load(response)

    def enrol(self, name: str) -> str:
        """Make somebody who answers by hand; tell the identity."""
        user: dict[str, str] = self.call("POST", "users", {"name": name, "behaviour": "manual"})  # type: ignore[assignment]
        return user["id"]

    def pushes(self) -> dict[str, str]:
        """Tell the request of each person whose phone shows one."""
        pending: list[dict[str, str]] = self.call("GET", "pending")  # type: ignore[assignment]
        return {push["user"]: push["id"] for push in pending}

    def polls(self) -> int:
        """Tell how many polls there were."""
        stats: dict[str, int] = self.call("GET", "stats")  # type: ignore[assignment]
        return stats.get("GET /v1/ApprovalRequests/{id}", 0)


@contextmanager
def waiting_room() -> Iterator[tuple[Phone, live.Live, Crowd]]:
    """Offer the sandbox, a fresh daemon and a crowd that has not connected yet."""
    with sandbox() as service:
        phone = Phone(service)
        names = [f"person{number:04}" for number in range(PEOPLE)]
        ids = {name: phone.enrol(name) for name in names}
        with live.daemon(ids, service.url, service.credential, str(service.ca_file)) as daemon:
            yield phone, daemon, Crowd(daemon.socket, names)


async def start(phone: Phone, daemon: live.Live, crowd: Crowd, figures: Figures) -> dict[str, str]:
    """Let everybody ask for a push; return when all phones show one."""
    figures.idle = daemon.memory()
    await crowd.connect()
    began, cpu = time.monotonic(), daemon.cpu()
    crowd.press_enter()
    while len(pushes := phone.pushes()) < PEOPLE:
        await asyncio.sleep(0.2)
        lost = {reason: count for reason, count in crowd.reasons().items() if reason}
        if lost or time.monotonic() - began > LONGEST_START:
            sys.exit(f"the start phase failed: {len(pushes)} pushes, verdicts {lost}\n{daemon.log[-2000:]}")
    figures.start = time.monotonic() - began
    figures.start_cpu = (daemon.cpu() - cpu) / figures.start
    return pushes


async def watch(phone: Phone, daemon: live.Live, figures: Figures) -> None:
    """Measure the daemon while nothing happens but polling."""
    began, cpu, polls = time.monotonic(), daemon.cpu(), phone.polls()
    await asyncio.sleep(WATCH)
    took = time.monotonic() - began
    figures.waiting_cpu = (daemon.cpu() - cpu) / took
    figures.polls = (phone.polls() - polls) / took
    figures.waiting = daemon.memory()


async def approve(phone: Phone, crowd: Crowd, pushes: dict[str, str], figures: Figures) -> None:
    """Let many approve, one after the other, and note how long each verdict took."""
    chosen = random.Random(0).sample(crowd.people, APPROVALS)
    approved: dict[Person, float] = {}
    began = time.monotonic()
    for number, person in enumerate(chosen):
        await asyncio.sleep(max(0.0, began + number * INTERVAL / APPROVALS - time.monotonic()))
        approved[person] = time.monotonic()
        await asyncio.to_thread(phone.call, "POST", f"approve/{pushes[person.name]}")
    await crowd.verdicts(chosen, 2 * INTERVAL)
    failed = [person.reason for person in chosen if person.reason != "push_approved"]
    if failed:
        sys.exit(f"{len(failed)} who approved were not let in: {set(failed)}")
    figures.verdicts = sorted(person.done - at for person, at in approved.items())


async def hang_up(phone: Phone, daemon: live.Live, crowd: Crowd, figures: Figures) -> None:
    """Let everybody hang up at once; what counts is that the daemon has closed its end of every connection."""
    before = daemon.descriptors()
    began = time.monotonic()
    await crowd.hang_up()
    await asyncio.to_thread(_await_descriptors, daemon, before - PEOPLE)
    figures.noticed = time.monotonic() - began
    polls = phone.polls()
    await asyncio.sleep(INTERVAL)
    figures.late_polls = phone.polls() - polls
    figures.most = max(figures.most, daemon.memory("VmHWM"))


def _await_descriptors(daemon: live.Live, count: int) -> None:
    ends = time.monotonic() + 10 * NOTICE
    while daemon.descriptors() > count and time.monotonic() < ends:
        time.sleep(0.01)


async def measure() -> Figures:
    """Do both rounds."""
    figures = Figures(load=os.getloadavg()[0])
    with waiting_room() as (phone, daemon, crowd):
        pushes = await start(phone, daemon, crowd, figures)
        await watch(phone, daemon, figures)
        await approve(phone, crowd, pushes, figures)
        figures.most = daemon.memory("VmHWM")
        await crowd.hang_up()
    with waiting_room() as (phone, daemon, crowd):
        await start(phone, daemon, crowd, Figures())
        await asyncio.sleep(INTERVAL)
        await hang_up(phone, daemon, crowd, figures)
    return figures


def report(figures: Figures) -> None:
    """Print the table README quotes."""
    p95 = figures.verdicts[int(len(figures.verdicts) * 0.95)]
    rows = [
        ("resident memory before the first login", f"{figures.idle:.0f} MiB", ""),
        (f"resident memory, {PEOPLE} waiting", f"{figures.waiting:.0f} MiB", "120 MiB"),
        ("the most it was", f"{figures.most:.0f} MiB", "120 MiB"),
        (f"CPU over {WATCH:.0f} s of waiting ({figures.polls:.0f} polls/s)", f"{figures.waiting_cpu:.0%}", "35 %"),
        ("all Enter at once: until every phone rang", f"{figures.start:.1f} s", ""),
        ("CPU meanwhile", f"{figures.start_cpu:.0%}", ""),
        (f"approval to verdict, median of {APPROVALS}", f"{statistics.median(figures.verdicts):.2f} s", ""),
        ("approval to verdict, 95th percentile", f"{p95:.2f} s", f"{INTERVAL + 0.3:.1f} s"),
        (f"{PEOPLE} hang up at once: until all are noticed", f"{figures.noticed:.2f} s", f"{NOTICE:.1f} s"),
        (f"polls in the {INTERVAL:.0f} s after that", str(figures.late_polls), "0"),
    ]
    print(f"\n{PEOPLE} people wait for a push, over TLS, default settings; CPU of one core; load {figures.load:.1f}\n")
    print("| | measured | goal |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def main() -> None:
    """Measure and report."""
    report(asyncio.run(measure()))


if __name__ == "__main__":
    main()
