"""Waiting for processes that are not our children, such as those of a subactor that was killed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import trio

from tractor.process._exit_watch import ExitWatch
from tractor.process._stat import pid_alive as pid_alive
from tractor.process._stat import process_start_time as process_start_time

REAP_PAUSE = 0.005
"""Seconds between looks at a process that is dead, but can't be reaped yet."""


async def wait_pids_gone(pids: Mapping[int, float | None], timeout: float) -> set[int]:
    """Wait until none of these processes runs.

    Args:
        pids: Process ids, each with its :func:`process_start_time` or ``None`` where unknown.
        timeout: Seconds to wait at most.

    Returns:
        Those that still run; empty when all are gone.

    Raises:
        ValueError: A pid is not positive.
    """
    alive = {pid for pid, start_time in pids.items() if pid_alive(pid, start_time)}

    async def wait_one(pid: int) -> None:
        watch = ExitWatch(pid)
        try:
            # Looked at again with the watch open: what it watches is the process meant.
            if pid_alive(pid, pids[pid]):
                await watch.wait()
            alive.discard(pid)
            await _reap_inherited(pid, pids[pid])
        finally:
            watch.close()

    with trio.move_on_after(timeout):
        async with trio.open_nursery() as nursery:
            for pid in pids:
                if pid in alive:
                    nursery.start_soon(wait_one, pid)
                else:
                    nursery.start_soon(_reap_inherited, pid, pids[pid])
    return alive


async def _reap_inherited(pid: int, start_time: float | None) -> None:
    """Reap a dead process that has become a child of this one by the death of its parent.

    That happens to the first process of a container, and to one that has made itself a subreaper.
    """
    if sys.platform == "win32":
        raise NotImplementedError
    # One of several threads counts as dead a moment before it can be reaped.  The number may be a child's of this
    # process's own by now, whose status is for whoever has started it.
    while start_time is not None and process_start_time(pid) == start_time:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
        except OSError:
            # It has a parent of its own.
            return
        await trio.sleep(REAP_PAUSE)
