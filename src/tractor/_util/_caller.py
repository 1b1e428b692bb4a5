"""Which code of the user's has called an API function."""

from __future__ import annotations

from types import CodeType
from typing import NamedTuple

import trio

from tractor._util._frames import (
    RUNTIME_PACKAGES,
    calling_frames,
    frame_at,
    is_of,
    module_of,
    suspended_frames,
)


class Caller(NamedTuple):
    """A place in somebody's code."""

    code: CodeType
    line: int

    def __str__(self) -> str:
        return f"{self.code.co_qualname}() at {self.code.co_filename}:{self.line}"


def find_caller(depth: int) -> Caller:
    """The code ``depth`` frames above this call's, or above that if it is a part of some API itself.

    A function is, if it has a local variable ``__runtimeframe__``; :mod:`contextlib` is passed over, too.
    """
    frame = frame_at(depth + 1)
    while frame.f_back is not None and (
        "__runtimeframe__" in frame.f_code.co_varnames
        or frame.f_globals.get("__name__") == "contextlib"
    ):
        frame = frame.f_back
    return Caller(frame.f_code, frame.f_lineno)


def calling_code() -> Caller | None:
    """The user's code that awaits what runs now; for the way of an error, where nothing needs to be kept before.

    Where it is a task of its own, the code in whose nursery it runs; ``None`` where there is none.
    """
    for frame in calling_frames(1):
        module = module_of(frame)
        if not is_of(module, RUNTIME_PACKAGES):
            return Caller(frame.f_code, frame.f_lineno)
        if module == "trio._core._run":
            # Below it is who has called `trio.run()`.
            break
    try:
        nursery = trio.lowlevel.current_task().parent_nursery
    except RuntimeError:
        return None
    if nursery is None:
        return None
    own = None
    for frame in suspended_frames(nursery.parent_task.coro):
        if not is_of(module_of(frame), RUNTIME_PACKAGES):
            own = Caller(frame.f_code, frame.f_lineno)
    return own
