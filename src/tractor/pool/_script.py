"""A worker pool for scripts without async."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar, overload

import trio

from tractor.pool._pool import Items, open_worker_pool
from tractor.spawn._parent_main import refuse_in_replay

T = TypeVar("T")
ItemT = TypeVar("ItemT")


@overload
def run_pool(
    fn: Callable[[ItemT], Awaitable[T]],
    items: Items[ItemT],
    *,
    workers: int | None = None,
    on_value: Callable[[T | Exception], object] | None = None,
    return_exceptions: Literal[True],
    ordered: bool = True,
    in_flight: int | None = None,
    retries: int = 0,
    timeout: float | None = None,
    key: Callable[[Any], object] | None = None,
    **options: Any,
) -> list[T | Exception]: ...
@overload
def run_pool(
    fn: Callable[[ItemT], T],
    items: Items[ItemT],
    *,
    workers: int | None = None,
    on_value: Callable[[T | Exception], object] | None = None,
    return_exceptions: Literal[True],
    ordered: bool = True,
    in_flight: int | None = None,
    retries: int = 0,
    timeout: float | None = None,
    key: Callable[[Any], object] | None = None,
    **options: Any,
) -> list[T | Exception]: ...
@overload
def run_pool(
    fn: Callable[[ItemT], Awaitable[T]],
    items: Items[ItemT],
    *,
    workers: int | None = None,
    on_value: Callable[[T], object] | None = None,
    return_exceptions: Literal[False] = False,
    ordered: bool = True,
    in_flight: int | None = None,
    retries: int = 0,
    timeout: float | None = None,
    key: Callable[[Any], object] | None = None,
    **options: Any,
) -> list[T]: ...
@overload
def run_pool(
    fn: Callable[[ItemT], T],
    items: Items[ItemT],
    *,
    workers: int | None = None,
    on_value: Callable[[T], object] | None = None,
    return_exceptions: Literal[False] = False,
    ordered: bool = True,
    in_flight: int | None = None,
    retries: int = 0,
    timeout: float | None = None,
    key: Callable[[Any], object] | None = None,
    **options: Any,
) -> list[T]: ...
def run_pool(
    fn: Callable[..., Any],
    items: Items[Any],
    *,
    workers: int | None = None,
    on_value: Callable[[Any], object] | None = None,
    return_exceptions: bool = False,
    ordered: bool = True,
    in_flight: int | None = None,
    retries: int = 0,
    timeout: float | None = None,
    key: Callable[[Any], object] | None = None,
    **options: Any,
) -> list[Any]:
    """Call a function for each item, in worker processes, and return the values: for scripts without async.

    When it returns or raises, every worker has exited.  The script needs ``if __name__ == "__main__":`` around it.

    Args:
        fn: a function at the top of a module or class, sync or async; each item is its one argument.
        items: the items.
        workers: how many processes; default: the CPUs that this one may use.
        on_value: called with each value as it is ready to be given, say to move a progress bar.
        return_exceptions, ordered, in_flight, retries, timeout, key: see :meth:`WorkerPool.map`.
        options: keywords of :func:`open_worker_pool`, such as ``initializer`` and ``start_method``.

    Returns:
        The values, in the order of the items, or, with ``ordered=False``, as they were ready.

    Raises:
        RuntimeFailure: the script has no main guard, so that its import in a worker has come here.
        RuntimeError: it was called from async code of trio's.
        Exception: as a :meth:`WorkerPool.map` that is read to its end, and :func:`open_worker_pool`; what
            ``on_value`` raises.
    """
    # Before anything else is looked at: a worker imports the script within its own run of trio.
    refuse_in_replay(any_thread=True)
    if trio.lowlevel.in_trio_run():
        raise RuntimeError(
            "run_pool() is for code without async; here use `async with tractor.trionics.open_worker_pool()`"
        )

    async def main() -> list[Any]:
        values: list[Any] = []
        async with open_worker_pool(workers, **options) as pool:
            found: Any = pool.map(
                fn,
                items,
                ordered,
                in_flight=in_flight,
                retries=retries,
                timeout=timeout,
                key=key,
                return_exceptions=return_exceptions,  # type: ignore[call-overload]
            )
            async for value in found:
                values.append(value)
                if on_value is not None:
                    on_value(value)
        return values

    return trio.run(main)
