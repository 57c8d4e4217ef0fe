"""What tests of the control socket share: a whole daemon, and a client that asks it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from starlingd.cli.main import main
from starlingd.core.grace import Entry, Key
from starlingd.core.rules import Grace, Rules
from starlingd.server.host import Rights
from tests.daemon_under_test import Bastion, Whole, on_bastion, whole_daemon

GRACE = Grace(soft_timeout=60, hard_timeout=600, reuse_limit=3)
CACHED = Rules(grace=GRACE)
ADDRESS = "198.51.100.7"
KEY = Key("alice", ADDRESS, "", "")
BOB, AWAY = replace(KEY, user="bob"), Key("alice", "2001:db8::1", "SHA256:abc", "sshd")


async def send(whole: Whole, data: bytes, *, end: bool = False) -> bytes:
    """Send something to the control socket; return all that comes back."""
    reader, writer = await asyncio.open_unix_connection(whole.control)
    try:
        writer.write(data)
        if end:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def ask(whole: Whole, command: str, **request: object) -> Any:  # noqa: ANN401  JSON
    """Ask as starlingctl does; return the one object of the answer."""
    line = await send(whole, json.dumps({"command": command, **request}).encode() + b"\n")
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    return json.loads(line)


def controlled(
    directory: Path,
    test: Callable[[Bastion, Whole], Awaitable[None]],
    rules: Rules = CACHED,
    rights: Rights | None = None,
) -> None:
    """Run ``test(bastion, whole)`` with a whole daemon."""

    async def run(bastion: Bastion) -> None:
        assert bastion.host.current
        bastion.host.current = replace(bastion.host.current, rights=rights or Rights())
        async with whole_daemon(bastion, directory) as whole:
            await test(bastion, whole)

    on_bastion(run, rules)


def fill(bastion: Bastion, *keys: Key) -> None:
    """Have everybody asked just now."""
    moment = bastion.host.moment()
    bastion.store.entries |= {key: Entry("1000 alice", moment, moment, 1) for key in keys}


async def starlingctl(whole: Whole, *arguments: object) -> Result:
    """Run starlingctl against a daemon of this process, in a thread of its own."""
    return await asyncio.to_thread(run, whole.control, *arguments)


def run(control: Path, *arguments: object) -> Result:
    """Run starlingctl with this control socket."""
    return CliRunner().invoke(main, ["--socket", str(control), *map(str, arguments)])
