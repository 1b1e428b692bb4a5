"""Keeping ctrl-c out of the middle of a step, and telling whom it reaches."""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, _AsyncGeneratorContextManager
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from types import FunctionType
from typing import Any, ParamSpec, TypeVar

from trio.lowlevel import enable_ki_protection

ClassT = TypeVar("ClassT", bound=type)
P = ParamSpec("P")
T = TypeVar("T")


def ki_protected(cls: ClassT) -> ClassT:
    """Protect the async methods of a class, and all that they call: ``KeyboardInterrupt`` comes at checkpoints only.

    For what runs in tasks of the user's.  Elsewhere it could come between any two steps, also inside of trio: a task
    that ``start_soon()`` had entered, but not scheduled yet, would never run, and its nursery never end.
    """
    for method in vars(cls).values():
        if isinstance(method, FunctionType):
            # What a decorator has wrapped, such as `ki_protected_manager`, is looked through.
            inner = getattr(method, "__wrapped__", method)
            if inner.__code__.co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR):
                enable_ki_protection(method)
    return cls


def _protected_copy(method: Any) -> Any:
    """A copy of a function with a code object of its own, as protection is a property of that."""
    copy = FunctionType(
        method.__code__.replace(),
        method.__globals__,
        method.__name__,
        method.__defaults__,
        method.__closure__,
    )
    return enable_ki_protection(copy)


class _ProtectedManager(_AsyncGeneratorContextManager[T]):
    """What :func:`~contextlib.asynccontextmanager` makes, entered and left under protection.

    A ctrl-c in the standard library's own two methods would come before the first step of the generator, or, what is
    worse, between the end of the block and the generator's cleanup, which then would not run.
    """

    # Copies instead of methods that call those: no frame of ours in each traceback.
    __aenter__ = _protected_copy(_AsyncGeneratorContextManager.__aenter__)
    __aexit__ = _protected_copy(_AsyncGeneratorContextManager.__aexit__)


def ki_protected_manager(
    func: Callable[P, AsyncIterator[T]],
) -> Callable[P, AbstractAsyncContextManager[T, bool | None]]:
    """:func:`~contextlib.asynccontextmanager`, with ``KeyboardInterrupt`` at checkpoints only on the way in and out.

    The block itself is the user's, and is interrupted as ever.
    """
    enable_ki_protection(func)

    @functools.wraps(func)
    def manager(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T, bool | None]:
        return _ProtectedManager(func, args, kwargs)  # type: ignore[arg-type]

    return manager


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
