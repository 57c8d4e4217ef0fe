"""Asking the cloud service and the directory for doctor, each within seconds. It sends no code and starts no push.

The credential leaves for the token URL alone, through the adapter; nothing here may show it.
"""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from starlingd import providers
from starlingd.adapters.ldap import LdapDirectory
from starlingd.core.model import Fault, Unavailable
from starlingd.core.rules import Provider
from starlingd.web.https import SYSTEM_STORE

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlingd.config import Settings
    from starlingd.config.settings import StarlingSettings

PATIENCE = 8.0
"""Seconds for each question; all are asked at the same time."""
NOBODY = "starling-doctor-nobody"


@dataclass(slots=True)
class Outside:
    """What came of it. ``names`` are hosts that are not resolved, ``offset`` is our clock less theirs, in seconds."""

    names: dict[str, str] = field(default_factory=dict)
    token: Unavailable | None = None
    token_seconds: float = 0.0
    directory: Unavailable | None = None
    offset: float | None = None


def ask(settings: Settings) -> Outside:
    """Ask everything, at the same time; what does not answer in time counts as unreachable."""
    slow = Unavailable("doctor", Fault.UNREACHABLE, f"no answer within {PATIENCE:.0f} s")
    service = settings.starling if settings.rules.provider is Provider.STARLING else None
    out = Outside(token=slow if service else None, directory=slow if settings.rules.directory else None)
    tasks: list[Callable[[], None]] = []
    if service is not None:
        tasks += [lambda: _token(settings, out), lambda: _clock(settings, service, out)]
        tasks += [lambda host=host: _name(host, out) for host in _hosts(settings, service)]  # type: ignore[misc]
    tasks += [lambda: _directory(settings, out)] if settings.rules.directory else []
    threads = [threading.Thread(target=task, daemon=True) for task in tasks]
    ends = time.monotonic() + PATIENCE
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    return out


def _hosts(settings: Settings, service: StarlingSettings) -> set[str]:
    """Tell the hosts that this host must be able to name: with a proxy, only the proxy."""
    urls = [settings.proxy] if settings.proxy else [service.service_url, service.token_url]
    return {host for url in urls if (host := urlsplit(url).hostname)}


def _name(host: str, out: Outside) -> None:
    out.names[host] = "no answer"
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        out.names[host] = error.strerror or "not found"
    else:
        del out.names[host]


def _token(settings: Settings, out: Outside) -> None:
    began = time.monotonic()
    out.token = token(settings)
    out.token_seconds = time.monotonic() - began


def token(settings: Settings) -> Unavailable | None:
    """Ask for a token, and tell why there is none."""
    try:
        provider = providers.make(settings, 1, PATIENCE)
        provider.probe_token(PATIENCE)
    except Unavailable as outage:
        return outage
    return None


def _directory(settings: Settings, out: Outside) -> None:
    policy = settings.rules.directory
    if policy is None:
        return
    try:
        LdapDirectory(policy).person(NOBODY, (), PATIENCE)
    except Unavailable as outage:
        out.directory = outage
    else:
        out.directory = None


def _clock(settings: Settings, service: StarlingSettings, out: Outside) -> None:
    try:
        date = _date(settings, service)
        out.offset = time.time() - parsedate_to_datetime(date).timestamp()
    except (OSError, ValueError, http.client.HTTPException):
        return


def _date(settings: Settings, starling: StarlingSettings) -> str:
    """Ask the service for nothing but its headers, and tell its Date."""
    service = urlsplit(starling.service_url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # not the default one: it obeys the environment
    context.load_verify_locations(starling.ca_file or SYSTEM_STORE)
    made = http.client.HTTPSConnection(*_first_hop(settings, starling), timeout=PATIENCE, context=context)
    if settings.proxy:
        made.set_tunnel(service.hostname or "", service.port or 443, _proxy_headers(settings.proxy))
    try:
        made.request("HEAD", "/")
        return made.getresponse().headers["Date"] or ""
    finally:
        made.close()


def _first_hop(settings: Settings, starling: StarlingSettings) -> tuple[str, int]:
    url = urlsplit(settings.proxy or starling.service_url)
    return url.hostname or "", url.port or 443


def _proxy_headers(proxy: str) -> dict[str, str]:
    url = urlsplit(proxy)
    if url.username is None:
        return {}
    pair = f"{unquote(url.username)}:{unquote(url.password or '')}".encode()
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair).decode()}
