"""What the unit allows the daemon fits what the daemon was built to do: threads, memory, descriptors."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from starlingd import main
from starlingd.server.host import Pools
from starlingd.server.listener import MOST_SESSIONS

TREE = Path(__file__).resolve().parents[2]
UNIT = (TREE / "etc/systemd/starlingd.service").read_text(encoding="utf-8")
README = (TREE / "README.md").read_text(encoding="utf-8")
RESERVE = 64
"""Threads beside the pools: the event loop's, metrics, one for each token or host name that is being asked for, and
what systemd runs in the unit at a reload."""


def limit(name: str) -> int:
    found = re.search(rf"^{name}=(\d+)M?$", UNIT, re.MULTILINE)
    assert found is not None
    return int(found[1])


def measured(what: str) -> int:
    """Tell a figure of the README's table, in MiB."""
    found = re.search(rf"^\| {what} \| (\d+) MiB", README, re.MULTILINE)
    assert found is not None
    return int(found[1])


def threads() -> int:
    """Tell how many threads all pools have: the store has one, each other pool a number in main."""
    sizes = [number for name, number in vars(main).items() if name.endswith("_THREADS")]
    assert len(sizes) + 1 == len(fields(Pools)), "a pool that is not counted here"
    return sum(sizes) + 1


def test_every_thread_of_the_pools_may_run_and_a_reserve_beside_them() -> None:
    assert threads() + RESERVE <= limit("TasksMax")
    assert f"# The pools have {threads()} threads" in UNIT


def test_as_many_waiting_logins_as_are_admitted_take_less_than_half_of_the_memory() -> None:
    empty, full = measured("resident memory before the first login"), measured("resident memory, 2000 waiting")
    each = (full - empty) / 2000
    assert empty + each * MOST_SESSIONS < limit("MemoryMax") / 2
    assert f"# {MOST_SESSIONS} waiting logins take less than half of it" in UNIT


def test_every_waiting_login_and_as_many_sessions_have_their_descriptors() -> None:
    # Its socket, a connection to the service, a pidfd of its process; and a pidfd for each session that is open.
    assert limit("LimitNOFILE") >= 4 * MOST_SESSIONS
