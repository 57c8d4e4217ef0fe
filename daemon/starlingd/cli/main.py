"""starlingctl: the group that every command belongs to. A command's logic is in its own file."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import click

from starlingd import VERSION
from starlingd.cli import backup, check, codes, explain, grace, join, operate, provision, sessions, status, user
from starlingd.cli.doctor.command import doctor
from starlingd.cli.logintest.command import login_test
from starlingd.cli.pam import commands as pam


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="starlingctl")
@click.option("--socket", type=click.Path(path_type=Path), hidden=True, help="The control socket.")
def main(socket: Path | None) -> None:  # noqa: ARG001  daemon.ask looks it up
    """Look after pam-starling, the second factor of this host.

    Exit status: 0 fine, 1 problems found or refused, 2 wrong usage, 3 daemon not reachable.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale without the character must not end the command


for command in (
    check.check_config,
    explain.explain,
    grace.grace,
    sessions.sessions,
    operate.unlock,
    operate.reload,
    provision.provision,
    user.user,
    status.status,
    status.events,
    pam.pam,
    doctor,
    login_test,
    join.join,
    codes.totp,
    codes.recovery,
    codes.code,
    backup.backup,
    backup.restore,
):
    main.add_command(command)
