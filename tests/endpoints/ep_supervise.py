"""Endpoints for the tests of supervision, boot and discovery."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import trio

import tractor


def runtime_vars() -> dict[str, Any]:
    """The runtime vars of the actor that this runs in, as a dict."""
    found = tractor.get_runtime_vars()
    assert isinstance(found, dict)
    return found


async def uid() -> Any:
    return tractor.current_actor().aid.uid


def place() -> int:
    """What tells from outside whether this actor runs: its pid, or in a sub-interpreter its thread's id."""
    return threading.get_native_id()


async def pid() -> int:
    return place()


async def add(one: int, two: int = 10) -> int:
    return one + two


async def describe() -> dict[str, Any]:
    """What an actor says of itself, in plain values."""
    actor = tractor.current_actor()
    return {
        "name": actor.name,
        "pid": actor.pid,
        "is_root": actor.is_root,
        "is_root_process": tractor.is_root_process(),
        "is_registrar": actor.is_registrar,
        "infected": actor.is_infected_aio(),
        "modules": actor.enable_modules,
        "loglevel": actor.loglevel,
        "accept_addrs": actor.accept_addrs,
        "reg_addrs": actor.reg_addrs,
        "vars": {
            key: value
            for key, value in runtime_vars().items()
            if key in ("_is_root", "_enable_tpts", "_root_addrs", "_debug_mode", "_max_frame_size")
        },
        "environ": os.environ.get("EP_SUPERVISE"),
    }


async def fail(message: str = "boom") -> None:
    raise ValueError(message)


async def sleep_for_ever(marker: str | None = None) -> None:
    _touch(marker)
    await trio.sleep_forever()


async def fail_when_cancelled(marker: str, message: str) -> None:
    """Tell that it runs; answer the cancellation by an error of its own."""
    try:
        Path(marker).touch()
        await trio.sleep_forever()
    finally:
        raise ValueError(message)


async def die(status: int) -> None:
    """End the process without a word."""
    os._exit(status)


async def signal_self(number: int) -> None:
    os.kill(os.getpid(), number)
    await trio.sleep_forever()


async def block_loop(marker: str, ignore_sigterm: bool = False) -> None:
    """Stop the event loop, as a C call or a busy loop would."""
    if ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(marker).touch()
    time.sleep(1000)


async def sleep_shielded(marker: str) -> None:
    with trio.CancelScope(shield=True):
        Path(marker).touch()
        await trio.sleep_forever()


async def push_file_removal(path: str) -> None:
    """Create a file that the end of the actor removes."""
    Path(path).touch()
    tractor.current_actor().lifetime_stack.callback(Path(path).unlink)


async def try_root() -> None:
    async with tractor.open_root_actor():
        raise AssertionError("a subactor may not be a root")


async def nested_names() -> list[str]:
    """`open_nursery()` in a subactor goes on with the runtime that is there."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("below", enable_modules=[__name__])
        found = [tractor.current_actor().name, *(await portal.run(uid))[:1]]
        await portal.cancel_actor()
    return found


async def fail_below(names: list[str]) -> None:
    """Start a chain of actors; the last one fails."""
    if not names:
        await fail("deep")
        return
    async with tractor.open_nursery() as an:
        await an.run_in_actor(fail_below, name=names[0], names=names[1:])


@tractor.context
async def hold_tree(
    ctx: tractor.Context, depth: int, width: int = 1, worst: str = "", marker: str = ""
) -> None:
    """A subtree, `depth` levels below this actor; `started()` with all its pids, this one first.

    `worst` is what its leaves are: ``'blocked'``, ``'shielded'``, or as easy to cancel as any.
    """
    if not depth:
        await ctx.started([place()])
        if worst == "blocked":
            await trio.sleep(0.05)  # let `started` leave; the marker tells when the loop is blocked
            await block_loop(f"{marker}.{place()}")
        if worst == "shielded":
            await sleep_shielded(f"{marker}.{place()}")
        await trio.sleep_forever()
    pids = [place()]
    async with tractor.open_nursery() as an, trio.open_nursery() as tn:

        async def hold(
            index: int, task_status: trio.TaskStatus[list[int]] = trio.TASK_STATUS_IGNORED
        ) -> None:
            portal = await an.start_actor(f"{depth}_{index}", enable_modules=[__name__])
            async with portal.open_context(
                hold_tree, depth=depth - 1, width=width, worst=worst, marker=marker
            ) as (_, below):
                task_status.started(below)
                await trio.sleep_forever()

        for index in range(width):
            pids += await tn.start(hold, index)
        await ctx.started(pids)


@tractor.context
async def hold(ctx: tractor.Context) -> None:
    await ctx.started(os.getpid())
    await trio.sleep_forever()


async def call_parent() -> list[Any]:
    """Call back into the parent, which exposes this module."""
    portal = tractor.current_actor().get_parent()
    return [await portal.run(pid), await portal.run(add, one=1)]


async def cancel_by_name(name: str) -> bool:
    """Cancel another actor, found by its name."""
    async with tractor.find_actor(name, raise_on_none=True) as portal:
        assert isinstance(portal, tractor.Portal)
        return await portal.cancel_actor()


async def ask_root_of_tree() -> list[Any]:
    async with tractor.discovery.get_root() as portal:
        return list(await portal.run(uid))


async def look_up(name: str) -> Any:
    """Find an actor by name and have it tell its uid."""
    async with tractor.find_actor(name) as portal:
        assert not isinstance(portal, list)
        return None if portal is None else list(await portal.run(uid))


async def wait_for(name: str) -> Any:
    async with tractor.wait_for_actor(name) as portal:
        return list(await portal.run(uid))


async def query(name: str) -> Any:
    async with tractor.query_actor(name) as (addr, portal):
        return [addr, portal is None]


async def register_elsewhere(addr: tuple[str, str | int]) -> None:
    """Register an address where nobody listens for this actor."""
    own = tractor.current_actor().aid.uid
    async with tractor.get_registry() as portal:
        await portal.run_from_ns("self", "register_actor", uid=own, addr=addr)


async def ask_registrar(func: str, **arguments: Any) -> Any:
    """Make a registry request with arguments that no look-up of tractor's own would send."""
    async with tractor.get_registry() as portal:
        return await portal.run_from_ns("self", func, **arguments)


async def main_module_names() -> dict[str, Any]:
    """What of the parent's program is here."""
    module = sys.modules.get("__mp_main__")
    return {
        "replayed": module is not None,
        "same": module is not None and sys.modules.get("__main__") is module,
        "value": getattr(module, "SET_BY_THE_SCRIPT", None),
    }


def _touch(marker: str | None) -> None:
    if marker is not None:
        Path(marker).touch()


async def not_in_any_child() -> None:
    raise AssertionError("ran")


def plain_function() -> None:
    raise AssertionError("ran")


async def generator() -> Any:
    yield 1
