"""The tasks and threads of this process as plain data, taken by a thread while the loop runs or is blocked."""

from __future__ import annotations

import sys
import threading
from itertools import islice
from types import FrameType
from typing import Any

import trio

from tractor._util._frames import (
    RUNTIME_PACKAGES,
    frames_above,
    is_of,
    module_of,
    suspended_frames,
    thread_frame,
)
from tractor.control._walk import all_tasks

MAX_TASKS = 2000
"""Beyond these an answer would be over its limit; the others are counted."""

MAX_FRAMES = 60
"""Of one stack, the innermost ones."""


def stacks_of(root: trio.lowlevel.Task | None, loop: int | None = None) -> dict[str, Any]:
    """The tasks of a run from ``root`` on, and this process's threads.

    A loop that goes on meanwhile may change what is looked at: a task may then be missing, and no error comes of it.

    Args:
        root: ``None``: there is no run.
        loop: the ident of the run's thread, in which the task that runs is looked for.

    Returns:
        ``tasks``: each with ``id``, ``name``, ``parent`` (an id), ``frames`` (outermost first), ``running``, and
        ``runtime``: no frame of it is the program's; ``threads`` with ``name`` and ``frames``; ``truncated``: how many
        tasks were left out.  A frame has ``file``, ``line``, ``function``, and ``runtime``: it is of this package, or
        of one that it runs on.
    """
    tasks: list[dict[str, Any]] = []
    lines = _Lines()
    left_out = 0
    for task, parent in all_tasks(root, by_name=True):
        if len(tasks) < MAX_TASKS:
            tasks.append(_described(task, parent, loop, lines))
        else:
            left_out += 1
    own = threading.get_ident()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    threads = [
        {"name": names.get(ident, ""), "frames": _frames_up(frame, lines)}
        for ident, frame in sys._current_frames().items()
        if ident != own
    ]
    return {"tasks": tasks, "threads": threads, "truncated": left_out}


class _Lines:
    """What is told of frames: many tasks are at the same line."""

    def __init__(self) -> None:
        # By ids: the hash of a code object is made of all that is in it, each time. A line takes a while to find, too.
        self._known: dict[tuple[int, int], dict[str, Any]] = {}

    def of(self, frame: FrameType) -> dict[str, Any]:
        code, at = frame.f_code, frame.f_lasti
        told = self._known.get((id(code), at))
        if told is None:
            told = self._known[id(code), at] = {
                "file": code.co_filename,
                "line": frame.f_lineno,
                "function": code.co_qualname,
                "runtime": is_of(module_of(frame), RUNTIME_PACKAGES),
            }
        return told


def _described(
    task: trio.lowlevel.Task, parent: trio.lowlevel.Task | None, loop: int | None, lines: _Lines
) -> dict[str, Any]:
    running = bool(getattr(task.coro, "cr_running", False))
    found = _running_frames(task, loop) if running else []
    frames = [lines.of(frame) for frame in found or suspended_frames(task.coro)]
    return {
        "id": id(task),
        "name": task.name,
        "parent": None if parent is None else id(parent),
        "running": running,
        "runtime": all(frame["runtime"] for frame in frames),
        "frames": frames[-MAX_FRAMES:],
    }


def _running_frames(task: trio.lowlevel.Task, loop: int | None) -> list[FrameType]:
    """The frames of the task that runs, outermost first; empty: it is in another place by now."""
    found: list[FrameType] = []
    for frame in frames_above(thread_frame(loop)):
        found.append(frame)
        if frame is task.coro.cr_frame:
            return found[::-1]
    return []


def _frames_up(frame: FrameType, lines: _Lines) -> list[dict[str, Any]]:
    return [lines.of(above) for above in islice(frames_above(frame), MAX_FRAMES)][::-1]
