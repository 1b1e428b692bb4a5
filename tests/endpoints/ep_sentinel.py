"""Trees whose actors are in every bad state; a program and the endpoints of its actors.

``python ep_sentinel.py DIRECTORY SPEC`` builds the tree of SPEC, a node as JSON: ``[state, [node, ...]]``.  It prints
``{place: pid}``, where the place of the root is ``""`` and that of the first child's second child ``"01"``.  Once there
is a file ``go`` in DIRECTORY each actor enters its state, after it has made a file with its pid as the name there.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

import tractor


async def hold_below(stack: AsyncExitStack, directory: str, place: str, nodes: list[Any]) -> Any:
    """Start the actors below this one, all at once; every pid by place, this one's too."""
    pids = {place: os.getpid()}
    if not nodes:
        return pids
    an = await stack.enter_async_context(tractor.open_nursery())
    tn = await stack.enter_async_context(trio.open_nursery())

    async def hold(
        index: int, node: Any, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        name = f"{place}{index}"
        portal = await an.start_actor(f"actor{name}", enable_modules=["ep_sentinel"])
        async with portal.open_context(hold_tree, directory=directory, place=name, node=node) as (
            _,
            below,
        ):
            pids.update(below)
            task_status.started()
            await trio.sleep_forever()

    async with trio.open_nursery() as starting:
        for index, node in enumerate(nodes):
            starting.start_soon(tn.start, hold, index, node)
    return pids


@tractor.context
async def hold_tree(ctx: tractor.Context, directory: str, place: str, node: Any) -> None:
    state, nodes = node
    async with AsyncExitStack() as stack:
        await ctx.started(await hold_below(stack, directory, place, nodes))
        await enter(Path(directory), state)


async def enter(directory: Path, state: str) -> None:
    while not (directory / "go").exists():
        await trio.sleep(0.01)
    (directory / str(os.getpid())).touch()
    if state == "blocked":
        time.sleep(1000)
    elif state == "busy":
        while True:
            pass
    elif state == "gil":
        ctypes.PyDLL(None).sleep(1000)
    elif state == "shielded":
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()
    # As for "stopped": the one who made `go` sends the signal.
    await trio.sleep_forever()


async def end(directory: str, how: str) -> None:
    """A tree of three that ends in one of the usual ways; prints the pids first."""
    async with AsyncExitStack() as stack:
        pids = await hold_below(stack, directory, "", [["idle", [["idle", []]]]])
        print(json.dumps(pids), flush=True)
        while not (Path(directory) / "go").exists():
            await trio.sleep(0.01)
        if how == "crash":
            raise ValueError("crash")
        if how == "exit":
            os._exit(3)
        if how == "wait":
            await trio.sleep_forever()
        # Its actors are daemons.
        raise KeyboardInterrupt if how == "interrupt" else SystemExit(0)


async def main(directory: str, spec: str) -> None:
    state, nodes = json.loads(spec)
    async with AsyncExitStack() as stack:
        print(json.dumps(await hold_below(stack, directory, "", nodes)), flush=True)
        await enter(Path(directory), state)


if __name__ == "__main__":
    # Under the name by which its actors know it.
    import ep_sentinel

    program = ep_sentinel.main if sys.argv[2].startswith("[") else ep_sentinel.end
    trio.run(program, sys.argv[1], sys.argv[2])
