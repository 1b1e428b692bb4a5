"""Rings between actors that have inherited nothing from each other.

One actor named ``'ringd'``, with this module enabled, owns the rings::

    await an.start_actor('ringd', enable_modules=['tractor.ipc.fd_share'])

Every other actor of the tree opens a ring of it by name, and gets descriptors of its own over a Unix socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager

import trio

from tractor._errors import TransportClosed
from tractor.discovery._lookup import find_actor
from tractor.process._state import of_process
from tractor.process.host._host_id import host_id, is_here
from tractor.runtime._portal import Portal
from tractor.runtime.dialog._context import Context
from tractor.runtime.dialog._endpoints import context
from tractor.shm.ring import _stream
from tractor.shm.ring._eventfd import require_linux
from tractor.shm.ring._fd_passing import recv_fds, send_fds
from tractor.shm.ring._stream import DEFAULT_SIZE, RBToken
from tractor.transport._sockio import connect_socket
from tractor.transport._uds import check_peer_uid
from tractor.trionics._ki import ki_protected_manager

__all__ = ["RINGD", "open_ringbuf"]

RINGD = "ringd"
"""The name of the actor that owns the rings."""


@ki_protected_manager
async def open_ringbuf(name: str, buf_size: int = DEFAULT_SIZE) -> AsyncIterator[RBToken]:
    """The ring of that name, for the length of the block; ``'ringd'`` makes it for the first who opens it.

    It lasts as long as some actor has it open so, and is then gone; a block that is cancelled, or an actor that dies,
    has left it.  Ends that are open then stay usable.

    Args:
        name: of the ring, the key of its shared memory.
        buf_size: bytes; the same for all who open it.

    Yields:
        A token with descriptors of this process, which are closed at the end of the block.

    Raises:
        NotImplementedError: this is not Linux.
        RuntimeError: there is no actor ``'ringd'``, or it does not answer within 3 s (RuntimeFailure); or it is on
            another host.
        RemoteActorError: it could not make the ring; boxes FileExistsError (shared memory of that name that is not a
            ring of its), ValueError (another ``buf_size``, or not possible), OSError.
        TransportClosed: it was lost, also while the block runs.
        OSError: the descriptors did not come.
    """
    require_linux("rings")
    if sys.platform == "win32":
        raise NotImplementedError
    async with find_actor(RINGD) as portal:
        if not isinstance(portal, Portal):
            raise RuntimeError(
                f"there is no actor {RINGD!r} that owns rings: start one with "
                f"`an.start_actor({RINGD!r}, enable_modules=[{__name__!r}])`"
            )
        owner = portal.chan.aid
        if owner is not None and not is_here(owner.host):
            raise RuntimeError(
                f"{owner.reprol()} is on host {owner.host}, and this actor on {host_id()}: descriptors are passed "
                f"within one host and pid namespace; start an actor {RINGD!r} on this one"
            )
        async with portal.open_context(_share_ring, name=name, buf_size=buf_size) as (ctx, place):
            sock = await connect_socket(socket.AF_UNIX, f"\0{place}")
            with sock:
                check_peer_uid(sock)
                _, fds = await recv_fds(sock, 1, 2)
            try:
                yield RBToken(name, fds[0], fds[1], buf_size)
            finally:
                for fd in fds:
                    os.close(fd)
                with trio.CancelScope(shield=True):
                    await ctx.cancel()


class _Held:
    """A ring, and how many have it open."""

    def __init__(self, name: str, buf_size: int) -> None:
        self.users = 0
        self.stack = ExitStack()
        self.token = self.stack.enter_context(_stream.open_ringbuf(name, buf_size))


_held: dict[str, _Held] = of_process({})


@contextmanager
def _hold(name: str, buf_size: int) -> Iterator[RBToken]:
    """The ring of that name, made for its first user and removed with its last."""
    held = _held.get(name)
    if held is None:
        held = _held[name] = _Held(name, buf_size)
    if held.token.buf_size != buf_size:
        raise ValueError(f"the ring {name!r} has {held.token.buf_size} bytes, not {buf_size}")
    held.users += 1
    try:
        yield held.token
    finally:
        held.users -= 1
        if not held.users:
            del _held[name]
            held.stack.close()


@context
async def _share_ring(ctx: Context, name: str, buf_size: int) -> None:
    """Hand a ring's descriptors to the opener, and hold the ring until it leaves."""
    if sys.platform == "win32":
        raise NotImplementedError
    with _hold(name, buf_size) as token:
        # Of Linux's abstract namespace: there is no file that a death at this point could leave.
        place = f"tractor-ring-{os.urandom(16).hex()}"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.setblocking(False)
            listener.bind(f"\0{place}")
            listener.listen(1)
            await ctx.started(place)
            await _hand_over(listener, token)
        await trio.sleep_forever()


async def _hand_over(listener: socket.socket, token: RBToken) -> None:
    """Send the descriptors to the first who connects and is the own user; there are no files to keep others out."""
    while True:
        await trio.lowlevel.wait_readable(listener)
        try:
            sock = listener.accept()[0]
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            continue
        with sock, contextlib.suppress(TransportClosed):
            sock.setblocking(False)
            check_peer_uid(sock)
            await send_fds(sock, b"R", token.fds)
            return
