"""A provisioning run killed at 20 random points: it goes on where it was, and nobody is created twice."""

from __future__ import annotations

import random
import sqlite3
import time
from pathlib import Path

from tests.load.provisioned import provisioned

PEOPLE = 1000
KILLS = 20
LONGEST_LIFE = 0.8
"""Seconds after the run began within which the daemon is killed; creating everybody takes at least 10 s."""


def test_a_run_that_is_killed_twenty_times_creates_nobody_twice_and_ends_complete(tmp_path: Path) -> None:
    chance = random.Random(20261124)
    progress = []
    with provisioned(tmp_path, PEOPLE) as daemon:
        for _ in range(KILLS):
            daemon.start()
            daemon.ask("provision run")
            time.sleep(chance.uniform(0, LONGEST_LIFE))
            daemon.kill()
            with sqlite3.connect(tmp_path / "state.db") as state:
                assert state.execute("pragma integrity_check").fetchone() == ("ok",)
                progress.append(state.execute("select count(*) from enrolments").fetchone()[0])
        assert 0 < progress[-1] < PEOPLE, progress
        assert progress == sorted(progress)
        daemon.start()
        assert daemon.ask("provision status")["kept"]["complete"] is False
        daemon.ask("provision run")
        run = daemon.finish()
        assert (run["outcome"], run["errors"], run["members"]) == ("complete", 0, PEOPLE)
        assert daemon.ask("provision status")["kept"]["members"] == PEOPLE
        calls = sum(1 for call in daemon.sandbox.log() if call["path"] == "/v1/Users")
        with sqlite3.connect(tmp_path / "state.db") as state:
            users = state.execute("select count(*), count(distinct identity) from enrolments").fetchone()
    assert users == (PEOPLE, PEOPLE)
    # Each kill may lose one answer that was on its way; the service gives the same id to whoever asks again.
    assert PEOPLE <= calls <= PEOPLE + KILLS
