"""A proxy that forwards bytes between two actors and does to them, when told, what bad networks do.

It runs in the trio loop of whoever opens it, and knows nothing of frames.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tractor.address._types import UnwrappedAddress

__all__ = ["FaultProxy", "open_fault_proxy"]

CHUNK = 65_536
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""``struct linger`` with a time of 0: closing sends RST instead of FIN."""


class Link:
    """One connection through a proxy."""

    def __init__(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        self.delay = 0.0
        self._ends = {"client": client, "server": server}
        self._left = {"client": math.inf, "server": math.inf}
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Forward both ways until both ends have had enough, or one of them is gone."""
        try:
            with self._scope:
                async with trio.open_nursery() as tn:
                    tn.start_soon(self._pump, "client", "server")
                    tn.start_soon(self._pump, "server", "client")
        finally:
            for end in self._ends.values():
                end.socket.close()

    async def _pump(self, source: str, towards: str) -> None:
        try:
            while chunk := await self._ends[source].receive_some(CHUNK):
                if self.delay:
                    await trio.sleep(self.delay)
                await self._forward(chunk, towards)
            with contextlib.suppress(OSError):
                self._ends[towards].socket.shutdown(socket.SHUT_WR)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.reset()

    async def _forward(self, chunk: bytes, towards: str) -> None:
        left = self._left[towards]
        if left < 0:
            return  # half-closed: what comes is read, and lost
        if len(chunk) < left:
            self._left[towards] -= len(chunk)
            await self._ends[towards].send_all(chunk)
            return
        await self._ends[towards].send_all(chunk[: int(left)])
        self._scope.cancel()

    def half_close(self, towards: str) -> None:
        """One end reads the end of the stream, though the other one sends on, and reads on what is sent to it."""
        self._left[towards] = -1
        with contextlib.suppress(OSError):
            self._ends[towards].socket.shutdown(socket.SHUT_WR)

    def truncate(self, towards: str, size: int) -> None:
        """Close it in both directions after so many more bytes in one."""
        if size:
            self._left[towards] = size
        else:
            self._scope.cancel()

    def reset(self) -> None:
        """Close it with a reset (TCP), or at once (a Unix socket)."""
        for end in self._ends.values():
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._scope.cancel()


class FaultProxy:
    """Listens at one address and connects to another; its faults hit all connections that it has just now."""

    def __init__(self, addr: UnwrappedAddress, target: UnwrappedAddress) -> None:
        self.addr = addr
        self._target = target
        self._links: set[Link] = set()
        self._delay = 0.0

    @property
    def connections(self) -> int:
        """How many there are just now."""
        return len(self._links)

    def delay(self, seconds: float) -> None:
        """Hold each chunk of bytes up for so long, also in connections to come."""
        self._delay = seconds
        for link in self._links:
            link.delay = seconds

    def half_close(self, towards: str) -> None:
        """`Link.half_close`; *towards* the ``'client'`` or the ``'server'``."""
        for link in self._links:
            link.half_close(towards)

    def truncate(self, towards: str, size: int) -> None:
        """`Link.truncate`; *size* in bytes."""
        for link in self._links:
            link.truncate(towards, size)

    def reset(self) -> None:
        """`Link.reset`."""
        for link in self._links:
            link.reset()

    async def serve(self, listener: trio.socket.SocketType) -> None:
        """Accept connections, for ever."""
        async with trio.open_nursery() as tn:
            while True:
                sock, _ = await listener.accept()
                tn.start_soon(self._connected, trio.SocketStream(sock))

    async def _connected(self, client: trio.SocketStream) -> None:
        with client.socket:
            sock = _socket_for(self._target)
            with sock:
                try:
                    await sock.connect(_sockaddr(self._target))
                except OSError:
                    return
                link = Link(client, trio.SocketStream(sock))
                link.delay = self._delay
                self._links.add(link)
                try:
                    await link.run()
                finally:
                    self._links.remove(link)


def _is_tcp(addr: UnwrappedAddress) -> bool:
    return isinstance(addr[1], int)


def _sockaddr(addr: UnwrappedAddress) -> object:
    return addr if _is_tcp(addr) else os.path.join(*map(str, addr))


def _socket_for(addr: UnwrappedAddress) -> trio.socket.SocketType:
    return trio.socket.socket(socket.AF_INET if _is_tcp(addr) else socket.AF_UNIX)


@asynccontextmanager
async def open_fault_proxy(
    addr: UnwrappedAddress, target: UnwrappedAddress, tn: trio.Nursery
) -> AsyncIterator[FaultProxy]:
    """A proxy for the length of the block.

    Args:
        addr: where it listens; ``(host, port)`` or ``(directory, file name)``.
        target: where it connects to, for each connection to it.
        tn: hosts its tasks.

    Raises:
        OSError: it can't listen there.
    """
    proxy = FaultProxy(addr, target)
    scope = trio.CancelScope()
    ended = trio.Event()

    async def serve() -> None:
        try:
            with scope:
                await proxy.serve(listener)
        finally:
            ended.set()

    with _socket_for(addr) as listener:
        await listener.bind(_sockaddr(addr))
        try:
            listener.listen()
            tn.start_soon(serve)
            try:
                yield proxy
            finally:
                scope.cancel()
                with trio.CancelScope(shield=True):
                    await ended.wait()
        finally:
            if not _is_tcp(addr):
                os.unlink(str(_sockaddr(addr)))
