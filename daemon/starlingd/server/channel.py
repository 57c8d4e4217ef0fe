"""One connection to a module, packet by packet, on the event loop.

It notices the peer's end even while nobody reads, because a login whose peer is gone must end at once. It must never
block, and never hand on a packet that breaks the rules of the wire.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING

from pam_starling import protocol
from starlingd.core.steps import HungUp, Interrupted, Misbehaved

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

Packet = tuple[str, dict[str, str]]

MOST_UNREAD = 2
"""Packets a peer may send ahead; the daemon drives, so there is never more than one to expect."""


class Channel:
    """A connected SOCK_SEQPACKET socket. ``on_end`` is called once, when the peer ends while nobody receives."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, on_end: Callable[[Interrupted], None]
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._on_end = on_end
        self._packets: deque[Packet] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._ended: Interrupted | None = None
        sock.setblocking(False)
        loop.add_reader(sock, self._readable)

    def send(self, op: str, fields: Mapping[str, str] | None = None) -> bool:
        """Send one packet; False when the peer is gone or does not read. Raises ProtocolError when it cannot fit."""
        packet = protocol.encode(op, dict(fields or {}))
        try:
            self._sock.send(packet, socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True

    async def receive(self) -> Packet:
        """Wait for the next packet. Raises HungUp or Misbehaved when there is none to come."""
        while not self._packets:
            if self._ended:
                raise self._ended
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._packets.popleft()

    def close(self) -> None:
        """End the connection; what was sent still reaches the peer."""
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _readable(self) -> None:
        try:
            data, _, flags, _ = self._sock.recvmsg(protocol.MAX_PACKET)
            if not data:
                self._end(HungUp())
            elif flags & socket.MSG_TRUNC or len(self._packets) >= MOST_UNREAD:
                self._end(Misbehaved())
            else:
                self._packets.append(protocol.decode(data))
                self._wake()
        except BlockingIOError:
            return
        except OSError:
            self._end(HungUp())
        except protocol.ProtocolError:
            self._end(Misbehaved())

    def _end(self, why: Interrupted) -> None:
        self._loop.remove_reader(self._sock)
        self._ended = why
        if self._waiter is None or self._waiter.done():
            self._on_end(why)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
