"""Codes of authenticator apps: what a login with one adds, and how long checking one takes among many users.

The logins are `pamtester … authenticate`, interleaved with pam_google_authenticator, pam_oath and nothing at all; our
daemon is the real one, with a user for each round since a code is good once. Checking is what the daemon does with a
code: one transaction through its own worker, on disk when it ends, next to the barest such transaction.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from bench import live, overhead
from starlingd.adapters.sqlite import SqliteStore
from starlingd.adapters.vault import Vault, new_key
from starlingd.core import otp
from starlingd.core.localcodes import Passed
from starlingd.server.localcodes import LocalCodes
from starlingd.server.workers import GroupingWorker

ROUNDS = 100
SIZES = (1_000, 100_000)
CHECKS = 2_000
GOAL = 5.0
"""Milliseconds for a check at the 95th percentile."""
SECRET = b"12345678901234567890"


def fill(state: Path, vault: Vault, users: list[str]) -> None:
    """Enrol users."""
    store = SqliteStore(state)
    with store.together():
        for user in users:
            store.save_token(otp.Token(user, vault.seal(user, SECRET)), otp.Over.ANY)
    store.close()


def logins() -> None:
    """Measure whole logins, and print the table."""
    key, users = new_key(), [f"bench{number}" for number in range(ROUNDS)]
    services = f"interactive_protocols = {overhead.ours(Path(), Path()).service}"
    configuration = f"[auth]\nprovider = totp\n{services}\n[totp]\nkey = {key}\nwindow = 10\n"
    with (
        tempfile.TemporaryDirectory(prefix=overhead.PREFIX) as folder,
        live.running(configuration, users, lambda state: fill(state, Vault(key), users)) as daemon,
    ):
        work = Path(folder)
        own = overhead.ours(overhead.install(work / "lib"), daemon.socket)
        nothing = overhead.Candidate("pam_permit", "auth required pam_permit.so")
        everybody = [nothing, own, *overhead.others(work)]
        with overhead.services(everybody):
            for number, user in enumerate(users):
                overhead.refresh_answers(everybody, number)
                own.user, own.answer = user, otp.hotp(SECRET, int(time.time() // 30))
                for candidate in everybody:
                    candidate.run()
    print(f"\n{ROUNDS} interleaved logins with a code, `pamtester … authenticate`, medians\n")
    print("| module | wall ms | added ms | ratio to pam_google_authenticator |\n|---|---|---|---|")
    base = statistics.median(nothing.wall)
    google = statistics.median(everybody[2].wall) - base
    for candidate in everybody[1:]:
        added = statistics.median(candidate.wall) - base
        print(f"| {candidate.name} | {(base + added) * 1000:.1f} | {added * 1000:.1f} | {added / google:.1f} |")


async def checked(state: Path, vault: Vault, users: list[str]) -> list[float]:
    """Check a right code of each user, one after the other; tell the seconds each took."""
    store = SqliteStore(state)
    worker = GroupingWorker("store", 100, store.together)
    codes, took = LocalCodes(store, worker, worker), []
    for user in users:
        code = otp.hotp(SECRET, int(time.time() // 30))
        began = time.perf_counter()
        if not isinstance(await codes.app(user, code, vault, 1), Passed):
            raise SystemExit("a right code was refused: the measurement would be of something else")
        took.append(time.perf_counter() - began)
    worker.close()
    return took


def barest(folder: Path) -> float:
    """Tell the 95th percentile, in ms, of one update and its commit, as durable as ours, and nothing else."""
    database = sqlite3.connect(folder / "bare.db", isolation_level=None)
    database.execute("pragma journal_mode = wal")
    database.execute("pragma synchronous = full")
    database.execute("create table t (id integer primary key, n integer)")
    database.executemany("insert into t values (?, 0)", [(n,) for n in range(CHECKS)])
    took = []
    for number in range(CHECKS):
        began = time.perf_counter()
        database.execute("update t set n = n + 1 where id = ?", (number,))
        took.append(time.perf_counter() - began)
    database.close()
    return _at_95(took)


def _at_95(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=20)[-1] * 1000


def checks() -> None:
    """Measure checking, and print the table."""
    print("\nChecking a code: one transaction, on disk when it ends\n")
    print("| users | 95th percentile, ms | ratio to the barest transaction | goal |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix=overhead.PREFIX, dir="/var/tmp") as folder:
        bare = barest(Path(folder))
        for size in SIZES:
            vault, users = Vault(new_key()), [f"user{number}" for number in range(size)]
            state = Path(folder) / f"{size}.db"
            fill(state, vault, users)
            step = max(1, size // CHECKS)
            ours = _at_95(asyncio.run(checked(state, vault, users[::step][:CHECKS])))
            print(f"| {size:,} | {ours:.2f} | {ours / bare:.1f} | {GOAL:.0f} ms |")


def main() -> None:
    """Measure and report."""
    checks()
    logins()


if __name__ == "__main__":
    main()
