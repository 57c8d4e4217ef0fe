"""Accepts modules on the PAM socket: who may speak, and how many at a time.

The kernel says who is calling, through one gate (SO_PEERCRED); only uid 0 may speak PAM operations. At capacity the
daemon refuses, so that a flood of connections costs memory that was planned for and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from typing import TYPE_CHECKING

from pam_starling import protocol
from starlingd.core.model import Reason
from starlingd.server.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from starlingd.server.host import Host

MOST_SESSIONS = 4096
"""Connections served at a time (the admission limit)."""
BACKLOG = 4096
PAUSE_AFTER_ERROR = 0.1
"""Seconds to wait when accept fails, for instance because no file descriptor is left."""

log = logging.getLogger("starlingd.listener")
_CREDENTIALS = struct.Struct("3i")


def bind(path: Path, kind: socket.SocketKind) -> socket.socket:
    """Make a Unix socket at ``path``, for running without systemd; replaces one that an earlier run left."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Tell the pid and uid of the process that connected, as the kernel knows them."""
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


class Listener:
    """Accepts connections for ``host`` until it is cancelled."""

    def __init__(self, host: Host, sock: socket.socket) -> None:
        self._host = host
        self._sock = sock
        self._sessions: dict[asyncio.Task[None], Session] = {}
        sock.setblocking(False)

    @property
    def waiting(self) -> int:
        """How many connections are being served."""
        return len(self._sessions)

    async def run(self) -> None:
        """Accept for ever."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self._sock)
            except OSError as error:
                log.warning("accept failed: %s", error.strerror)
                await asyncio.sleep(PAUSE_AFTER_ERROR)
                continue
            self._admit(sock)

    async def end_sessions(self, within: float) -> None:
        """End every login that is waiting; return when all have ended or ``within`` seconds have passed."""
        for session in self._sessions.values():
            session.stop()
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=within)

    def _admit(self, sock: socket.socket) -> None:
        pid, uid = peer_of(sock)
        if uid != 0 or pid <= 0:  # pid 0: a process of another pid namespace, whom no record can name
            log.warning("refused: process %d of uid %d spoke on the PAM socket", pid, uid)
            turn_away(sock, Reason.PROTOCOL_ERROR)
        elif len(self._sessions) >= MOST_SESSIONS:
            log.warning("refused: %d logins are waiting, the admission limit", len(self._sessions))
            turn_away(sock, Reason.BUSY)
        else:
            session = Session(self._host, sock, pid)
            task = asyncio.get_running_loop().create_task(session.serve())
            self._sessions[task] = session
            task.add_done_callback(self._sessions.pop)


def turn_away(sock: socket.socket, reason: Reason) -> None:
    """Say why and hang up, without waiting for anybody."""
    sock.setblocking(False)
    try:
        sock.send(protocol.encode("error", {"reason": str(reason)}), socket.MSG_NOSIGNAL)
    except OSError:
        pass
    finally:
        sock.close()
