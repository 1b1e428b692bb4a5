"""Endpoints of the tests about addresses and the choice among them."""

from __future__ import annotations

from typing import Any

import tractor
from tractor.discovery import wrap_address


async def listens_on() -> list[tuple[str, Any]]:
    """The addresses of the actor that this runs in."""
    return list(tractor.current_actor().accept_addrs)


async def parent_road() -> str:
    """The transport of the channel to the parent."""
    parent = tractor.current_actor().parent_chan
    assert parent is not None
    return parent.raddr.proto_key


async def road_to(name: str, only: list[str] | None = None) -> Any:
    """The transport and the address by which a look-up in this actor reaches another."""
    async with tractor.find_actor(name, enable_transports=only) as portal:
        if portal is None:
            return None
        assert isinstance(portal, tractor.Portal)
        addr: Any = portal.chan.raddr.unwrap()
        return portal.chan.raddr.proto_key, addr


async def best_at(registry: tuple[str, Any], name: str) -> str:
    """The transport of the best address of an actor, by the word of the registrar at an address."""
    host, second = registry
    async with tractor.query_actor(name, (host, second)) as (addr, _):
        return wrap_address(addr).proto_key


async def road_to_root() -> str:
    """The transport by which this actor reaches the root."""
    async with tractor.discovery.get_root() as portal:
        return portal.chan.raddr.proto_key


async def roads_below(name: str, transports: list[str]) -> list[str]:
    """Start a child of this actor; the transports on which it listens, then that of its parent channel."""
    async with tractor.open_nursery() as an:
        child = await an.start_actor(name, enable_modules=[__name__], enable_transports=transports)
        keys = [wrap_address(addr).proto_key for addr in await child.run(listens_on)]
        keys.append(await child.run(parent_road))
        await an.cancel()
    return keys


async def nothing() -> None:
    """Take a message and answer."""
