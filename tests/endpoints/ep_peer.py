"""Starting a peer for a test of the runtime, and what endpoints of such tests share.

Imported by the tests and by the actors that they start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing
from ep_run import run as run

import tractor

Uid = tuple[str, str]


@asynccontextmanager
async def open_peer(
    *modules: str, reg_addr: Any = None, name: str = "peer", **root_kwargs: Any
) -> AsyncIterator[tractor.Portal]:
    """A root with one daemon that has ``modules`` enabled; both are gone afterwards.

    The transport is that of ``reg_addr``; without one it is UDS in the test session's directory.
    """
    if reg_addr is not None:
        root_kwargs["registry_addrs"] = [reg_addr]
    async with tractor.open_nursery(**root_kwargs) as an:
        portal = await an.start_actor(name, enable_modules=[__name__, *modules])
        yield portal
        await portal.cancel_actor()


class Notes(dict[str, Any]):
    """What endpoints leave for others to see, who can wait for it without keeping the actor busy."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting = trio.lowlevel.ParkingLot()

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._waiting.unpark_all()

    async def wait_for(self, key: str) -> Any:
        """What is under that key, as soon as it is there."""
        while key not in self:
            await self._waiting.park()
        return self[key]


def own_uid() -> Uid:
    """The uid of the actor that this runs in."""
    return tractor.current_actor().aid.uid


def peer_uid(portal: tractor.Portal) -> Uid:
    """The uid of the actor that a portal leads to."""
    assert portal.chan.aid is not None
    return portal.chan.aid.uid


async def settle() -> None:
    """Return when every other task of the actor that runs this is blocked."""
    await trio.testing.wait_all_tasks_blocked()


async def ping() -> str:
    """Show that an actor lives and serves."""
    return "pong"


async def address() -> list[Any]:
    """Where the actor listens."""
    return list(tractor.current_actor().accept_addr)
