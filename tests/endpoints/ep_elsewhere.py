"""What actors of other hosts do for the tests."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import trio

import tractor


async def pid() -> int:
    return os.getpid()


async def python() -> tuple[int, ...]:
    return sys.version_info[:2]


async def boom(text: str) -> None:
    raise ValueError(text)


async def leave(status: int) -> None:
    print("these are my last words", file=sys.stderr, flush=True)
    os._exit(status)


async def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


async def look_up(name: str) -> bool:
    async with tractor.find_actor(name) as portal:
        return portal is not None


async def call_peer(name: str) -> int:
    async with tractor.find_actor(name) as portal:
        assert isinstance(portal, tractor.Portal)
        return int(await portal.run(pid))


async def wait_for_peer(name: str) -> None:
    """A call to a peer that never ends by itself."""
    async with tractor.find_actor(name) as portal:
        assert isinstance(portal, tractor.Portal)
        await portal.run(sleep)


async def sleep() -> None:
    await trio.sleep_forever()


@tractor.context
async def echo(ctx: tractor.Context) -> str:
    await ctx.started(os.getpid())
    async with ctx.open_stream() as stream:
        async for item in stream:
            await stream.send(item)
    return "done"


@tractor.context
async def below(ctx: tractor.Context) -> None:
    """Have a subactor of its own."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("below", enable_modules=[__name__])
        await ctx.started([os.getpid(), await portal.run(pid)])
        await trio.sleep_forever()


async def shielded() -> None:
    """Does not go when it is asked."""
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


async def count(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


@tractor.context
async def chain(ctx: tractor.Context, urls: list[str], options: dict[str, Any]) -> None:
    """Have an actor on the first of these hosts, which has one on the next, and so on."""
    here = socket.gethostname()
    if not urls:
        await ctx.started([here])
        await trio.sleep_forever()
    async with (
        tractor.open_nursery() as an,
        tractor.hosts.open_host(urls[0], **options) as host,
    ):
        next_one = await an.start_actor("next", host=host, enable_modules=[__name__])
        async with next_one.open_context(chain, urls=urls[1:], options=options) as (_, names):
            await ctx.started([here, *names])
            await trio.sleep_forever()


@tractor.context
async def call_from(ctx: tractor.Context, url: str, options: dict[str, Any], name: str) -> int:
    """Have an actor of its own on that host call a peer."""
    await ctx.started()
    async with (
        tractor.open_nursery() as an,
        tractor.hosts.open_host(url, **options) as host,
    ):
        far = await an.start_actor("far", host=host, enable_modules=[__name__])
        found = await far.run(call_peer, name=name)
        await an.cancel()
    return found
