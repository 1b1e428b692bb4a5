"""Programs around lifespans: ``python ep_life_prog.py NAME ARGUMENT...``.

Each prints one line of JSON for what its test waits for.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import ep_life
import trio

import tractor


def say(value: Any) -> None:
    print(json.dumps(value), flush=True)


def address(text: str) -> Any:
    first, _, second = text.rpartition("|")
    return first, int(second) if second.isdigit() else second


@asynccontextmanager
async def of_the_script() -> AsyncIterator[str]:
    ep_life.note("open")
    yield "state of a script"
    ep_life.note("closed")


async def hold(method: str) -> None:
    """One actor with a lifespan of this script's, until this is killed."""
    async with tractor.open_nursery(start_method=method) as an:
        portal = await an.start_actor("db", enable_modules=["ep_life"], lifespan=of_the_script)
        assert await portal.run(ep_life.state) == "state of a script"
        say(await portal.run(ep_life.pid))
        await trio.sleep_forever()


async def body(kind: str) -> None:
    """Beside the serving of a daemon."""
    actor = tractor.current_actor()
    # There is a state, whatever it is.
    tractor.actor_state()
    ep_life.note("body")
    try:
        say(actor.accept_addrs)
        if kind == "raises":
            raise LookupError("the body has failed")
        if kind == "background":
            await ep_life.fail_in_background()
        if kind != "returns":
            await trio.sleep_forever()
    finally:
        ep_life.note("body ends")


def daemon(registry: str, kind: str, drain: str, lifespan: str) -> None:
    tractor.run_daemon(
        ["ep_life"],
        name="the_daemon",
        registry_addrs=[address(registry)],
        main=partial(body, kind),
        lifespan=lifespan,
        drain=float(drain),
    )


if __name__ == "__main__":
    if sys.argv[1] == "daemon":
        daemon(*sys.argv[2:])
    else:
        chosen: dict[str, Callable[..., Any]] = {"hold": hold}
        trio.run(partial(chosen[sys.argv[1]], *sys.argv[2:]))
