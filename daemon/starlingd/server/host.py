"""Everything a session uses: what lives as long as the daemon, and what a reload replaces.

A session takes ``current`` once, at its start: running logins finish under the rules they started with.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from starlingd.core import grace
from starlingd.core.attempts import Attempts
from starlingd.core.failures import Failures
from starlingd.core.grace import Moment
from starlingd.server.decoy import Decoy
from starlingd.server.guesses import Guesses
from starlingd.server.probe import Probe
from starlingd.server.trials import Trials

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlingd.core.grace import Entry, Miss
    from starlingd.core.provisioning import Loop
    from starlingd.core.pushes import PushLedger
    from starlingd.core.rules import Grace, Rules
    from starlingd.core.steps import Peek
    from starlingd.ports import Accounts, Directory, Patterns, SecondFactor, Store, Vault
    from starlingd.server.audit import Audit
    from starlingd.server.enrolments import Enrolments
    from starlingd.server.localcodes import LocalCodes
    from starlingd.server.logins import Logins
    from starlingd.server.workers import Workers

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rights:
    """Which groups of this host may use the control socket for more than reading (SEMANTICS §11, [control])."""

    operators: frozenset[str] = frozenset()
    helpdesk: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Current:
    """What one valid configuration yields; ``call_timeout`` bounds one call of the provider, in seconds."""

    rules: Rules
    provider: SecondFactor
    call_timeout: float
    directory: Directory | None = None
    loop: Loop | None = None
    vault: Vault | None = None
    metrics: str = ""
    rights: Rights = field(default_factory=Rights)


@dataclass(frozen=True, slots=True)
class Pools:
    """The worker pools, one for each dependency (DESIGN §6)."""

    provider: Workers
    accounts: Workers
    store: Workers
    patterns: Workers
    directory: Workers
    hashing: Workers

    def close(self) -> None:
        """Take no more calls."""
        every = (self.provider, self.accounts, self.store, self.patterns, self.directory, self.hashing)
        for workers in every:
            workers.close()


@dataclass(slots=True)
class Host:
    """The daemon as a session sees it. ``current`` is None while there is no usable configuration.

    ``recovered`` is False while it is not known what an earlier daemon kept: sessions, lock-outs, push failures.
    """

    gateway: str
    boot: str
    pools: Pools
    accounts: Accounts
    store: Store
    patterns: Patterns
    audit: Audit
    logins: Logins
    pushes: PushLedger
    current: Current | None
    enrolments: Enrolments
    local: LocalCodes
    draw: Callable[[str], str]
    """Draws a text as a QR code."""
    attempts: Attempts = field(default_factory=Attempts)
    decoy: Decoy = field(default_factory=Decoy)
    guesses: Guesses = field(default_factory=lambda: Guesses(Failures()))
    probe: Probe = field(default_factory=Probe)
    trials: Trials = field(default_factory=Trials)
    recovered: bool = True

    started: float = field(default_factory=time.time)
    """When the daemon started, in wall-clock seconds."""
    local_calls: Decoy = field(default_factory=Decoy)
    """How checking a code of this host's own went, for strangers to replay."""
    directory_calls: Decoy = field(default_factory=Decoy)
    """How the last call of the directory went; it is never replayed."""

    errands: set[asyncio.Task[Any]] = field(default_factory=set)

    def later(self, errand: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run what must come to its end although the login may end before; nobody has to wait for it."""
        task = asyncio.get_running_loop().create_task(errand)
        self.errands.add(task)
        task.add_done_callback(self.errands.discard)
        return task

    async def peek(self, step: Peek, rule: Grace, at: Moment, wait: float) -> Entry | Miss:
        """Tell what a reuse at the moment ``at`` would find, without taking one. Raises Unavailable."""
        entry = await self.pools.store.run(wait, self.store.grace_entry, step.key)
        return grace.judge(entry, step.basis, rule, at)

    def moment(self) -> Moment:
        """Tell the time by both clocks."""
        return Moment(time.time(), boottime(), self.boot)


def boottime() -> float:
    """Tell the seconds since boot, sleep included: the clock of what is stored."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
