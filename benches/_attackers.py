"""What runs in the actors of the rows about security: attackers, and a switch for the key exchange."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio

import tractor
from tractor.ipc import Channel

HELLO = 6
"""Bytes of an actor's hello; its nonce follows."""

OPENING = HELLO + 32

TASKS = 8
"""Connections that one attacker has in the works at once."""


async def listens_on() -> list[Any]:
    """This actor's addresses, unwrapped."""
    return list(tractor.current_actor().accept_addrs)


async def server_counts() -> tuple[int, int]:
    """How many connections were refused so far, and how many have not shown who they are."""
    stats = tractor.current_actor().ipc_server.statistics()
    return stats.refused, stats.half_open


# -- attackers ----------------------------------------------------------------------------------------


async def _connect(host: str, port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    try:
        sock.connect((host, port))
    except BlockingIOError:
        await trio.lowlevel.wait_writable(sock)
    except BaseException:
        sock.close()
        raise
    return sock


@tractor.context
async def hold_half_open(ctx: tractor.Context, host: str, port: int, count: int) -> None:
    """So many connections that say nothing, until cancelled."""
    socks: list[socket.socket] = []

    async def connect(number: int) -> None:
        for _ in range(number):
            socks.append(await _connect(host, port))

    try:
        async with trio.open_nursery() as tn:
            for part in range(TASKS):
                tn.start_soon(connect, (count + part) // TASKS)
        await ctx.started(len(socks))
        await trio.sleep_forever()
    finally:
        for sock in socks:
            sock.close()


@tractor.context
async def storm(ctx: tractor.Context, host: str, port: int) -> None:
    """One wrong key after the other, as fast as it goes, until cancelled."""

    async def guess() -> None:
        while True:
            with await _connect(host, port) as sock:
                got = b""
                while len(got) < OPENING:
                    await trio.lowlevel.wait_readable(sock)
                    data = sock.recv(OPENING - len(got))
                    if not data:
                        break
                    got += data
                sock.send(got[:HELLO] + secrets.token_bytes(64))
                await trio.lowlevel.wait_readable(sock)

    await ctx.started()
    async with trio.open_nursery() as tn:
        for _ in range(TASKS):
            tn.start_soon(_for_ever, guess)


async def _for_ever(guess: Any) -> None:
    while True:
        try:
            await guess()
        except OSError:
            await trio.lowlevel.checkpoint()


# -- without the key exchange -----------------------------------------------------------------------------


@contextmanager
def without_key() -> Iterator[None]:
    """Connections made or accepted here prove no key over TCP; only to see what the proof costs."""
    module: Any = sys.modules[Channel.__module__]
    usual = module._machine

    def keyless(transport: Any, role: Any, key: bytes | None = None) -> Any:
        return module.Handshake(role, None, b"")

    module._machine = keyless
    try:
        yield
    finally:
        module._machine = usual


@tractor.context
async def accept_without_key(ctx: tractor.Context) -> None:
    """Let connections to this actor do without the key, until cancelled."""
    with without_key():
        await ctx.started()
        await trio.sleep_forever()


def own_aid() -> Any:
    """An identity for a connection made by hand."""
    aid = tractor.current_actor().aid
    return type(aid)("bench", os.urandom(16).hex(), os.getpid(), is_probe=True)
