"""Tells when a process has died, by a pidfd checked against its start time, so that no reused pid is taken for it."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlingd.server import processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlingd.core.model import Process

log = logging.getLogger("starlingd.deaths")


@dataclass(slots=True)
class _Watch:
    descriptor: int
    callbacks: dict[str, Callable[[], None]] = field(default_factory=dict)


class Deaths:
    """Watches processes on the running event loop; all methods belong to its thread."""

    def __init__(self) -> None:
        self._watches: dict[Process, _Watch] = {}

    def watch(self, process: Process, name: str, callback: Callable[[], None]) -> None:
        """Call ``callback`` once, soon after ``process`` has died or if it is dead already.

        ``name`` is what ``forget`` takes. Where the kernel gives no pidfd (no descriptor left) nothing is called: the
        daemon's sweep finds the death later.
        """
        watch = self._watches.get(process)
        if watch is None:
            descriptor = _open(process)
            if descriptor is None:
                asyncio.get_running_loop().call_soon(callback)
                return
            if descriptor < 0:
                return
            watch = self._watches[process] = _Watch(descriptor)
            asyncio.get_running_loop().add_reader(descriptor, self._died, process)
        watch.callbacks[name] = callback

    def forget(self, process: Process, name: str) -> None:
        """Watch no longer for ``name``."""
        watch = self._watches.get(process)
        if watch is None:
            return
        watch.callbacks.pop(name, None)
        if not watch.callbacks:
            self._close(process)

    def close(self) -> None:
        """Watch nothing any more."""
        for process in list(self._watches):
            self._close(process)

    def _died(self, process: Process) -> None:
        callbacks = list(self._watches[process].callbacks.values())
        self._close(process)
        for callback in callbacks:
            asyncio.get_running_loop().call_soon(callback)  # each on its own: one that fails keeps nobody from knowing

    def _close(self, process: Process) -> None:
        watch = self._watches.pop(process)
        asyncio.get_running_loop().remove_reader(watch.descriptor)
        os.close(watch.descriptor)


def _open(process: Process) -> int | None:
    """Open a pidfd; None when the process is dead, -1 when there is no telling."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError as error:
        log.warning("cannot watch process %d: %s", process.pid, error.strerror)
        return -1
    # The pidfd came first: whatever has this pid now is what it names.
    if processes.is_alive(process):
        return descriptor
    os.close(descriptor)
    return None
