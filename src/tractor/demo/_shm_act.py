"""The act of shared memory: an actor makes a list, the root reads it in place, the actor is killed, nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import dataclass

import trio

import tractor
from tractor.demo._cluster import Run, registry_of_our_own
from tractor.ipc import ShmList, attach_shm_list, open_shm_list

NUMBERS = 20_000


@dataclass
class ShmAct:
    """What came of it."""

    skipped: str = ""
    """Why it was not shown."""
    pid: int = 0
    key: str = ""
    total: int = 0
    """Of the numbers, as the root read them."""
    late: int = 0
    """What the root read of its mapping after the actor's death."""
    left: bool = False
    """The segment still had its name when the actor's nursery had been left."""


async def fill_list() -> str:
    """Run in the actor: numbers in shared memory, of which only the key travels."""
    found = open_shm_list(None, range(NUMBERS), prefix="demo_")
    return found.key


async def run_shm_act(transport: str, run: Run) -> ShmAct:
    """Start the actor, read its list, kill it; no process is left when this returns or raises.

    Args:
        transport: ``'tcp'`` or ``'uds'``, between the actors.
        run: where the actor's pid is noted.
    """
    if sys.platform == "win32":
        return ShmAct(skipped="Windows has no shared memory that has a name of its own")
    act = ShmAct()
    shared: ShmList | None = None
    try:
        async with tractor.open_nursery(registry_addrs=[registry_of_our_own(transport)]) as an:
            portal = await an.start_actor("filler", enable_modules=[__name__])
            assert portal.chan.aid is not None
            act.pid = run.act_pids["filler"] = portal.chan.aid.pid or 0
            act.key = await portal.run(fill_list)
            shared = attach_shm_list(act.key, readonly=True)
            act.total = sum(shared)
            os.kill(act.pid, signal.SIGKILL)
            await trio.sleep_forever()
    except tractor.ActorFailure:
        # The kill, as its nursery tells it.
        if shared is None:
            raise
        act.late = shared[NUMBERS - 1]
        shared.close()
    with contextlib.suppress(FileNotFoundError):
        attach_shm_list(act.key).destroy()
        act.left = True
    return act


def render_shm_act(act: ShmAct) -> str:
    """The result as text."""
    if act.skipped:
        return f"shared memory: skipped: {act.skipped}"
    return (
        f"shared memory: process {act.pid} made a list of {NUMBERS:,} numbers, and sent the {len(act.key)} letters of "
        f"its key;\nthe root read them where they are (sum {act.total:,}), then killed that process: "
        f"its nursery has removed the memory"
    )


def shm_complaints(act: ShmAct) -> list[str]:
    """What speaks against "the root saw the numbers, and nothing is left of them"."""
    if act.skipped:
        return []
    complaints = []
    if act.total != sum(range(NUMBERS)) or act.late != NUMBERS - 1:
        complaints.append(
            f"the numbers in shared memory came to {act.total}, the last was {act.late}"
        )
    if act.left:
        complaints.append(f"the shared memory {act.key!r} of a killed actor was still there")
    return complaints
