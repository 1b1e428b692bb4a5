"""The proxy of the chaos suite does to a connection what it is told, and nothing else."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tractor.address._types import UnwrappedAddress
from tractor.testing import get_rando_addr

sys.path.insert(0, str(Path(__file__).parent))

from fault_proxy import FaultProxy, open_fault_proxy

Test = Callable[[FaultProxy, trio.SocketStream, trio.SocketStream], Awaitable[None]]


def sockaddr(addr: UnwrappedAddress) -> object:
    return addr if isinstance(addr[1], int) else "/".join(map(str, addr))


@asynccontextmanager
async def connected(
    tpt: str,
) -> AsyncIterator[tuple[FaultProxy, trio.SocketStream, trio.SocketStream]]:
    """A proxy, and the client's and the server's end of a connection through it."""
    target, addr = get_rando_addr(tpt), get_rando_addr(tpt)
    family = socket.AF_INET if tpt == "tcp" else socket.AF_UNIX
    with trio.socket.socket(family) as listener, trio.socket.socket(family) as client:
        await listener.bind(sockaddr(target))
        listener.listen()
        with trio.fail_after(10):
            async with trio.open_nursery() as tn, open_fault_proxy(addr, target, tn) as proxy:
                await client.connect(sockaddr(addr))
                server, _ = await listener.accept()
                ends = trio.SocketStream(client), trio.SocketStream(server)
                with server:
                    # A connection is the proxy's once something has come through.
                    await ends[0].send_all(b"!")
                    assert await ends[1].receive_some(1) == b"!"
                    yield proxy, *ends
        if tpt == "uds":
            Path(str(sockaddr(target))).unlink()


def in_connection(test: Test) -> Callable[[str], None]:
    """A test that gets a proxy and both ends, once for each transport."""

    def runs(tpt_proto: str) -> None:
        async def main() -> None:
            async with connected(tpt_proto) as (proxy, client, server):
                await test(proxy, client, server)

        trio.run(main)

    return runs


async def read(stream: trio.SocketStream, size: int) -> bytes:
    """So many bytes, or what there is before the end."""
    got = b""
    while len(got) < size and (chunk := await stream.receive_some(size - len(got))):
        got += chunk
    return got


@in_connection
async def test_forwards_both_ways(
    proxy: FaultProxy, client: trio.SocketStream, server: trio.SocketStream
) -> None:
    data = bytes(range(256)) * 1000
    async with trio.open_nursery() as tn:
        tn.start_soon(client.send_all, data)
        assert await read(server, len(data)) == data
    await server.send_all(b"back")
    assert await read(client, 4) == b"back"
    # The end of one direction is forwarded, and leaves the other open.
    await client.send_eof()
    assert await server.receive_some() == b""
    await server.send_all(b"more")
    assert await read(client, 4) == b"more"
    assert proxy.connections == 1


@in_connection
async def test_delays(
    proxy: FaultProxy, client: trio.SocketStream, server: trio.SocketStream
) -> None:
    proxy.delay(0.05)
    began = trio.current_time()
    await client.send_all(b"late")
    assert await read(server, 4) == b"late"
    assert trio.current_time() - began >= 0.05


@in_connection
async def test_half_closes(
    proxy: FaultProxy, client: trio.SocketStream, server: trio.SocketStream
) -> None:
    proxy.half_close("client")
    assert await client.receive_some() == b""
    await server.send_all(b"lost")
    await client.send_all(b"still read")
    assert await read(server, 10) == b"still read"


@in_connection
async def test_truncates(
    proxy: FaultProxy, client: trio.SocketStream, server: trio.SocketStream
) -> None:
    proxy.truncate("server", 3)
    await client.send_all(b"abcdef")
    assert await read(server, 6) == b"abc"
    assert await at_end(client)


@in_connection
async def test_resets(
    proxy: FaultProxy, client: trio.SocketStream, server: trio.SocketStream
) -> None:
    await client.send_all(b"x")
    assert await read(server, 1) == b"x"
    proxy.reset()
    assert await at_end(client)
    assert await at_end(server)
    assert proxy.connections == 0


async def at_end(stream: trio.SocketStream) -> bool:
    """Whether the next that is read is the end, clean or not."""
    try:
        return await stream.receive_some() == b""
    except trio.BrokenResourceError:
        return True


@pytest.mark.parametrize("tpt", ["tcp", "uds"])
def test_closes_what_can_be_connected_nowhere(tpt: str) -> None:
    async def main() -> None:
        addr = get_rando_addr(tpt)
        family = socket.AF_INET if tpt == "tcp" else socket.AF_UNIX
        with trio.fail_after(10), trio.socket.socket(family) as client:
            async with trio.open_nursery() as tn, open_fault_proxy(addr, get_rando_addr(tpt), tn):
                await client.connect(sockaddr(addr))
                assert await at_end(trio.SocketStream(client))

    trio.run(main)
