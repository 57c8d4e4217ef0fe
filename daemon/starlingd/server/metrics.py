"""Metrics for Prometheus, on a local address or a Unix socket when configured; never a user's name.

Served by a thread of its own, which reads numbers that the event loop writes: a scrape that hangs keeps nobody waiting.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
import threading
import time
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from starlingd import VERSION
from starlingd.core.model import Reason
from starlingd.server.decoy import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

    from starlingd.server.host import Host
    from starlingd.server.provisioning import Run

SCRAPE_TIME = 5.0
"""Seconds for which a scraper may be silent: one at a time is served."""
LAST_SCRAPE = 1.0
"""Seconds that a scrape gets when the daemon stops."""
EVERYBODY = 0o666
"""A socket's mode: as with an address, whoever is on this host may scrape, unless its folder keeps them out."""

log = logging.getLogger("starlingd.metrics")


class Collector:
    """Makes the metrics at each scrape."""

    def __init__(self, host: Host, waiting: Callable[[], int], run: Callable[[], Run | None]) -> None:
        self._host = host
        self._waiting = waiting
        self._run = run

    def collect(self) -> Iterator[Metric]:
        """Tell the metrics, as prometheus-client wants them."""
        decisions = CounterMetricFamily("starlingd_decisions", "Logins decided.", labels=("outcome", "reason"))
        counts = dict(self._host.audit.counts.total)
        for (outcome, reason), number in counts.items():
            decisions.add_metric((outcome, reason), number)
        yield decisions
        hits = sum(number for (_, reason), number in counts.items() if reason == Reason.CACHED)
        yield CounterMetricFamily("starlingd_grace_hits", "Logins let in by the grace period.", value=hits)
        yield GaugeMetricFamily("starlingd_waiting_logins", "Logins being served.", value=self._waiting())
        yield GaugeMetricFamily("starlingd_leases", "Sessions open.", value=len(self._host.logins.leases))
        yield from self._state()
        yield from self._pools()
        yield from self._calls()
        yield from self._provisioning()

    def _state(self) -> Iterator[Metric]:
        current = self._host.current
        observing = current is not None and time.time() < current.rules.observe_until
        yield GaugeMetricFamily("starlingd_configured", "Whether the configuration can be used.", current is not None)
        yield GaugeMetricFamily("starlingd_observing", "Whether nobody is asked (enforce = observe).", observing)
        yield GaugeMetricFamily("starlingd_recovered", "Whether the state file could be read.", self._host.recovered)
        yield GaugeMetricFamily("starlingd_start_time_seconds", "When the daemon started.", self._host.started)
        info = GaugeMetricFamily("starlingd_info", "The daemon's version.", labels=("version",))
        info.add_metric((VERSION,), 1)
        yield info
        events = CounterMetricFamily("starlingd_events", "Audit events but logins.", labels=("event", "outcome"))
        for (event, outcome), number in dict(self._host.audit.counts.events).items():
            events.add_metric((event, outcome), number)
        yield events

    def _pools(self) -> Iterator[Metric]:
        pools = self._host.pools
        under_way = GaugeMetricFamily("starlingd_pool_calls", "Calls that wait or run.", labels=("pool",))
        for pool in (pools.provider, pools.directory, pools.accounts, pools.store):
            under_way.add_metric((pool.name,), pool.under_way)
        yield under_way

    def _calls(self) -> Iterator[Metric]:
        labels = ("system", "call")
        seconds = HistogramMetricFamily(
            "starlingd_call_duration_seconds", "How long calls outside took.", labels=labels
        )
        errors = CounterMetricFamily("starlingd_call_errors", "Calls that failed.", labels=labels)
        for system, calls in (("service", self._host.decoy), ("directory", self._host.directory_calls)):
            for call, totals in list(calls.totals.items()):
                counted = accumulate(totals.buckets)
                buckets = [(str(bound), number) for bound, number in zip((*BUCKETS, "+Inf"), counted, strict=True)]
                seconds.add_metric((system, call), buckets, totals.seconds)
                errors.add_metric((system, call), totals.errors)
        yield from (seconds, errors)

    def _provisioning(self) -> Iterator[Metric]:
        """Tell how the last run of the provisioning loop went; nothing before the first."""
        run = self._run()
        if run is None:
            return
        people = GaugeMetricFamily("starlingd_provisioning_people", "People of the last run.", labels=("action",))
        for action, number in dict(run.tally.counts).items():
            people.add_metric((action,), number)
        yield people
        yield GaugeMetricFamily("starlingd_provisioning_errors", "Errors of the last run.", run.errors)
        yield GaugeMetricFamily("starlingd_provisioning_started_seconds", "When the last run began.", run.started)
        yield GaugeMetricFamily("starlingd_provisioning_ended_seconds", "When it ended; 0 under way.", run.ended)


class _Quiet(WSGIRequestHandler):
    """Does not write each scrape to stderr, and waits for nobody for long."""

    timeout = SCRAPE_TIME

    def handle(self) -> None:
        """Serve one scrape; a scraper who says nothing in time, or goes away, is nobody's concern."""
        with suppress(OSError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        """Say nothing."""

    def address_string(self) -> str:
        """Tell who asks; over a Unix socket nobody is told."""
        return "local"


class _Inet6Server(WSGIServer):
    """The same on an IPv6 address."""

    address_family = socket.AF_INET6


class _UnixServer(WSGIServer):
    """The same over a Unix socket."""

    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        """Bind the path. Raises OSError."""
        path = Path(str(self.server_address))
        _make_room(path)
        self.socket.bind(str(path))
        path.chmod(EVERYBODY)
        self.server_name, self.server_port = "localhost", 0
        self.setup_environ()

    def get_request(self) -> tuple[object, tuple[str, int]]:  # type: ignore[override]
        """Accept; a Unix peer has no address."""
        sock, _ = self.socket.accept()
        return sock, ("local", 0)


def _make_room(path: Path) -> None:
    """Take away a socket that an earlier run left; whatever else lies there is somebody's. Raises OSError."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise OSError(errno.EEXIST, "something lies there that is no socket; take it away, or name another path")
    path.unlink()


def _server(listen: str) -> WSGIServer:
    """Make the server for ``ADDRESS:PORT`` or a socket's path. Raises OSError."""
    if os.path.isabs(listen):  # noqa: PTH117  a text that may not be a path
        return _UnixServer(listen, _Quiet)  # type: ignore[arg-type]  # a path is a Unix socket's address
    address, _, port = listen.rpartition(":")
    kind = _Inet6Server if ":" in address else WSGIServer
    return kind((address.strip("[]"), int(port)), _Quiet)


def serve(listen: str, host: Host, waiting: Callable[[], int], run: Callable[[], Run | None]) -> Callable[[], None]:
    """Serve metrics on ``ADDRESS:PORT`` or a socket's path; tell how to end it. Raises OSError.

    ``waiting`` tells how many logins are being served, ``run`` the last run of the provisioning loop.
    """
    registry = CollectorRegistry()
    registry.register(Collector(host, waiting, run))  # type: ignore[arg-type]  # anything with collect()
    server = _server(listen)
    server.set_app(make_wsgi_app(registry))
    serving = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    serving.start()
    log.info("metrics on %s", listen)

    def end() -> None:
        # shutdown() waits for the scrape that is being served, and whoever scrapes may take as long as they like.
        threading.Thread(target=server.shutdown, name="metrics end", daemon=True).start()
        serving.join(LAST_SCRAPE)
        server.server_close()

    return end
