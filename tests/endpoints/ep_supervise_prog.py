"""Programs that the tests run as a user would: ``python ep_supervise_prog.py NAME ARGUMENT...``.

Each prints one line of JSON for what its test waits for.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import trio

import tractor
from tractor import (
    open_nursery as open_nursery,
)  # loaded now: an interrupt is to hit the runtime, not an import

SET_BY_THE_SCRIPT = "of the script"


def say(value: Any) -> None:
    print(json.dumps(value), flush=True)


def address(text: str) -> Any:
    first, _, second = text.rpartition("|")
    return first, int(second) if second.isdigit() else second


async def here() -> str:
    """An endpoint of the script itself."""
    return f"{SET_BY_THE_SCRIPT}, pid {threading.get_native_id()}"


async def tree(depth: str = "2", width: str = "2", worst: str = "", marker: str = "") -> None:
    """Hold a tree until killed; print every pid once all are there."""
    import ep_supervise

    say("booting")
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("top", enable_modules=["ep_supervise"])
        say("one")
        async with portal.open_context(
            ep_supervise.hold_tree, depth=int(depth), width=int(width), worst=worst, marker=marker
        ) as (_, pids):
            say(pids)
            await trio.sleep_forever()


async def root(registry: str, *options: str) -> None:
    """Boot a root and tell what became of it; `hold` keeps it until stdin or a signal ends it."""
    async with AsyncExitStack() as stack:
        try:
            actor = await stack.enter_async_context(
                tractor.open_root_actor(
                    name=f"prog_{os.getpid()}",
                    registry_addrs=[address(registry)],
                    ensure_registry="ensure" in options,
                    enable_modules=["ep_supervise"],
                )
            )
        except Exception as exc:
            say({"error": type(exc).__name__, "text": str(exc)})
            return
        say(
            {
                "registrar": actor.is_registrar,
                "uid": actor.aid.uid,
                "accept": actor.accept_addrs,
                "reg": actor.reg_addrs,
            }
        )
        if "hold" in options:
            await trio.sleep_forever()


async def script_endpoints(inherit: str) -> None:
    """Start a child with or without this script's main, and have it tell what it got."""
    import ep_supervise

    async with tractor.open_nursery() as an:
        portal = await an.start_actor(
            "child",
            enable_modules=["ep_supervise", *(["__main__"] if inherit == "yes" else [])],
            inherit_parent_main=inherit == "yes",
        )
        say(await portal.run(ep_supervise.main_module_names))
        if inherit == "yes":
            say(await portal.run(here))
        await portal.cancel_actor()


async def one_shot_of_script() -> None:
    async with tractor.open_nursery() as an:
        portal = await an.run_in_actor(here)
        say(await portal.wait_for_result())


async def start_for_ever() -> None:
    """Boot and end children as fast as it goes, the ends overlapping with the next boots."""
    say("booting")
    async with tractor.open_nursery() as an:
        while True:
            portal = await an.start_actor("brief")
            await portal.cancel_actor()


PROGRAMS: dict[str, Callable[..., Awaitable[None]]] = {
    "tree": tree,
    "root": root,
    "script_endpoints": script_endpoints,
    "one_shot_of_script": one_shot_of_script,
    "start_for_ever": start_for_ever,
}

if __name__ == "__main__":
    if sys.argv[1] == "daemon":
        say("running")
        tractor.run_daemon(
            sys.argv[3:], name="the_daemon", registry_addrs=[address(sys.argv[2])], loglevel="error"
        )
    else:
        trio.run(PROGRAMS[sys.argv[1]], *sys.argv[2:])
