"""Findings about the cloud service, the directory, and the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlingd.cli.doctor.finding import error, warning
from starlingd.core.model import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlingd.cli.doctor.finding import Finding
    from starlingd.core.model import Unavailable

SLOW = 3.0
"""Seconds of a token request from which on people notice."""


def check_names(failed: dict[str, str]) -> Iterator[Finding]:
    """Tell the hosts whose names cannot be resolved, each with the reason."""
    for host, why in failed.items():
        yield error(
            "service.name", f"the name {host} is not resolved: {why}", f"getent ahosts {host}; see /etc/resolv.conf"
        )


def check_token(outage: Unavailable | None, seconds: float) -> Iterator[Finding]:
    """Tell how a token request went."""
    if outage is None:
        if seconds > SLOW:
            yield warning("service.slow", f"the service took {seconds:.1f} s for a token: every push waits as long")
        return
    name, advice = {
        Fault.UNREACHABLE: ("service.unreachable", "see that a firewall or the proxy lets this host through to it"),
        Fault.MISCONFIGURED: ("service.refused", "compare ca_file, the proxy and the credential with the service's"),
    }.get(outage.fault, ("service.broken", "try again; ask the service's status page"))
    yield error(name, f"no token: {outage.detail}", advice)


def check_directory(outage: Unavailable | None) -> Iterator[Finding]:
    """Tell how a search in the directory went."""
    if outage is not None:
        yield error(
            "directory.unavailable", f"the directory does not answer: {outage.detail}", "see [ldap …] in starling.conf"
        )
