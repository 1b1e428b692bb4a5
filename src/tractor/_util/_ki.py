"""Keeping ctrl-c out of the middle of a step."""

from __future__ import annotations

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
