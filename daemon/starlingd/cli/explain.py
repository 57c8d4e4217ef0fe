"""starlingctl explain: why a login would be decided as it would be. It changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from starlingd.cli.daemon import ask, json_option, printable, show_json, show_table

OUTCOMES = {
    "exempt": "let in without a second factor",
    "cached": "let in without a second factor: asked lately",
    "second_factor": "asked for a second factor",
    "deny": "refused",
}


class Moment(click.ParamType):
    """A point in time: ISO 8601, local unless it says otherwise."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Make wall-clock seconds of what was typed."""
        try:
            return datetime.fromisoformat(value).astimezone(UTC).timestamp()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time such as 2026-11-24T03:00", param, ctx)


@click.command("explain")
@click.argument("user")
@click.option("--from", "address", metavar="ADDRESS", help="Where the login comes from.")
@click.option("--service", default="sshd", show_default=True, help="The PAM service.")
@click.option("--tty", help="The terminal, for a login without an address.")
@click.option("--key", metavar="FINGERPRINT", help="SHA256:… of the ssh key, where the grace cache is bound to it.")
@click.option("--by-key", is_flag=True, help="A login by public key alone, as scp and BatchMode clients come.")
@click.option("--at", type=Moment(), help="When; now if not given.")
@json_option
def explain(  # its options, one each
    user: str,
    address: str | None,
    service: str,
    tty: str | None,
    key: str | None,
    at: float | None,
    *,
    by_key: bool,
    as_json: bool,
) -> None:
    """Tell how a login of USER would be decided, and by which rules."""
    request = {"user": user, "from": address, "service": service, "tty": tty, "key": key, "at": at, "by_key": by_key}
    plan = ask("explain", **request)
    if as_json:
        show_json(plan)
        return
    rows = ((step["step"], step["result"], step["rule"]) for step in plan["steps"])
    show_table(("step", "result", "rule"), rows, "nothing was looked at")
    asked = f", as {plan['identity']}" if plan["identity"] else ""
    why = f" ({plan['reason']})" if plan["reason"] else ""
    click.echo()
    click.echo(printable(f"{user} would be {OUTCOMES[plan['outcome']]}{asked}{why}"))
