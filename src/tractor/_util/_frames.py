"""The frames of threads and tasks, and which of them are the runtime's own and say nothing of the user's code."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection, Iterator
from types import CoroutineType, FrameType
from typing import Any

import trio

RUNTIME_PACKAGES = frozenset({"tractor", "trio", "greenback", "outcome", "contextlib"})
"""The runtime, and what it runs on."""

USERS_OWN = ("tractor.demo", "tractor.testing")
"""Parts of this package that are users of the rest."""

GREENBACK = "greenback_shim"
"""How the function's name ends in which greenback runs a task's own coroutine."""


def module_of(frame: FrameType) -> str:
    """The name of the module whose code runs in ``frame``; of ``python -m``, the one that was named."""
    module = str(frame.f_globals.get("__name__") or "")
    if module == "__main__":
        module = str(getattr(frame.f_globals.get("__spec__"), "name", module))
    return module


def is_of(module: str, packages: Collection[str]) -> bool:
    """Whether a module belongs to one of these packages and is not a user of them that this package ships."""
    return module.partition(".")[0] in packages and not module.startswith(USERS_OWN)


def frame_at(depth: int = 0) -> FrameType:
    """The frame of the calling function, or the one so many above it.  Raises ValueError where there is none."""
    return sys._getframe(depth + 1)


def frames_above(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and those that wait for it, innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def calling_frames(depth: int = 0) -> Iterator[FrameType]:
    """The frame of the calling function, or the one so many above it, and those that wait for it, innermost first."""
    return frames_above(frame_at(depth + 1))


def thread_frame(ident: int | None) -> FrameType | None:
    """The innermost frame of a thread; ``None``: it has ended, or was never begun."""
    return sys._current_frames().get(ident or 0)


def main_thread_frame() -> FrameType | None:
    """The innermost frame of the main thread; ``None``: it has ended."""
    return thread_frame(threading.main_thread().ident)


def frames_of(task: trio.lowlevel.Task) -> list[FrameType]:
    """The frames of a task of this thread's run, the outermost first."""
    if not getattr(task.coro, "cr_running", False):
        return list(suspended_frames(task.coro))
    found: list[FrameType] = []
    for frame in calling_frames():
        found.append(frame)
        # Never met where it is on a stack of its own, in a greenlet.
        if frame is task.coro.cr_frame:
            break
    return found[::-1]


def suspended_frames(coro: Any) -> Iterator[FrameType]:
    """The frames of a coroutine that waits, the outermost first."""
    while coro is not None:
        if type(coro) is CoroutineType:
            # Most are, and of these little has to be asked.
            frame = coro.cr_frame
            if frame is not None and not frame.f_code.co_name.endswith(GREENBACK):
                yield frame
                coro = coro.cr_await
                continue
        frame = (
            getattr(coro, "cr_frame", None)
            or getattr(coro, "ag_frame", None)
            or getattr(coro, "gi_frame", None)
        )
        if frame is not None and frame.f_code.co_name.endswith(GREENBACK):
            inner = frame.f_locals.get("orig_coro")
            if inner is not None:
                # A task that may pause in sync code: its own coroutine runs inside of greenback's.
                coro = inner
                continue
        if frame is not None:
            yield frame
        following = (
            getattr(coro, "cr_await", None)
            or getattr(coro, "ag_await", None)
            or getattr(coro, "gi_yieldfrom", None)
        )
        if following is None and frame is None and not hasattr(coro, "send"):
            # An `asend()` or `athrow()` in progress; not every Python tells of which generator.
            following = getattr(coro, "ag_gen", None)
        coro = following
