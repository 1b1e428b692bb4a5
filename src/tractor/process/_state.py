"""What modules keep for the process as a whole, and what of it is left in a process that was forked off.

A process that is started afresh has each of these as its module makes it.  A forked one has its parent's memory.  Two
kinds of forks are told apart:

- A spawn backend forks an actor: everything registered here is made anew (`renew_all`), so the actor sees what one in
  a fresh process does.
- User code forks (``os.fork()``, ``multiprocessing``): the child is not an actor but a copy of the program, which
  goes on.
  What must not go on in it, `_at_fork` undoes.

What is true of the program itself, and so of every copy of it, is not registered: which modules are loaded, and what
they have done to the package while they were imported (error types, log levels, fixes of trio).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Clearable(Protocol):
    """A dict, list, set or deque."""

    def clear(self) -> object: ...


ClearableT = TypeVar("ClearableT", bound=Clearable)

_renewals: list[Callable[[], object]] = []


class ProcessVar(Generic[T]):
    """A variable of the process; a module makes it once, where others would write ``global``.

    Args:
        make: gives its value in a process that was started afresh.
        survives: it is as true of an actor that is forked off.
    """

    __slots__ = ("_make", "value")

    def __init__(self, make: Callable[[], T], *, survives: bool = False) -> None:
        self._make = make
        self.value = make()
        if not survives:
            _renewals.append(self.renew)

    def renew(self) -> None:
        """Its value as in a process that was started afresh."""
        self.value = self._make()

    def __repr__(self) -> str:
        return f"<ProcessVar {self.value!r}>"


def of_process(container: ClearableT) -> ClearableT:
    """Have a container that is empty at first emptied where an actor is forked off; returns it."""
    _renewals.append(container.clear)
    return container


def renew_all() -> list[object]:
    """In an actor's process that was forked off: as if it had been started afresh.

    Returns:
        What was there before.  It is the parent's, and to be kept: the end of an object may close a descriptor by a
        number that means something else by now.
    """
    before: list[object] = []
    for renew in _renewals:
        owner = getattr(renew, "__self__", None)
        before.append(owner.value if isinstance(owner, ProcessVar) else _content(owner))
        renew()
    return before


def _content(container: Any) -> list[object]:
    return list(container.items()) if hasattr(container, "items") else list(container)
