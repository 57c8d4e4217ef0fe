"""Starts the sandbox: certificates, files for the tests, one TLS listener for tokens, service and phone."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import ipaddress
import json
import signal
import ssl
from pathlib import Path

import trustme
from aiohttp import web

from tests.sandbox import phone, subscription
from tests.sandbox.service import Service, note

CERTIFICATES = ("good", "wrong-host", "expired", "self-signed")


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="starling-sandbox", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:0", help="ADDRESS:PORT; port 0 picks one (default: %(default)s)")
    parser.add_argument(
        "--state", type=Path, required=True, help="where ca.pem, credential, api_key, users.json … are written"
    )
    parser.add_argument("--name", action="append", default=[], help="a further name or address of the certificate")
    parser.add_argument("--certificate", choices=CERTIFICATES, default="good", help="what is wrong with it")
    parser.add_argument("--tls-max", choices=("1.2", "1.3"), default="1.3", help="newest TLS version spoken")
    return parser.parse_args()


def tls(names: list[str], flaw: str, newest: str, ca_file: Path) -> ssl.SSLContext:
    """Make the server's TLS side, and write the authority that clients are to trust."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca_file))
    issuer = trustme.CA() if flaw == "self-signed" else authority
    names = ["elsewhere.example.org"] if flaw == "wrong-host" else names
    ended = dt.datetime.now(dt.UTC) - dt.timedelta(days=1) if flaw == "expired" else None
    certificate = issuer.issue_cert(*names, not_after=ended)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2 if newest == "1.2" else ssl.TLSVersion.TLSv1_3
    certificate.configure_cert(context)
    return context


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that nobody ever reads half of it."""
    half = path.with_name(path.name + ".new")
    half.touch(mode)
    half.write_text(text, encoding="utf-8")
    half.replace(path)


async def run(chosen: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    address, _, port = chosen.listen.rpartition(":")
    address = address.strip("[]")
    chosen.state.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(["localhost", "127.0.0.1", "::1", address, *chosen.name]))
    wild = [name for name in names if name in {"0.0.0.0", "::"} or not name]  # an address nobody can connect to
    names = [name for name in names if name not in wild]
    context = tls(names, chosen.certificate, chosen.tls_max, chosen.state / "ca.pem")
    service = Service()
    app = web.Application(middlewares=[note])
    app["service"] = service
    app.add_routes(service.routes() + subscription.routes(service) + phone.routes(service))
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=300, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, address, int(port), ssl_context=context, backlog=4096)
    await site.start()
    port = runner.addresses[0][1]
    with contextlib.suppress(ValueError):
        address = f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
    write(chosen.state / "listen", f"{address}:{port}")
    write(chosen.state / "credential", f"{service.client_id}:{service.client_secret}", 0o600)
    write(chosen.state / "api_key", service.api_key, 0o600)
    write(chosen.state / "phone_url", f"https://{address}:{port}/phone/")
    write(chosen.state / "users.json", json.dumps(service.described(), indent=1))
    print(f"starling-sandbox listens on {address}:{port}; phone: https://{address}:{port}/phone/", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(run(options()))
