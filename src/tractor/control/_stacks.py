"""The tasks and threads of this process as plain data, taken by a thread while the loop runs or is blocked."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from itertools import islice
from types import FrameType
from typing import Any

import trio

from tractor._util._frames import frames_above, suspended_frames

MAX_TASKS = 2000
"""Beyond these an answer would be over its limit; the others are counted."""

MAX_FRAMES = 60
"""Of one stack, the innermost ones."""


def stacks_of(root: trio.lowlevel.Task | None) -> dict[str, Any]:
    """The tasks of a run from ``root`` on, and this process's threads.

    A loop that goes on meanwhile may change what is looked at: a task may then be missing, and no error comes of it.

    Args:
        root: ``None``: there is no run.

    Returns:
        ``tasks``: each with ``id``, ``name``, ``parent`` (an id), ``frames`` (outermost first) and ``running``;
        ``threads`` with ``name`` and ``frames``; ``truncated``: how many tasks were left out.
    """
    tasks: list[dict[str, Any]] = []
    left_out = 0
    for task, parent in _tasks(root):
        if len(tasks) < MAX_TASKS:
            tasks.append(_described(task, parent))
        else:
            left_out += 1
    own = threading.get_ident()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    threads = [
        {"name": names.get(ident, ""), "frames": _frames_up(frame)}
        for ident, frame in sys._current_frames().items()
        if ident != own
    ]
    return {"tasks": tasks, "threads": threads, "truncated": left_out}


def _tasks(root: trio.lowlevel.Task | None) -> Iterator[tuple[trio.lowlevel.Task, int | None]]:
    stack: list[tuple[trio.lowlevel.Task, int | None]] = [] if root is None else [(root, None)]
    seen: set[int] = set()
    while stack:
        task, parent = stack.pop()
        if id(task) in seen:
            continue
        seen.add(id(task))
        yield task, parent
        for nursery in list(task.child_nurseries):
            children = sorted(_copied(nursery), key=lambda one: one.name, reverse=True)
            stack += [(child, id(task)) for child in children]


def _copied(nursery: trio.Nursery) -> list[trio.lowlevel.Task]:
    for _ in range(20):
        try:
            return list(nursery.child_tasks)
        except RuntimeError:
            # It has changed while it was copied.
            continue
    return []


def _described(task: trio.lowlevel.Task, parent: int | None) -> dict[str, Any]:
    frames = [_line(frame) for frame in suspended_frames(task.coro)]
    return {
        "id": id(task),
        "name": task.name,
        "parent": parent,
        "running": bool(getattr(task.coro, "cr_running", False)),
        "frames": frames[-MAX_FRAMES:],
    }


def _frames_up(frame: FrameType) -> list[dict[str, Any]]:
    return [_line(above) for above in islice(frames_above(frame), MAX_FRAMES)][::-1]


def _line(frame: FrameType) -> dict[str, Any]:
    code = frame.f_code
    return {"file": code.co_filename, "line": frame.f_lineno, "function": code.co_qualname}
