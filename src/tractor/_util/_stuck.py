"""The stacks of a process whose main thread is stuck: its parent signals it, it writes them down, its parent reads.

`faulthandler` writes the stacks of all threads at once, also while C code keeps Python from running.  The tree of tasks
follows as soon as the main thread runs Python again: a call that blocks is interrupted for that.  Both go into memory
that has no name (Linux), so that nothing has to be cleaned up.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import signal
import sys
import sysconfig

import trio

from tractor._util._task_tree import arm_task_dumps, dump_file, is_whole, read_dumps

NAME = "tractor-stacks"

DUMP_LIMIT = 1.0
"""Seconds that a stuck process has for writing down its stacks."""

FRAME = re.compile(r'^  File "(.*)", line (\d+),? in (.*)$', re.MULTILINE)


def arm_stuck_dumps(label: str) -> None:
    """On SIGUSR1 write down this process's stacks, for its parent; for the main thread of a process.

    Does nothing where the platform has no such signal, or something handles it already.
    """
    if sys.platform == "win32" or callable(signal.getsignal(signal.SIGUSR1)):
        return
    if sys.platform != "linux":
        arm_task_dumps(label)
        return
    file = os.memfd_create(NAME)
    # A fork's may have come with it, which is deaf by now.
    faulthandler.unregister(signal.SIGUSR1)
    arm_task_dumps(label, lambda: os.dup(file))
    # It hands on to the handler that was there before.
    faulthandler.register(signal.SIGUSR1, file, all_threads=True, chain=True)


async def stacks_of_stuck(pid: int) -> str:
    """The stacks of a process that waits for SIGUSR1 to write them down.  Raises ProcessLookupError: it is gone."""
    if sys.platform == "win32":
        raise NotImplementedError
    before = len(_written(pid))
    os.kill(pid, signal.SIGUSR1)
    with trio.move_on_after(DUMP_LIMIT):
        while not is_whole(_written(pid)[before:]):
            await trio.sleep(0.02)
    return _written(pid)[before:]


def _written(pid: int) -> str:
    """All that it has written down so far."""
    with contextlib.suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{number}"
            if os.readlink(path).startswith(f"/memfd:{NAME} "):
                with open(path, "rb") as file:
                    return file.read().decode(errors="replace")
    return read_dumps(dump_file(pid)).decode(errors="replace")


def place_in(stacks: str) -> str:
    """Where the main thread stood, innermost first, down to the first line that is of no library; empty: unknown."""
    _, found, block = stacks.partition("Current thread ")
    frames = FRAME.findall(block.partition("\n\n")[0])
    if not found:
        _, _, block = stacks.partition("thread 'MainThread':\n")
        frames = FRAME.findall(re.split(r"^(?:thread |end-of-)", block, flags=re.MULTILINE)[0])[
            ::-1
        ]
    places: list[str] = []
    library = sysconfig.get_path("stdlib")
    for path, line, function in frames:
        is_own = not path.startswith((library, "<")) and "site-packages" not in path
        if is_own or not places:
            places.append(f"{path}:{line} in {function}")
        if is_own:
            break
    return ", called at ".join(places)
