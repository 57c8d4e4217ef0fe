"""The daemon killed at 200 random points under load: nobody is refused for it, nothing lasts longer than promised.

Eight processes log in again and again on grace entries, through the real wire, while the daemon is killed and started
anew. The socket is the test's, as it is systemd's in production: logins wait in it meanwhile.
"""

from __future__ import annotations

import json
import pwd
import random
import signal
import socket
import sqlite3
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlingd.adapters.sqlite import SqliteStore
from starlingd.core.grace import Entry, Key, Moment
from starlingd.core.model import Account, Factor, Process, Reason
from starlingd.core.policy import basis_of
from starlingd.core.records import Lease
from starlingd.core.rules import Rules
from starlingd.server import processes
from tests.load.login_worker import ADDRESS
from tests.unit.script import LOGIN

if TYPE_CHECKING:
    from collections.abc import Iterator

KILLS = 200
LONGEST_LIFE = 0.25
"""Seconds after READY within which the daemon is killed."""
PATIENCE = 30.0
TREE = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"
ENVIRONMENT = {"PATH": "/usr/bin", "PYTHONPATH": f"{TREE}:{TREE}/daemon"}
USERS = ("daemon", "bin", "sys", "games", "man", "mail", "news", "nobody")
"""Accounts that every Debian has; each has a worker of its own."""
CONFIG = """
[starling]
credential = id:secret
service_url = https://127.0.0.1:9
token_url = https://127.0.0.1:9
[authentication_cache]
reuse_limit = 1000000
soft_timeout = 1h
hard_timeout = 1h
"""


@dataclass
class Stage:
    """A daemon that can be killed, and the socket that outlives it."""

    folder: Path
    sock: socket.socket
    daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon and wait until it is ready."""
        notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = self.folder / "notify"
        path.unlink(missing_ok=True)
        notified.bind(str(path))
        notified.settimeout(PATIENCE)
        descriptor = self.sock.fileno()
        script = f'export LISTEN_PID=$$ LISTEN_FDS=1; exec 3<&{descriptor}; exec {PYTHON} -m starlingd.main "$@"'
        arguments = ["--config", str(self.folder / "starling.conf"), "--state", str(self.folder / "state.db")]
        environment = {**ENVIRONMENT, "NOTIFY_SOCKET": str(path)}
        with (self.folder / "log").open("ab") as log:
            self.daemon = subprocess.Popen(
                ["/bin/bash", "-c", script, "bash", *arguments], env=environment, pass_fds=[descriptor], stderr=log
            )
        while b"READY=1" not in notified.recv(4096):
            continue
        notified.close()

    def kill(self) -> None:
        """Kill it as nothing else kills."""
        assert self.daemon is not None
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait()


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    config = folder / "starling.conf"
    config.write_text(CONFIG, encoding="ascii")
    config.chmod(0o600)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(str(folder / "pam.sock"))
        sock.listen(128)
        made = Stage(folder, sock)
        try:
            yield made
        finally:
            if made.daemon is not None:
                made.kill()


def seed(state: Path) -> None:
    """Give every user a grace entry."""
    store, now = SqliteStore(state), Moment(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), processes.boot_id())
    for user in USERS:
        account = Account(user, pwd.getpwnam(user).pw_uid)
        lease = Lease(user, user, "", "", "", Process(1, 1), "another boot", 0.0, Factor.PUSH, Reason.CACHED)
        store.open_session(lease, (Key(user, ADDRESS, "", ""), Entry(basis_of(LOGIN, account, Rules()), now, now)))
    store.close()


@contextmanager
def workers(path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    script = str(Path(__file__).with_name("login_worker.py"))
    started = [
        subprocess.Popen(
            [PYTHON, script, str(path), user], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for user in USERS
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_two_hundred_kills_under_load(tmp_path: Path) -> None:
    chance = random.Random(20261124)
    state = tmp_path / "state.db"
    seed(state)
    with stage(tmp_path) as daemon, workers(tmp_path / "pam.sock") as logins:
        for _ in range(KILLS):
            daemon.start()
            time.sleep(chance.uniform(0, LONGEST_LIFE))
            daemon.kill()
            assert sqlite3.connect(state).execute("pragma integrity_check").fetchone() == ("ok",)
        daemon.start()
        tallies: list[dict[str, Any]] = [json.loads(process.communicate("stop")[0]) for process in logins]
        entries = settled_entries(tmp_path, daemon)
    for user, tally in zip(USERS, tallies, strict=True):
        assert tally["refused"] == [], f"{user}: {tally}, {(tmp_path / 'log').read_text()[-2000:]}"
        assert tally["opened"] >= KILLS / 10, "hardly any load"
        assert tally["opened"] <= entries[user] <= tally["opened"] + tally["unknown"]


def settled_entries(folder: Path, daemon: Stage) -> dict[str, int]:
    """Tell each entry's count of reuses once everything is given back that no session followed.

    Records wait for their session for a while, though their process has ended; here nobody comes any more.
    """
    daemon.kill()
    daemon.start()
    daemon.kill()
    store = SqliteStore(folder / "state.db")
    store.forget_records([record.login_id for record in store.records()])
    counts = {key.user: entry.reuses for key, entry in store.grace_entries()}
    store.close()
    return counts
