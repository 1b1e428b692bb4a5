"""A worker pool as an executor of `concurrent.futures`, for libraries that take one."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import trio

from tractor.pool._jobs import Call, Job, JobState
from tractor.pool._queue import JobQueue

P = ParamSpec("P")
T = TypeVar("T")


class PoolFuture(concurrent.futures.Future[T]):
    """The future of one call; not built by users."""

    def __init__(self, loop_thread: int) -> None:
        super().__init__()
        self._loop_thread = loop_thread

    def result(self, timeout: float | None = None) -> T:
        """As of every future.  Raises RuntimeError in the thread of the event loop, which the result comes through."""
        refuse_to_block([self], self._loop_thread)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As of every future.  Raises RuntimeError as :meth:`result`."""
        refuse_to_block([self], self._loop_thread)
        return super().exception(timeout)


def refuse_to_block(futures: Iterable[concurrent.futures.Future[Any]], loop_thread: int) -> None:
    """Raises RuntimeError: who would wait here keeps the futures from being done."""
    if threading.get_ident() == loop_thread and not all(future.done() for future in futures):
        raise RuntimeError(
            "futures of a worker pool can't be waited for in the thread of the event loop, which their results come"
            " through: use `await pool.run()`, await them in asyncio, or wait in `trio.to_thread.run_sync()`"
        )


class _Waiting:
    """Who waits for the job of a future.  Used in the event loop's thread alone."""

    __slots__ = ("future", "is_told")

    def __init__(self, future: PoolFuture[Any]) -> None:
        self.future = future
        self.is_told = False

    def on_taken(self, job: Job | None) -> bool:
        """A worker may take it; whether that is still wanted.  From then on the future can't be cancelled."""
        if self.is_told:
            return not self.future.cancelled()
        self.is_told = True
        return self.future.set_running_or_notify_cancel()

    def on_value(self, job: Job, value: Any) -> None:
        self.future.set_result(value)

    def on_error(self, job: Job | None, error: BaseException) -> None:
        if self.on_taken(job):
            self.future.set_exception(error)

    def on_dropped(self, job: Job) -> None:
        self.future.cancel()
        self.on_taken(job)


class PoolExecutor(concurrent.futures.Executor):
    """A face of a :class:`WorkerPool` for libraries that know executors; see :meth:`WorkerPool.as_executor`.

    Its methods may be called in any thread of this process.  Those that wait must not be called in the thread of the
    event loop, and raise RuntimeError there.
    """

    def __init__(self, jobs: JobQueue, call_of: Callable[[Any], Call]) -> None:
        jobs.refuse_if_closed()
        self._jobs = jobs
        self._call_of = call_of
        self._token = trio.lowlevel.current_trio_token()
        self._loop_thread = threading.get_ident()
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._pending: set[concurrent.futures.Future[Any]] = set()
        self._by_future: dict[concurrent.futures.Future[Any], Job] = {}
        self._is_shut = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> PoolFuture[T]:
        """Have a worker call a function; never waits.

        Args:
            fn: as for :meth:`WorkerPool.run`; also a ``functools.partial`` with positional arguments.
            args, kwargs: its arguments.

        Returns:
            The future.  It can be cancelled until a worker is given the call.  Its exception is what ``run()`` would
            raise.

        Raises:
            RuntimeError: this executor was shut down, the pool is closed, or this process is a fork of the pool's.
        """
        # First: in a fork the lock may be held for ever.
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"this executor belongs to process {self._pid}, and this is a fork of it, {os.getpid()}: open a worker"
                " pool here"
            )
        future: PoolFuture[T] = PoolFuture(self._loop_thread)
        with self._lock:
            if self._is_shut:
                raise RuntimeError("cannot schedule new futures after shutdown() of this executor")
            if self._jobs.is_closing:
                raise RuntimeError("cannot schedule new futures: the worker pool is closed")
            try:
                self._token.run_sync_soon(self._begin, future, fn, args, kwargs)
            except trio.RunFinishedError:
                raise RuntimeError(
                    "cannot schedule new futures: the worker pool is closed"
                ) from None
            self._pending.add(future)
        future.add_done_callback(self._forget)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.  The pool itself stays open.

        Args:
            wait: return when all futures are done.
            cancel_futures: cancel those that no worker has been given.

        Raises:
            RuntimeError: it would have to wait in the thread of the event loop.  It is shut down all the same.
        """
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._is_shut = True
            pending = list(self._pending)
        if cancel_futures:
            for future in pending:
                future.cancel()
        if wait:
            refuse_to_block(pending, self._loop_thread)
            concurrent.futures.wait(pending)

    # -- in the event loop ----------------------------------------------------------------------------

    def _begin(self, future: PoolFuture[Any], fn: Any, args: tuple[Any, ...], kwargs: Any) -> None:
        waiting = _Waiting(future)
        if future.cancelled():
            waiting.on_taken(None)
            return
        while isinstance(fn, functools.partial):
            fn, args, kwargs = fn.func, (*fn.args, *args), {**fn.keywords, **kwargs}
        try:
            call = self._call_of(fn)
            job = self._jobs.submit(call, call.arguments(args, kwargs), waiting)
        except Exception as exc:
            waiting.on_error(None, exc)
            return
        if not future.done():
            self._by_future[future] = job

    def _forget(self, future: concurrent.futures.Future[Any]) -> None:
        """A future is done, or was cancelled, in whichever thread."""
        with self._lock:
            self._pending.discard(future)
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._end, future)

    def _end(self, future: concurrent.futures.Future[Any]) -> None:
        job = self._by_future.pop(future, None)
        if job is not None and job.state is JobState.WAITING and future.cancelled():
            self._jobs.drop(job)
