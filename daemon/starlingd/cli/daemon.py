"""How starlingctl asks the daemon, and how it shows what came back."""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

SOCKET = Path("/run/starlingd/control.sock")
OURS = "_SYSTEMD_UNIT=starlingd.service"
"""What journalctl has to match: everybody may write STARLING_* fields, but this one is the journal's own."""
PATIENCE = 35.0
"""Seconds to wait for an answer; longer than the daemon takes for any."""
REFUSED, UNREACHABLE = 1, 3
WIDEST = 10_000
"""Characters in a line of a table at most."""


class NoAnswer(Exception):  # noqa: N818  it says what it is
    """Why the daemon gave no result; ``status`` is the exit status that says so."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


def ask(command: str, **request: object) -> Any:  # noqa: ANN401  JSON
    """Ask the daemon and return its answer; ends the program with a clear word when there is none."""
    try:
        return try_to_ask(command, **request)
    except NoAnswer as none:
        sys.exit(_fail(str(none), none.status))


def try_to_ask(command: str, **request: object) -> Any:  # noqa: ANN401  JSON
    """Ask the daemon and return its answer. Raises NoAnswer."""
    path = click.get_current_context().find_root().params.get("socket") or SOCKET
    try:
        answer = _exchange(path, {"command": command, **request})
    except FileNotFoundError:
        raise NoAnswer(f"{path} does not exist: is starlingd-control.socket running?", UNREACHABLE) from None
    except PermissionError:
        raise NoAnswer(f"{path}: only root and members of the group starling-admin may ask", UNREACHABLE) from None
    except (OSError, ValueError, RecursionError) as error:
        raise NoAnswer(f"the daemon does not answer: {error}", UNREACHABLE) from None
    if "error" in answer:
        raise NoAnswer(str(answer["error"]), REFUSED)
    return answer["result"]


def _exchange(path: Path, request: dict[str, object]) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(path))
        sock.sendall(json.dumps(request).encode() + b"\n")
        with sock.makefile("rb") as lines:
            answer = json.loads(lines.readline() or b"null")
    if not isinstance(answer, dict) or not answer.keys() & {"result", "error"}:
        raise ValueError("it said something else than an answer")
    return answer


def _fail(text: str, status: int) -> int:
    click.echo(f"starlingctl: {printable(text)}", err=True)
    return status


def printable(text: str) -> str:
    """Make a text fit for a terminal: what it would act upon is shown as an escape instead."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def show_json(value: object) -> None:
    """Print a value for machines."""
    click.echo(json.dumps(value, indent=2))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], nothing: str) -> None:
    """Print rows under headings, or the sentence ``nothing``. Nothing is cut to fit: a program may read it too."""
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    if table.row_count:
        console = Console()
        console.width = max(console.width, console.measure(table, options=console.options.update(width=WIDEST)).maximum)
        console.print(table, soft_wrap=True)
    else:
        click.echo(nothing)


def moment(wall: float) -> str:
    """Write a wall-clock time in the local time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall))


def json_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add --json to a command that reports."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(command)
