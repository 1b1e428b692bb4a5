"""Keeping ctrl-c out of the middle of a step, and telling whom it reaches."""

from __future__ import annotations

import os
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from types import FunctionType
from typing import TypeVar

from trio.lowlevel import enable_ki_protection

ClassT = TypeVar("ClassT", bound=type)


def ki_protected(cls: ClassT) -> ClassT:
    """Protect the async methods of a class, and all that they call: ``KeyboardInterrupt`` comes at checkpoints only.

    For what runs in tasks of the user's.  Elsewhere it could come between any two steps, also inside of trio: a task
    that ``start_soon()`` had entered, but not scheduled yet, would never run, and its nursery never end.
    """
    for method in vars(cls).values():
        if isinstance(method, FunctionType):
            # What a decorator has wrapped, such as `asynccontextmanager`, is looked through.
            inner = getattr(method, "__wrapped__", method)
            if inner.__code__.co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR):
                enable_ki_protection(method)
    return cls


def is_in_foreground() -> bool:
    """Whether a ctrl-c on the controlling terminal reaches this process."""
    if not hasattr(os, "tcgetpgrp"):
        return False
    try:
        fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)  # type: ignore[attr-defined, unused-ignore]
    except OSError:
        return False
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()  # type: ignore[attr-defined, no-any-return, unused-ignore]
    except OSError:
        return False
    finally:
        os.close(fd)
