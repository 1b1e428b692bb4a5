"""Starting a peer for a test of the runtime, and two things that endpoints of such tests share.

Imported by the tests and by the actors that they start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

import tractor

LIMIT = 20.0
"""Seconds after which a test that hangs is failed by its own clock."""


def run(main: Callable[[], Awaitable[Any]], limit: float = LIMIT) -> Any:
    """Run a test's main task under a time limit that fails the test and never decides it."""

    async def bounded() -> Any:
        with trio.fail_after(limit):
            return await main()

    return trio.run(bounded)


@asynccontextmanager
async def open_peer(
    proto: str | None = None,
    *modules: str,
    name: str = "peer",
    **root_kwargs: Any,
) -> AsyncIterator[tractor.Portal]:
    """A root with one daemon that has ``modules`` enabled; both are gone afterwards."""
    if proto is not None:
        root_kwargs["enable_transports"] = [proto]
    async with tractor.open_nursery(**root_kwargs) as an:
        portal = await an.start_actor(name, enable_modules=list(modules))
        yield portal
        await portal.cancel_actor()


def own_uid() -> tuple[str, str]:
    """The uid of the actor that this runs in."""
    return tractor.current_actor().aid.uid


def peer_uid(portal: tractor.Portal) -> tuple[str, str]:
    """The uid of the actor that a portal leads to."""
    assert portal.chan.aid is not None
    return portal.chan.aid.uid
