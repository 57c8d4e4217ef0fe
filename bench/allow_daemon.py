"""A live daemon's server that lets everybody in at once, through the full wire: the peer of the overhead benchmark.

Usage: allow_daemon.py SOCKET. Prints ``ready`` when it listens, and ends when its standard input does.
"""

import asyncio
import socket
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TREE), str(TREE / "daemon")]

from starlingd.core.model import Account  # noqa: E402
from starlingd.core.rules import Rules  # noqa: E402
from starlingd.server.listener import Listener, bind  # noqa: E402
from tests import daemon_under_test, fakes  # noqa: E402


async def main(path: Path) -> None:
    """Serve until standard input ends."""
    fakes.PEOPLE["root"] = Account("bench", 1000)
    rules = Rules(poll_interval=0, push_limit=10**9, interactive_services=frozenset())
    async with daemon_under_test.Bastion.running(rules) as bastion:
        accepting = asyncio.create_task(Listener(bastion.host, bind(path, socket.SOCK_SEQPACKET)).run())
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        accepting.cancel()


asyncio.run(main(Path(sys.argv[1])))
