"""starlingctl grace: who need not be asked again yet."""

from __future__ import annotations

import click

from starlingd.cli.daemon import ask, json_option, moment, show_json, show_table


@click.group("grace")
def grace() -> None:
    """Look at the grace cache, or make it forget."""


@grace.command("list")
@click.argument("user", required=False)
@click.option("--from", "address", metavar="ADDRESS", help="Only entries of this address.")
@json_option
def list_(user: str | None, address: str | None, *, as_json: bool) -> None:
    """List the entries, of USER only if given."""
    entries = ask("grace list", user=user, **{"from": address})
    if as_json:
        show_json(entries)
        return
    rows = (
        (
            entry["user"],
            entry["client_ip"],
            entry["ssh_key"],
            entry["service"],
            moment(entry["last_authenticated"]),
            moment(entry["last_used"]),
            entry["reuse_count"],
        )
        for entry in entries
    )
    columns = ("user", "from", "ssh key", "service", "authenticated", "last used", "reused")
    show_table(columns, rows, "no entries")


@grace.command("forget")
@click.argument("user", required=False)
@click.option("--from", "address", metavar="ADDRESS", help="Only entries of this address.")
@click.option("--all", "everybody", is_flag=True, help="Everybody's entries.")
def forget(user: str | None, address: str | None, *, everybody: bool) -> None:
    """Forget the entries of USER, of an address, or all: the next login is asked."""
    if bool(user or address) == everybody:
        raise click.UsageError("name a USER, an address with --from, or both; or say --all")
    answer = ask("grace forget", user=user, **{"from": address})
    click.echo(f"{answer['forgotten']} forgotten")
