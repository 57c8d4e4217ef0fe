"""starlingd, the daemon: puts settings, adapters and server together. No logic lives here."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from starlingd import config, providers
from starlingd.adapters import qr
from starlingd.adapters.journal import JournalAuditLog
from starlingd.adapters.ldap import LdapDirectory
from starlingd.adapters.nss import NssAccounts
from starlingd.adapters.patterns import RegexPatterns
from starlingd.adapters.phones import Phones
from starlingd.adapters.sqlite import SqliteStore
from starlingd.adapters.vault import Vault
from starlingd.core.pushes import PushLedger
from starlingd.ports import Unavailable
from starlingd.server import notify, processes
from starlingd.server.audit import Audit
from starlingd.server.daemon import Daemon, Loaded
from starlingd.server.deaths import Deaths
from starlingd.server.enrolments import Enrolments
from starlingd.server.host import Current, Host, Pools, Rights, boottime
from starlingd.server.listener import bind
from starlingd.server.localcodes import LocalCodes
from starlingd.server.logins import Logins
from starlingd.server.workers import GroupingWorker, Pool

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIG = Path("/etc/pam-starling/starling.conf")
STATE = Path("/var/lib/starlingd/state.db")
NO_SERVICE_TIME = 1.0
"""Seconds for a call of the service where there is none."""
PROVIDER_THREADS, PROVIDER_QUEUE = 64, 4096
ACCOUNT_THREADS, ACCOUNT_QUEUE = 8, 4096
STORE_QUEUE = 8192
PATTERN_THREADS, PATTERN_QUEUE = 2, 1024
DIRECTORY_THREADS, DIRECTORY_QUEUE = 8, 4096
HASHING_THREADS, HASHING_QUEUE = 2, 1024


def main(argv: Sequence[str] | None = None) -> None:
    """Run the daemon until a signal stops it."""
    options = _options(argv)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO, stream=sys.stderr)
    pam, control = notify.inherited_sockets()
    pam = pam or (bind(options.socket, socket.SOCK_SEQPACKET) if options.socket else None)
    control = control or (bind(options.control_socket, socket.SOCK_STREAM) if options.control_socket else None)
    if pam is None:
        sys.exit("starlingd: no socket: start it through starlingd.socket, or name one with --socket")
    asyncio.run(_run(options, pam, control))
    # A worker may hang in a call whose login was answered long ago; nobody must wait for it while a new daemon starts.
    logging.shutdown()
    os._exit(0)


async def _run(options: argparse.Namespace, pam: socket.socket, control: socket.socket | None) -> None:
    host = _host(options.state)
    daemon = Daemon(host, pam, lambda: _load(options.config), control)
    try:
        await daemon.run()
    finally:
        host.audit.close()
        host.pools.close()


def _host(state: Path) -> Host:
    boot = processes.boot_id()
    store = SqliteStore(state)
    pools = Pools(
        provider=Pool("starling", PROVIDER_THREADS, PROVIDER_QUEUE),
        accounts=Pool("nss", ACCOUNT_THREADS, ACCOUNT_QUEUE),
        store=GroupingWorker("store", STORE_QUEUE, store.together),
        patterns=Pool("patterns", PATTERN_THREADS, PATTERN_QUEUE),
        directory=Pool("directory", DIRECTORY_THREADS, DIRECTORY_QUEUE),
        hashing=Pool("hashing", HASHING_THREADS, HASHING_QUEUE),
    )
    audit = Audit(JournalAuditLog())
    return Host(
        gateway=socket.gethostname(),
        boot=boot,
        pools=pools,
        accounts=NssAccounts(),
        store=store,
        patterns=RegexPatterns(),
        audit=audit,
        enrolments=Enrolments(store, pools.store, Phones(), audit),
        local=LocalCodes(store, pools.store, pools.hashing),
        draw=qr.draw,
        logins=Logins(store, pools.store, boot, boottime, Deaths()),
        pushes=PushLedger({}),
        current=None,
    )


def _load(path: Path) -> Loaded:
    """Read the configuration and build what depends on it; a bad one yields nothing and says why."""
    try:
        settings = config.read(path, config.daemon_secrets())
        rights = Rights(settings.control.operators, settings.control.helpdesk)
        rules, directory = settings.rules, None
        if rules.directory is not None:
            directory = LdapDirectory(rules.directory)
        current = Current(
            rules,
            providers.make(settings, PROVIDER_THREADS),
            settings.starling.http_timeout if settings.starling else NO_SERVICE_TIME,
            directory,
            settings.loop,
            Vault(settings.totp_key.reveal()) if settings.totp_key is not None else None,
            settings.metrics,
            rights,
        )
    except config.ConfigError as error:
        return None, f"misconfigured, every login is denied: {error.problems[0]}"
    except Unavailable as outage:
        return None, f"misconfigured, every login is denied: {outage.detail}"
    logging.getLogger().setLevel(settings.log_level.upper())
    for warning in settings.warnings:
        logging.getLogger("starlingd").warning("%s", warning)
    return current, "ready"


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="starlingd", description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG, help="configuration file (default: %(default)s)")
    parser.add_argument("--state", type=Path, default=STATE, help="state database (default: %(default)s)")
    parser.add_argument("--socket", type=Path, help="make the PAM socket here instead of taking systemd's")
    parser.add_argument("--control-socket", type=Path, help="make the control socket here, likewise")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
