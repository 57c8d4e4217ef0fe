"""The daemon's life: load what was kept, listen, reload on SIGHUP, stop on SIGTERM or SIGINT.

With an unusable configuration it stays up and denies every login with a reason (DESIGN §6): an administrator who made
a mistake must be able to read what it is.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from contextlib import suppress
from dataclasses import fields
from typing import TYPE_CHECKING

from starlingd.core import policy
from starlingd.core.failures import DAY, Failures
from starlingd.core.pushes import PushLedger
from starlingd.ports import Unavailable
from starlingd.server import metrics, notify, processes
from starlingd.server.codecommands import CodeCommands
from starlingd.server.commands import Commands
from starlingd.server.control import Control
from starlingd.server.guesses import Guesses
from starlingd.server.listener import Listener
from starlingd.server.logins import STORE_WAIT
from starlingd.server.provisioning import ProvisioningLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlingd.core.records import Lease
    from starlingd.core.rules import Rules
    from starlingd.server.host import Current, Host

LONGEST_PUSH_WINDOW = 86400.0
"""Seconds of push failures that are read back; a longer push_window counts less after a restart."""
SWEEP_INTERVAL = 30.0
RECOVERY_INTERVAL = 2.0
"""Seconds between attempts to read what an earlier daemon kept."""
GATEWAY_WAIT = 60.0
"""Seconds that looking up the host's full name may take; until then phones show the short one."""
STOP_TIME = 5.0
"""Seconds in which the waiting logins are answered when the daemon stops."""

STATE_UNUSABLE = "the state file cannot be used, every login but break-glass is denied; see the log"

log = logging.getLogger("starlingd")

Loaded = tuple["Current | None", str]
"""What a configuration yields, and a sentence about it; without a usable one, the first problem."""


class Daemon:
    """The running daemon; ``load`` reads the configuration anew and never raises."""

    def __init__(
        self, host: Host, sock: socket.socket, load: Callable[[], Loaded], control: socket.socket | None = None
    ) -> None:
        self._host = host
        self._sock = sock
        self._control = control
        self._load = load
        self._stop = asyncio.Event()
        self._provisioning = ProvisioningLoop(host)

    async def run(self) -> None:
        """Serve until a signal says stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        self._host.current, sentence = self._load()
        log.info("%s", sentence)
        self._host.logins.lost = self._session_lost
        naming = loop.create_task(self._name_gateway())
        self._host.recovered = await self._recover()
        listener = Listener(self._host, self._sock)
        services = [self._stop.wait(), listener.run(), self._sweep(), self._stay_alive(), self._provisioning.run()]
        commands = Commands(self._host, self._provisioning, lambda: listener.waiting)
        codes = CodeCommands(self._host)
        if self._control is not None:
            services.append(Control(self._host, self._control, self.reload, {**commands.all(), **codes.all()}).run())
        end_metrics = self._serve_metrics(lambda: listener.waiting)
        notify.ready(sentence if self._host.recovered else STATE_UNUSABLE)
        tasks = [asyncio.create_task(service) for service in services]
        # None of them ends but by a stop or a bug; without one of them the daemon must not look alive.
        ended, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        notify.stopping()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await listener.end_sessions(STOP_TIME)
        await self._provisioning.close()
        naming.cancel()
        # A login that was cut short may be on disk: the next daemon would take it for one that holds a slot.
        self._host.later(self._host.logins.settle())
        await asyncio.wait(self._host.errands, timeout=STORE_WAIT)
        end_metrics()
        for task in ended:
            task.result()

    def _serve_metrics(self, waiting: Callable[[], int]) -> Callable[[], None]:
        """Serve metrics where the configuration at start says so; what keeps them from being served stops no login."""
        current = self._host.current
        if current is None or not current.metrics:
            return lambda: None
        try:
            return metrics.serve(current.metrics, self._host, waiting, lambda: self._provisioning.runs.last)
        except OSError as error:
            log.error("no metrics on %s: %s", current.metrics, error.strerror)  # noqa: TRY400  one line
            return lambda: None

    async def _name_gateway(self) -> None:
        """Find the host's full name for what phones show; a resolver that is slow or down keeps nobody waiting."""
        with suppress(Unavailable, OSError):
            self._host.gateway = await self._host.pools.accounts.run(GATEWAY_WAIT, socket.getfqdn)

    def reload(self) -> tuple[bool, str]:
        """Take a new configuration if all of it is valid; otherwise change nothing and say why."""
        old, (current, sentence) = self._host.current, self._load()
        if current is not None:
            self._host.current = current
            sentence = changes(old.rules if old else None, current.rules)
            if old is not None:
                self._host.later(self._drop_grace(old.rules, current.rules))
        log.log(logging.INFO if current else logging.ERROR, "reload: %s", sentence)
        self._host.audit.reload(sentence, taken=current is not None)
        notify.status("ready" if current else f"reload refused: {sentence}" if old else sentence)
        return current is not None, sentence

    async def _recover(self) -> bool:
        """Read back what an earlier daemon kept; tell whether all of it could be read."""
        try:
            pushes, guesses = await self._kept_pushes(), await self._kept_guesses()
            await self._host.logins.load(processes.is_alive)
        except Unavailable as outage:
            log.error("every login but break-glass is denied: %s", outage)  # noqa: TRY400  one line, not a traceback
            return False
        self._host.pushes, self._host.guesses = pushes, guesses
        return True

    async def _kept_pushes(self) -> PushLedger:
        """Count the push failures from before a restart too; a failure's age is carried to the monotonic clock."""
        wall, now = time.time(), time.monotonic()
        store = self._host.store
        kept = await self._host.pools.store.run(STORE_WAIT, store.push_failures, wall - LONGEST_PUSH_WINDOW)
        return PushLedger(
            {user: [(now - max(0.0, wall - at), denied) for at, denied in list_] for user, list_ in kept.items()}
        )

    async def _kept_guesses(self) -> Guesses:
        """Count the wrong codes from before a restart too."""
        wall, now = time.time(), time.monotonic()
        kept = await self._host.pools.store.run(STORE_WAIT, self._host.store.failures, wall - DAY)
        ages = ((user, place, now - max(0.0, wall - at), cleared) for user, place, at, cleared in kept)
        return Guesses(Failures(ages))

    async def _drop_grace(self, old: Rules, new: Rules) -> None:
        """Drop the grace entries that a change of the exemptions makes invalid."""
        store, workers = self._host.store, self._host.pools.store
        try:
            entries = await workers.run(STORE_WAIT, store.grace_entries)
            gone = [key for key, _ in entries if not policy.survives(key, old, new)]
            if gone:
                await workers.run(STORE_WAIT, store.forget_grace, gone)
                log.info("reload: %d grace entries dropped", len(gone))
        except Unavailable as outage:
            log.error("grace entries from before the reload are not dropped: %s", outage)  # noqa: TRY400

    def _session_lost(self, lease: Lease) -> None:
        self._host.audit.session("session_close", lease.user, lease.service, lease, lease.reason)

    async def _sweep(self) -> None:
        # Until what was kept is known, limits and lock-outs are not, and everybody is denied.
        while not self._host.recovered:
            await asyncio.sleep(RECOVERY_INTERVAL)
            self._host.recovered = await self._recover()
            if self._host.recovered:
                notify.status("ready: what was kept is read")
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            self._host.attempts.prune(time.monotonic())
            self._host.guesses.prune()
            try:
                await self._host.logins.sweep(processes.is_alive)
                await self._sweep_grace()
            except Unavailable as outage:
                log.warning("%s", outage)

    async def _sweep_grace(self) -> None:
        """Forget entries that are past hard_timeout; they help nobody and would pile up."""
        if self._host.current is not None:
            oldest = time.time() - self._host.current.rules.grace.hard_timeout - SWEEP_INTERVAL
            store = self._host.store
            await self._host.pools.store.run(STORE_WAIT, store.forget_grace_before, oldest)

    async def _stay_alive(self) -> None:
        interval = notify.watchdog_interval()
        if interval is None:
            await asyncio.Event().wait()  # nobody watches
        while interval is not None:
            notify.alive()
            await asyncio.sleep(interval)


def changes(old: Rules | None, new: Rules) -> str:
    """Tell what a reload changed, by the names of the rules; never their values, of which some are secret."""
    if old is None:
        return "ready"
    changed = [rule.name for rule in fields(new) if getattr(old, rule.name) != getattr(new, rule.name)]
    return f"reloaded; changed: {', '.join(changed)}" if changed else "reloaded; no rule changed"
