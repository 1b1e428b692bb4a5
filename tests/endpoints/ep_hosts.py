"""What actors of other hosts do for the tests."""

from __future__ import annotations

from typing import Any

import tractor
from tractor.process._ancestry import ancestry, lineage
from tractor.process.host._host_id import host_id
from tractor.shm._array import attach_shm_ndarray

RAISES = (RuntimeError, tractor.TransportClosed)


async def own_host() -> str:
    return host_id()


async def look_up(name: str) -> str:
    """The host of an actor of that name, or why it can't be had."""
    try:
        async with tractor.find_actor(name) as portal:
            return "nobody" if portal is None else str(await portal.run(own_host))  # type: ignore[union-attr]
    except RAISES as exc:
        return f"{type(exc).__name__}: {exc}"


async def query(name: str) -> str:
    try:
        async with tractor.query_actor(name) as (addr, _):
            return "nobody" if addr is None else "found"
    except RAISES as exc:
        return f"{type(exc).__name__}: {exc}"


async def ask_root() -> str:
    try:
        async with tractor.discovery.get_root() as portal:
            return str(portal.chan.aid and portal.chan.aid.host)
    except RAISES as exc:
        return f"{type(exc).__name__}: {exc}"


async def registry_at(addr: Any) -> str:
    try:
        async with tractor.get_registry(tuple(addr)) as portal:
            return type(portal).__name__
    except RAISES as exc:
        return f"{type(exc).__name__}: {exc}"


async def attach(token: Any) -> str:
    try:
        attach_shm_ndarray(token).close()
    except RAISES as exc:
        return f"{type(exc).__name__}: {exc}"
    return "attached"


async def above() -> tuple[list[str], list[int]]:
    """The hosts of those above a child of this one, and the pids of those above it that are on its host."""
    return [one.host for one in lineage()], [one.pid for one in ancestry()]


async def above_of_a_child() -> tuple[list[str], list[int], str]:
    """As :func:`above`, of an actor below this one; and what that one finds of actors by name."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("grandchild", enable_modules=[__name__])
        hosts, pids = await portal.run(above)
        found = await portal.run(look_up, name="nobody's")
        await portal.cancel_actor()
    return list(hosts), list(pids), str(found)
