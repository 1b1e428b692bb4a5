"""What a block has left behind: threads and sub-interpreters, counted."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Writer = Callable[[str], object]


def _count() -> tuple[int, int]:
    """Threads that live, and sub-interpreters beside the main one."""
    return threading.active_count(), _subinterpreters()


def _subinterpreters() -> int:
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            return len(importlib.import_module(name).list_all()) - 1
        except ImportError:
            continue
    return 0


@contextmanager
def track_resource_deltas(
    label: str = "", *, writer: Writer | None = None
) -> Iterator[tuple[int, int]]:
    """Report ``label: threads A->B, subints C->D`` at the block's end: how many there were before and are after.

    Args:
        label: what the block is.
        writer: called with the line; default: it is printed on stderr.

    Yields:
        The numbers of threads and of sub-interpreters before.
    """
    before = _count()
    try:
        yield before
    finally:
        after = _count()
        line = f"{label}: threads {before[0]}->{after[0]}, subints {before[1]}->{after[1]}"
        if writer is None:
            print(line, file=sys.stderr)
        else:
            writer(line)


def resource_delta_fixture(*, autouse: bool = True, writer: Writer | None = None) -> Any:
    """A pytest fixture that reports for each test, by its node id, as :func:`track_resource_deltas` does.

    To be used in a ``conftest.py``, as ``resource_deltas = resource_delta_fixture()``.

    Args:
        autouse: every test has it; else those that name it.
        writer: as for :func:`track_resource_deltas`.

    Raises:
        ImportError: pytest is not installed.
    """
    import pytest

    @pytest.fixture(autouse=autouse)
    def resource_deltas(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
        with track_resource_deltas(request.node.nodeid, writer=writer) as before:
            yield before

    return resource_deltas
