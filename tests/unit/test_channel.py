"""A channel hands on good packets and turns everything else into one end of the connection."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from pam_starling.protocol import MAX_PACKET, encode
from starlingd.core.steps import HungUp, Interrupted, Misbehaved
from starlingd.server.channel import Channel

Ends = asyncio.Queue[Interrupted]
Test = Callable[[Channel, socket.socket, Ends], Awaitable[None]]


def with_channel(test: Test) -> None:
    """Run ``test(channel, peer, ends)`` over a real SEQPACKET pair; ``ends`` collects what ``on_end`` was told."""

    async def run() -> None:
        ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ends: Ends = asyncio.Queue()
        channel = Channel(asyncio.get_running_loop(), ours, ends.put_nowait)
        with peer:
            async with asyncio.timeout(5):
                await test(channel, peer, ends)
            channel.close()

    asyncio.run(run())


def test_packets_are_handed_on_in_order() -> None:
    async def test(channel: Channel, peer: socket.socket, _: Ends) -> None:
        peer.send(encode("account", {"user": "a"}))
        peer.send(encode("answer", {"text": ""}))
        assert await channel.receive() == ("account", {"user": "a"})
        assert await channel.receive() == ("answer", {"text": ""})

    with_channel(test)


def test_a_peer_that_goes_while_we_wait_for_it_is_a_hang_up() -> None:
    async def test(channel: Channel, peer: socket.socket, ends: Ends) -> None:
        asyncio.get_running_loop().call_soon(peer.close)
        with pytest.raises(HungUp):
            await channel.receive()
        assert ends.empty()

    with_channel(test)


def test_a_peer_that_goes_while_nobody_waits_is_noticed_at_once() -> None:
    async def test(channel: Channel, peer: socket.socket, ends: Ends) -> None:
        peer.close()
        assert isinstance(await ends.get(), HungUp)
        with pytest.raises(HungUp):
            await channel.receive()

    with_channel(test)


@pytest.mark.parametrize("packet", [b"\xff\xfe", b"no field", b"op=a\0op=b", b"op=", b"x=" + b"y" * MAX_PACKET])
def test_a_packet_that_breaks_the_rules_ends_the_connection(packet: bytes) -> None:
    async def test(channel: Channel, peer: socket.socket, _: Ends) -> None:
        peer.send(packet)
        with pytest.raises(Misbehaved):
            await channel.receive()

    with_channel(test)


def test_a_peer_that_sends_ahead_is_cut_off() -> None:
    async def test(_: Channel, peer: socket.socket, ends: Ends) -> None:
        for _count in range(3):
            peer.send(encode("answer", {"text": "1"}))
        assert isinstance(await ends.get(), Misbehaved)

    with_channel(test)


def test_sending_to_a_peer_that_is_gone_says_so() -> None:
    async def test(channel: Channel, peer: socket.socket, _: Ends) -> None:
        peer.close()
        assert channel.send("hello", {"v": "1"}) is False

    with_channel(test)
