"""The daemon's life: load what was kept, listen, reload on SIGHUP, stop on SIGTERM or SIGINT.

With an unusable configuration it stays up and denies every login with a reason (DESIGN §6): an administrator who made
a mistake must be able to read what it is.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from typing import TYPE_CHECKING

from starlingd.core.pushes import PushLedger
from starlingd.core.steps import ShuttingDown
from starlingd.ports import Unavailable
from starlingd.server import notify, processes
from starlingd.server.listener import Listener
from starlingd.server.logins import STORE_WAIT

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from starlingd.server.host import Current, Host

LONGEST_PUSH_WINDOW = 86400.0
"""Seconds of push failures that are read back; a longer push_window counts less after a restart."""
SWEEP_INTERVAL = 30.0
STOP_TIME = 5.0
"""Seconds in which the waiting logins are answered when the daemon stops."""

log = logging.getLogger("starlingd")

Loaded = tuple["Current | None", str]
"""What a configuration yields, and a sentence about it; without a usable one, the first problem."""


class Daemon:
    """The running daemon; ``load`` reads the configuration anew and never raises."""

    def __init__(self, host: Host, sock: socket.socket, load: Callable[[], Loaded]) -> None:
        self._host = host
        self._sock = sock
        self._load = load
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until a signal says stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        self._host.current, sentence = self._load()
        log.info("%s", sentence)
        await self._recover()
        listener = Listener(self._host, self._sock)
        notify.ready(sentence)
        tasks = [asyncio.create_task(work) for work in (listener.run(), self._sweep(), self._stay_alive())]
        await self._stop.wait()
        notify.stopping()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.end_sessions(ShuttingDown(), STOP_TIME)

    def reload(self) -> None:
        """Take a new configuration if all of it is valid; otherwise change nothing and say why."""
        current, sentence = self._load()
        if current is not None:
            self._host.current = current
        log.log(logging.INFO if current else logging.ERROR, "reload: %s", sentence)
        self._host.audit.reload(sentence, taken=current is not None)
        notify.status(sentence if current or self._host.current is None else f"reload refused: {sentence}")

    async def _recover(self) -> None:
        """Read back what an earlier daemon kept. A store that fails now may work later, and until then denies."""
        try:
            await self._host.logins.load()
            await self._recover_pushes()
        except Unavailable as outage:
            log.error("%s", outage)  # noqa: TRY400  an outage is told in one line, not with a traceback

    async def _recover_pushes(self) -> None:
        """Count the push failures from before a restart too; a failure's age is carried to the monotonic clock."""
        wall, now = time.time(), time.monotonic()
        store = self._host.store
        kept = await self._host.pools.store.run(STORE_WAIT, store.push_failures, wall - LONGEST_PUSH_WINDOW)
        ages = {user: [(now - max(0.0, wall - at), denied) for at, denied in list_] for user, list_ in kept.items()}
        self._host.pushes = PushLedger(ages)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            self._host.attempts.prune(time.monotonic())
            try:
                await self._host.logins.sweep(processes.is_alive)
            except Unavailable as outage:
                log.warning("%s", outage)

    async def _stay_alive(self) -> None:
        interval = notify.watchdog_interval()
        while interval is not None:
            notify.alive()
            await asyncio.sleep(interval)
