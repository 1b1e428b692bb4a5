"""Walking a run's tasks from another thread, while the loop may go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import trio

T = TypeVar("T")

TRIES = 20


def copied(copy: Callable[[], T]) -> T:
    """What ``copy()`` gives of a container that another thread may change meanwhile.

    Raises:
        RuntimeError: it has changed each time.
    """
    for _ in range(TRIES - 1):
        try:
            return copy()
        except RuntimeError:
            # It has changed while it was copied.
            continue
    return copy()


def all_tasks(
    root: trio.lowlevel.Task | None, by_name: bool = False
) -> Iterator[tuple[trio.lowlevel.Task, trio.lowlevel.Task | None]]:
    """The tasks of a run from ``root`` on, each with the one above it; parents come first.

    A loop that goes on meanwhile may change what is looked at: a task may then be missing, and no error comes of it.

    Args:
        root: ``None``: there is no run.
        by_name: those of a nursery come in the order of their names.
    """
    stack: list[tuple[trio.lowlevel.Task, trio.lowlevel.Task | None]] = []
    if root is not None:
        stack.append((root, None))
    seen: set[int] = set()
    while stack:
        task, parent = stack.pop()
        if id(task) in seen:
            continue
        seen.add(id(task))
        yield task, parent
        for nursery in list(task.child_nurseries):
            children = _children(nursery)
            if by_name:
                children.sort(key=lambda one: one.name, reverse=True)
            stack += [(child, task) for child in children]


def _children(nursery: trio.Nursery) -> list[trio.lowlevel.Task]:
    try:
        return copied(lambda: list(nursery.child_tasks))
    except RuntimeError:
        return []
