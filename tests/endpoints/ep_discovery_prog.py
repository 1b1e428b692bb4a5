"""Programs for the tests of discovery: ``python ep_discovery_prog.py NAME ARGUMENT...``.

Each prints one line of JSON when it is up.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import ep_discovery
import trio

import tractor


def say(value: Any) -> None:
    print(json.dumps(value), flush=True)


def address(text: str) -> Any:
    first, _, second = text.rpartition("|")
    return first, int(second) if second.isdigit() else second


async def registrar(name: str, addr: str) -> None:
    """Be the registrar at an address until a signal comes."""
    async with tractor.open_root_actor(
        name=name,
        registry_addrs=[address(addr)],
        ensure_registry=True,
        enable_modules=["ep_discovery"],
    ) as actor:
        say(actor.aid.uid)
        await trio.sleep_forever()


async def family(name: str, *addrs: str) -> None:
    """Be a plain root with one subactor, both known to every registrar, until a signal comes."""
    async with tractor.open_nursery(
        name=name, registry_addrs=[address(a) for a in addrs], enable_modules=["ep_discovery"]
    ) as an:
        portal = await an.start_actor(f"child_of_{name}", enable_modules=["ep_discovery"])
        say([tractor.current_actor().aid.uid, await portal.run(ep_discovery.uid)])
        await trio.sleep_forever()


PROGRAMS: dict[str, Any] = {"registrar": registrar, "family": family}

if __name__ == "__main__":
    trio.run(PROGRAMS[sys.argv[1]], *sys.argv[2:])
