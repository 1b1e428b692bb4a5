"""Endpoints of the tests of the 'subint' backend."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trio

import tractor


async def where() -> dict[str, Any]:
    """Where this actor runs."""
    import _interpreters

    return {
        "pid": os.getpid(),
        "interpreter": _interpreters.get_current()[0],
        "thread": threading.get_native_id(),
        "in_main_thread": threading.current_thread() is threading.main_thread(),
        "argv": sys.argv,
        "loglevel": tractor.current_actor().loglevel,
        "vars": tractor.get_runtime_vars(),
        "addrs": tractor.current_actor().accept_addrs,
    }


async def crash() -> None:
    """Raise."""
    raise ValueError("from another interpreter")


async def count(upto: int) -> AsyncIterator[int]:
    """A generator."""
    for number in range(upto):
        yield number


@tractor.context
async def echo(ctx: tractor.Context) -> str:
    """Send everything back."""
    await ctx.started("ready")
    async with ctx.open_stream() as stream:
        async for value in stream:
            await stream.send(value)
    return "done"


@tractor.context
async def wait_for_cancel(ctx: tractor.Context) -> None:
    """Wait for ever."""
    await ctx.started()
    await trio.sleep_forever()


@tractor.context
async def sleep_in_c(ctx: tractor.Context) -> None:
    """Block the loop in a C function that releases the GIL, until told to end."""
    await ctx.started()
    # What was said is on its way before nothing can be said any more.
    await trio.sleep(0.1)
    Path(os.environ["EP_SUBINT_STOP"] + ".on").touch()
    while not os.path.exists(os.environ["EP_SUBINT_STOP"]):
        time.sleep(0.01)


@tractor.context
async def spin(ctx: tractor.Context) -> None:
    """Block the loop in Python code, until told to end."""
    await ctx.started()
    # What was said is on its way before nothing can be said any more.
    await trio.sleep(0.1)
    Path(os.environ["EP_SUBINT_STOP"] + ".on").touch()
    while not os.path.exists(os.environ["EP_SUBINT_STOP"]):
        pass


async def in_a_thread() -> int:
    """Use a worker thread."""
    return await trio.to_thread.run_sync(threading.get_native_id)


async def leave_a_thread() -> None:
    """Leave a daemon thread behind, until told to end."""

    def run() -> None:
        while not os.path.exists(os.environ["EP_SUBINT_STOP"]):
            time.sleep(0.01)

    threading.Thread(target=run, name="left behind", daemon=True).start()


async def leave_an_atexit(path: str) -> None:
    """Have a file written at the interpreter's end."""
    import atexit

    atexit.register(Path(path).write_text, "ran")


async def nest(depth: int, method: str | None = None) -> list[dict[str, Any]]:
    """Start a subactor of the subactor, and so on."""
    if method is not None:
        tractor.spawn.try_set_start_method(method)
    here = await where()
    if not depth:
        return [here]
    async with tractor.open_nursery() as an:
        portal = await an.start_actor(f"below{depth}", enable_modules=[__name__])
        below: list[dict[str, Any]] = await portal.run(nest, depth=depth - 1)
        await portal.cancel_actor()
    return [here, *below]


async def select(method: str) -> None:
    """Choose the backend for the subactors of this actor."""
    tractor.spawn.try_set_start_method(method)


async def keep_a_stuck_one() -> None:
    """Have a subactor of one's own that is stuck when this actor is cancelled."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("stuck", enable_modules=[__name__])
        async with portal.open_context(spin) as (_, _):
            await trio.sleep_forever()


async def fork_out() -> None:
    """Have a subactor below, and one below that, until cancelled."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("branch", enable_modules=[__name__])
        await portal.run(have_a_leaf)


async def have_a_leaf() -> None:
    """Have a subactor until cancelled."""
    async with tractor.open_nursery() as an:
        await an.start_actor("leaf", enable_modules=[__name__])
        await trio.sleep_forever()
