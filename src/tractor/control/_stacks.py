"""The tasks and threads of this process as plain data, taken by a thread while the loop runs or is blocked."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from itertools import islice
from types import CoroutineType, FrameType, GeneratorType
from typing import Any, TypeAlias

import msgspec
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


def stacks_of(
    root: trio.lowlevel.Task | None, loop: int | None = None, encoded: bool = False
) -> dict[str, Any]:
    """The tasks of a run from ``root`` on, and this process's threads.

    A loop that goes on meanwhile may change what is looked at: a task may then be missing, and no error comes of it.

    Args:
        root: ``None``: there is no run.
        loop: the ident of the run's thread, in which the task that runs is looked for.
        encoded: ``frames`` of tasks are JSON already, which is quicker where many wait at the same place.

    Returns:
        ``tasks``: each with ``id``, ``name``, ``parent`` (an id), ``frames`` (outermost first), ``running``, and
        ``runtime``: no frame of it is the program's; ``threads`` with ``name`` and ``frames``; ``truncated``: how many
        tasks were left out.  A frame has ``file``, ``line``, ``function``, and ``runtime``: it is of this package, or
        of one that it runs on.
    """
    tasks: list[dict[str, Any]] = []
    lines = _Lines(encoded)
    left_out = 0
    for task, parent in all_tasks(root, by_name=True):
        if len(tasks) >= MAX_TASKS:
            left_out += 1
            continue
        running = bool(getattr(task.coro, "cr_running", False))
        found = _running_frames(task, loop) if running else []
        told, is_runtime = lines.told(found) if found else lines.waiting(task.coro)
        tasks.append(
            {
                "id": id(task),
                "name": task.name,
                "parent": None if parent is None else id(parent),
                "running": running,
                "runtime": is_runtime,
                "frames": told,
            }
        )
    own = threading.get_ident()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    threads = [
        {"name": names.get(ident, ""), "frames": _frames_up(frame, lines)}
        for ident, frame in sys._current_frames().items()
        if ident != own
    ]
    return {"tasks": tasks, "threads": threads, "truncated": left_out}


Told: TypeAlias = tuple[Any, bool]
"""Frames as they are told, and whether none of them is the program's."""


class _Lines:
    """What is told of frames: many tasks are at the same line, and many have the same stack.

    Args:
        encoded: stacks are told as JSON.
    """

    def __init__(self, encoded: bool) -> None:
        self._encoded = encoded
        # By ids: the hash of a code object is made of all that is in it, each time. A line takes a while to find, too.
        self._known: dict[tuple[int, int], dict[str, Any]] = {}
        self._stacks: dict[tuple[int, ...], Told | None] = {}

    def of(self, frame: FrameType) -> dict[str, Any]:
        """What is told of one."""
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

    def told(self, frames: Iterable[FrameType]) -> Told:
        """What is told of a stack, outermost first."""
        lines = [self.of(frame) for frame in frames]
        is_runtime = all(line["runtime"] for line in lines)
        kept: Any = lines[-MAX_FRAMES:]
        return (msgspec.Raw(msgspec.json.encode(kept)) if self._encoded else kept), is_runtime

    def waiting(self, coro: Any) -> Told:
        """The same of a coroutine that waits."""
        key = _key_of(coro)
        if key is None:
            return self.told(suspended_frames(coro))
        if key in self._stacks:
            return self._stacks[key] or self.told(suspended_frames(coro))
        frames = list(suspended_frames(coro))
        told = self.told(frames)
        # What runs inside of greenback's shim is not in the key.
        self._stacks[key] = told if 2 * len(frames) == len(key) else None
        return told


def _key_of(coro: Any) -> tuple[int, ...] | None:
    """What two stacks of the same lines have in common; ``None``: it can't be told so quickly.

    By the same rules as :func:`suspended_frames`, which knows more kinds than those two.
    """
    key: list[int] = []
    add = key.append
    while coro is not None:
        if type(coro) is CoroutineType:
            frame, coro = coro.cr_frame, coro.cr_await
        elif type(coro) is GeneratorType:
            frame, coro = coro.gi_frame, coro.gi_yieldfrom
        else:
            return None
        if frame is not None:
            add(id(frame.f_code))
            add(frame.f_lasti)
    return tuple(key)


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
