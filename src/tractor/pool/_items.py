"""What a map does about each of its items: tries, time, name, and what becomes of a failure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypedDict

import msgspec

from tractor._errors import ContextCancelled, MsgTypeError, RemoteActorError


class ItemTimeout(TimeoutError):
    """A call took longer than its map allows.  It does not run any more.

    Attributes:
        what: the job, for messages: the function and the item.
        timeout: the limit, in seconds.
    """

    def __init__(self, what: str = "an item", timeout: float = 0.0) -> None:
        self.what = what
        self.timeout = timeout
        super().__init__(f"{what} took longer than timeout={timeout} s and was ended")

    def __reduce__(self) -> Any:
        return type(self), (self.what, self.timeout)


class MapOptions(TypedDict, total=False):
    """Keywords of every map; see :meth:`WorkerPool.map`."""

    in_flight: int | None
    retries: int
    timeout: float | None
    key: Callable[[Any], object] | None


class GivesValues(MapOptions, total=False):
    """Keywords of a map whose first failure ends it."""

    return_exceptions: Literal[False]


class GivesErrors(MapOptions):
    """Keywords of a map that gives failures as values."""

    return_exceptions: Literal[True]


class Handling(msgspec.Struct, frozen=True, eq=False):
    """What is done about each item of one map.

    Attributes:
        retries: how often a call that has failed is made again.
        timeout: seconds that one try may take; ``None``: no limit.
        key: names an item in errors; ``None``: it is shown itself.
        return_exceptions: a failure is the item's value.
    """

    retries: int = 0
    timeout: float | None = None
    key: Callable[[Any], object] | None = None
    return_exceptions: bool = False

    def check(self) -> None:
        """Raises ValueError or TypeError: an option is out of its range."""
        if isinstance(self.retries, bool) or not isinstance(self.retries, int):
            raise TypeError(f"retries={self.retries!r}: give a number of times")
        if self.retries < 0:
            raise ValueError(f"retries={self.retries}: it can't be below 0")
        if self.timeout is not None and not 0 < self.timeout < math.inf:
            raise ValueError(f"timeout={self.timeout}: give seconds above 0, or None for no limit")
        if self.key is not None and not callable(self.key):
            raise TypeError(f"key={self.key!r}: give a function of an item")


ONCE = Handling()
"""Of calls that are no items: one try, no limit."""


def may_help(error: BaseException) -> bool:
    """Whether a call that has ended with this may end otherwise when it is made again."""
    if isinstance(error, (ContextCancelled, MsgTypeError)):
        # It was ended on purpose, or its values can't travel.
        return False
    if isinstance(error, RemoteActorError):
        boxed = error.boxed_type
        return boxed is None or (
            issubclass(boxed, Exception) and not issubclass(boxed, MsgTypeError)
        )
    return isinstance(error, Exception)
