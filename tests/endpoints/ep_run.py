"""Running a test's main with a limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from tractor.to_asyncio import run_as_asyncio_guest

T = TypeVar("T")

LIMIT = 45.0
"""Seconds after which a test counts as hanging; it decides no other."""


def run(
    main: Callable[..., Awaitable[T]],
    *args: Any,
    limit: float = LIMIT,
    clock: trio.abc.Clock | None = None,
) -> T:
    """``trio.run(main, *args)`` that fails after ``limit`` seconds."""
    return trio.run(_bounded, main, args, limit, clock=clock)


def run_as_guest(main: Callable[..., Awaitable[T]], *args: Any, limit: float = LIMIT) -> T:
    """As :func:`run`, with trio as the guest of an asyncio loop: as an infected root without a runtime."""
    return run_as_asyncio_guest(lambda: _bounded(main, args, limit))


async def _bounded(main: Callable[..., Awaitable[T]], args: tuple[Any, ...], limit: float) -> T:
    with trio.fail_after(limit):
        return await main(*args)
