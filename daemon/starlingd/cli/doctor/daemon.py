"""Findings about the daemon, its units, its configuration and its versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlingd import VERSION
from starlingd.cli.doctor.finding import error, note, warning
from starlingd.cli.pam.stack import Mode
from starlingd.core.rules import Tls, WithoutSecondFactor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from starlingd.cli.doctor.finding import Finding
    from starlingd.config import Problem
    from starlingd.core.rules import Rules

SERVICE = "starlingd.service"
SOCKETS = ("starlingd.socket", "starlingd-control.socket")
SHOWN = 5
"""Problems of the configuration that are shown; check-config has the rest."""
MANY_RESTARTS = 3


def check_units(units: Mapping[str, Mapping[str, str]]) -> Iterator[Finding]:
    """Check what ``systemctl show`` says of each unit."""
    for name in (*SOCKETS, SERVICE):
        unit = units.get(name, {})
        state = unit.get("ActiveState", "unknown")
        if unit.get("LoadState") == "masked":
            yield error("daemon.masked", f"{name} is masked: it cannot start", f"systemctl unmask {name}")
        elif state != "active":
            yield error(
                "daemon.inactive", f"{name} is {state}", f"systemctl start {name}; journalctl -u {name} tells more"
            )
        if name in SOCKETS and unit.get("UnitFileState") in {"disabled", "static"}:
            yield error("daemon.disabled", f"{name} does not start at boot", f"systemctl enable {name}")
    service = units.get(SERVICE, {})
    if service.get("StatusText", "").startswith("misconfigured"):
        yield error(
            "daemon.misconfigured", f"starlingd says: {service['StatusText']}", "starlingctl check-config, then reload"
        )
    restarts = service.get("NRestarts", "0")
    if restarts.isdecimal() and int(restarts) >= MANY_RESTARTS:
        yield warning("daemon.restarts", f"starlingd was restarted {restarts} times", f"journalctl -u {SERVICE}")


def check_answer(told: Mapping[str, Any] | None, why: str) -> Iterator[Finding]:
    """Check what the daemon answered to ``status``, or why it did not."""
    if told is None:
        yield error("daemon.no-answer", f"the daemon does not answer: {why}", f"systemctl restart {SERVICE}")
        return
    if told.get("version") != VERSION:
        yield warning(
            "daemon.version",
            f"the daemon is {told.get('version')}, starlingctl is {VERSION}: an upgrade is not in use yet",
            f"systemctl restart {SERVICE}",
        )
    for name, health in told.get("health", {}).items():
        if health and health.get("outage"):
            yield warning(
                f"daemon.{name}-outage", f"the daemon's last call of the {name} failed: {health['outage']}",
                "starlingctl status",
            )  # fmt: skip


def check_configuration(problems: Sequence[Problem], warnings: Sequence[Problem]) -> Iterator[Finding]:
    """Tell the problems of the configuration, and its warnings, which are what weakens the second factor on purpose."""
    for problem in problems[:SHOWN]:
        yield error("config.problem", str(problem), "starlingctl check-config")
    for each in warnings:
        name = f"config.{each.section}.{each.key}".replace(" ", "-")
        yield warning(name, str(each), "see starling.conf(5)")


def check_rules(rules: Rules, sshd_mode: Mode | None) -> Iterator[Finding]:
    """Tell what the rules let by."""
    if rules.break_glass:
        names = ", ".join(sorted(rules.break_glass))
        yield note("config.break-glass", f"break_glass lets in without a second factor: {names}")
    if sshd_mode is Mode.KEY_PUSH and rules.without_second_factor is WithoutSecondFactor.DENY:
        yield error(
            "config.key-push",
            "sshd asks for a key alone (key-push mode), and [account] without_second_factor = deny refuses those",
            "write without_second_factor = push into [account]; starlingctl reload",
        )
    if (
        rules.directory is not None
        and rules.directory.tls is Tls.NONE
        and not all(uri.startswith("ldapi:") for uri in rules.directory.uri)
    ):
        yield warning(
            "config.directory-tls", f"the directory {rules.directory.name} is asked without TLS", "tls = starttls"
        )
