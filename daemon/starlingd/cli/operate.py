"""starlingctl unlock and reload: small things that change something in the running daemon."""

from __future__ import annotations

import click

from starlingd.cli.daemon import ask, printable


@click.command("unlock")
@click.argument("user")
def unlock(user: str) -> None:
    """Forget the wrong codes of USER, who may try again at once."""
    answer = ask("unlock", user=user)
    click.echo(
        printable(f"{answer['user']} unlocked" if answer["had_failures"] else f"{answer['user']} was not locked")
    )


@click.command("reload")
def reload() -> None:
    """Have the daemon take the configuration anew; a bad one changes nothing and is named."""
    click.echo(printable(ask("reload")["sentence"]))
