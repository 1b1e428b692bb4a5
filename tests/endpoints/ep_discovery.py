"""Endpoints for the tests of discovery."""

from __future__ import annotations

import os
import signal
from typing import Any

import trio

import tractor
from tractor.discovery import get_root


async def uid() -> list[str]:
    return list(tractor.current_actor().aid.uid)


async def die(how: str) -> None:
    """End this process in one of the ways in which processes end."""
    if how == "os._exit":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, how))
    await trio.sleep_forever()


async def fail() -> None:
    raise ValueError("on purpose")


async def look_up(name: str, registry_addrs: list[Any] | None = None) -> Any:
    """Find an actor by name; its uid as itself tells, or ``None``."""
    async with tractor.find_actor(name, registry_addrs=registry_addrs) as portal:
        return None if portal is None else await portal.run(uid)  # type: ignore[union-attr]


async def wait_for(name: str, timeout: float | None = None) -> Any:
    async with tractor.wait_for_actor(name, timeout=timeout) as portal:
        return await portal.run(uid)


async def root_over(proto: str) -> list[Any]:
    """The uid of the root, and whether the channel was this block's own."""
    async with get_root() as portal:
        assert portal.chan.connected()
        told = [list(await portal.run(uid)), portal.chan.raddr.proto_key == proto]
    return [*told, portal.chan.connected()]


async def own_table(addr: Any) -> dict[str, list[Any]]:
    """The table of the registrar at an address."""
    async with tractor.get_registry(tuple(addr)) as registrar:
        found: dict[str, list[Any]] = await registrar.run_from_ns("self", "get_registry")
        return found


async def set_reg_addrs(addrs: list[Any]) -> None:
    tractor.current_actor().reg_addrs = [tuple(a) for a in addrs]
