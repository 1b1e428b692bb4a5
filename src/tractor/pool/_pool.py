"""A pool of worker processes: calls and maps, with errors, cancellation and back pressure as in a nursery."""

from __future__ import annotations

import os
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, ParamSpec, TypeAlias, TypeVar, TypeVarTuple, Unpack, overload

import msgspec
import trio

from tractor._clustering import split_hosts, usable_cpus
from tractor._errors import RemoteActorError
from tractor._root import open_nursery
from tractor._util._caller import calling_code, find_caller
from tractor.hosts._place import HostLike
from tractor.pool._executor import PoolExecutor
from tractor.pool._items import GivesErrors, GivesValues, Handling
from tractor.pool._jobs import Call, Job, JobState, Pace, call_of
from tractor.pool._map import MapState, PoolMap
from tractor.pool._messages import Given
from tractor.pool._place import WorkerPlace
from tractor.pool._queue import JobQueue
from tractor.pool._rules import NO_RULES, Rules, rules_of
from tractor.pool._values import SHARE_ABOVE
from tractor.runtime._actor import Actor
from tractor.runtime._state import current_actor
from tractor.trionics._groups import collapse_eg
from tractor.trionics._ki import ki_protected, ki_protected_manager

P = ParamSpec("P")
T = TypeVar("T")
ItemT = TypeVar("ItemT")
Ts = TypeVarTuple("Ts")

Items: TypeAlias = Iterable[ItemT] | AsyncIterable[ItemT]

OF_START_ACTOR = frozenset(
    {
        "bind_addrs",
        "debug_mode",
        "drain",
        "enable_modules",
        "enable_transports",
        "host",
        "infect_asyncio",
        "inherit_parent_main",
        "lifespan",
        "logconfig",
        "loglevel",
        "nursery",
        "proc_kwargs",
    }
)
"""Keywords that go to each worker's start; all others are for the root, if this boots one."""


class WorkerPoolStatistics(msgspec.Struct, frozen=True):
    """State and counters of a pool.

    Attributes:
        workers: those that serve.
        waiting: jobs that no worker has yet.
        handed_out: jobs that workers have, run or about to be.
        done, failed, dropped: jobs that have returned, raised (or could not be run), were cancelled.
        retried: how often an item that had failed was tried again.
        replaced: workers that were started in the place of one that had ended.
    """

    workers: int
    waiting: int
    handed_out: int
    done: int
    failed: int
    dropped: int
    retried: int
    replaced: int


class _Single:
    """Who waits for the one job of a :meth:`WorkerPool.run`."""

    __slots__ = ("error", "over", "value")

    def __init__(self) -> None:
        self.over = trio.Event()
        self.value: Any = None
        self.error: BaseException | None = None

    def on_taken(self, job: Job) -> bool:
        return True

    def on_value(self, job: Job, value: Any) -> None:
        self.value = value
        self.over.set()

    def on_error(self, job: Job, error: BaseException) -> None:
        self.error = error
        self.over.set()

    def on_dropped(self, job: Job) -> None:
        self.over.set()


@ki_protected
class WorkerPool:
    """Worker processes that run functions for this actor, each of them one at a time.

    Not built by users: see :func:`open_worker_pool`.  Any task may use it, and several at once; jobs begin in the
    order in which they were asked for.
    """

    def __init__(
        self,
        actor: Actor,
        nursery: trio.Nursery,
        name: str,
        options: Sequence[dict[str, Any]],
        rules: Rules = NO_RULES,
    ) -> None:
        self.actor = actor
        self.nursery = nursery
        self.size = len(options)
        self._jobs = JobQueue(nursery)
        self._places = [
            WorkerPlace(self._jobs, actor, f"{actor.name}.{name}_{number}", given, rules)
            for number, given in enumerate(options)
        ]
        self._jobs.takers.extend(self._places)
        self._paces: dict[str, Pace] = {}
        self._calls: dict[Given, dict[Any, Call]] = {given: {} for given in Given}

    # -- for users ------------------------------------------------------------------------------------

    @overload
    async def run(
        self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
    @overload
    async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function in a worker, when one is free, and return its value.

        Args:
            fn: an async function, which runs as a task of the worker, or a sync one, which runs in a thread of its
                own there, always the same.  Found by name: it must be at the top of a module or class; that module
                need not be enabled.  A ``functools.partial`` with keywords will do.
            args, kwargs: its arguments, by position or keyword; they and the value travel as of any call.

        Raises:
            RemoteActorError: it raised.
            WorkerDied: its worker's process ended; the call is not tried again.
            ContextCancelled: its worker was cancelled, by a signal or another actor.
            MsgTypeError: arguments or value can't be sent, or are not what their annotations say.
            RuntimeFailure: the pool is closed.
            TypeError, ValueError: ``fn`` is not a function that a worker could call, or the arguments do not fit it;
                nothing was started.
            trio.Cancelled: this was cancelled: the call does not run any more.  An async function was cancelled; the
                worker of one that does not end in 0.616 s, and of a sync one in 0.05 s, was ended, and is replaced.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        sink = _Single()
        call = self._call_of(fn)
        job = self._jobs.submit(call, call.arguments(args, kwargs), sink)
        try:
            await sink.over.wait()
        except (trio.Cancelled, KeyboardInterrupt) as exc:
            await self._jobs.withdraw([job])
            if sink.error is None or isinstance(exc, KeyboardInterrupt):
                raise
        if sink.error is not None:
            if isinstance(sink.error, RemoteActorError):
                sink.error.note_caller(calling_code())
            raise sink.error
        return sink.value

    @overload
    def map(
        self,
        fn: Callable[[ItemT], Awaitable[T]],
        iterable: Items[ItemT],
        ordered: bool = True,
        **options: Unpack[GivesErrors],
    ) -> PoolMap[T | Exception]: ...
    @overload
    def map(
        self,
        fn: Callable[[ItemT], T],
        iterable: Items[ItemT],
        ordered: bool = True,
        **options: Unpack[GivesErrors],
    ) -> PoolMap[T | Exception]: ...
    @overload
    def map(
        self,
        fn: Callable[[ItemT], Awaitable[T]],
        iterable: Items[ItemT],
        ordered: bool = True,
        **options: Unpack[GivesValues],
    ) -> PoolMap[T]: ...
    @overload
    def map(
        self,
        fn: Callable[[ItemT], T],
        iterable: Items[ItemT],
        ordered: bool = True,
        **options: Unpack[GivesValues],
    ) -> PoolMap[T]: ...
    def map(
        self,
        fn: Callable[..., Any],
        iterable: Items[Any],
        ordered: bool = True,
        *,
        in_flight: int | None = None,
        retries: int = 0,
        timeout: float | None = None,
        key: Callable[[Any], object] | None = None,
        return_exceptions: bool = False,
    ) -> PoolMap[Any]:
        """Call a function for each item, in the workers; an async iterator of the values.

        Items are taken from ``iterable`` as values are read, so that only a bounded number of items and values exists
        at any time.  Nothing is started before the first value is asked for.  ``len()`` of the map is that of
        ``iterable``, which progress bars ask for.

        Args:
            fn: as for :meth:`run`; each item is its one positional argument.
            iterable: the items, also without end; an iterable or an async one.  An async generator is closed with
                the map.
            ordered: values come in the order of the items; else as they are ready.
            in_flight: items that were taken and whose value was not read, at most; default: twice as many as there
                are workers, and so many more of items that take little time that a worker always has about 10 ms of
                work, at most 512.
            retries: how often an item whose call raises, takes too long or loses its worker is tried again, behind
                the items that wait.  For calls that may be made twice.  Default: never.
            timeout: seconds that one try may take, from when the function begins.  An async function is cancelled
                then; the worker of a sync one, and of one that does not end, is ended and replaced.  A worker has one
                such item at a time.
            key: a function of an item; what it returns stands for the item in errors.
            return_exceptions: the error of an item that has failed, with its last try, is its value; the map goes on.

        Raises:
            TypeError, ValueError: ``fn`` is not a function that a worker could call, ``iterable`` none, or
                an option is out of its range.
        """
        how = Handling(retries, timeout, key, return_exceptions)
        return self._map(fn, Given.ITEM, iterable, ordered, in_flight, how)

    @overload
    def starmap(
        self,
        fn: Callable[[*Ts], Awaitable[T]],
        iterable: Items[tuple[*Ts]],
        ordered: bool = True,
        **options: Unpack[GivesErrors],
    ) -> PoolMap[T | Exception]: ...
    @overload
    def starmap(
        self,
        fn: Callable[[*Ts], T],
        iterable: Items[tuple[*Ts]],
        ordered: bool = True,
        **options: Unpack[GivesErrors],
    ) -> PoolMap[T | Exception]: ...
    @overload
    def starmap(
        self,
        fn: Callable[[*Ts], Awaitable[T]],
        iterable: Items[tuple[*Ts]],
        ordered: bool = True,
        **options: Unpack[GivesValues],
    ) -> PoolMap[T]: ...
    @overload
    def starmap(
        self,
        fn: Callable[[*Ts], T],
        iterable: Items[tuple[*Ts]],
        ordered: bool = True,
        **options: Unpack[GivesValues],
    ) -> PoolMap[T]: ...
    def starmap(
        self,
        fn: Callable[..., Any],
        iterable: Items[Any],
        ordered: bool = True,
        *,
        in_flight: int | None = None,
        retries: int = 0,
        timeout: float | None = None,
        key: Callable[[Any], object] | None = None,
        return_exceptions: bool = False,
    ) -> PoolMap[Any]:
        """As :meth:`map`, with a tuple of positional arguments for each item."""
        how = Handling(retries, timeout, key, return_exceptions)
        return self._map(fn, Given.POSITIONS, iterable, ordered, in_flight, how)

    def as_executor(self) -> PoolExecutor:
        """An executor of :mod:`concurrent.futures` whose calls this pool runs, for libraries that take one.

        To be made here, in the pool's event loop, and used in threads (``trio.to_thread.run_sync()``) or by asyncio
        code of the same process (``loop.run_in_executor()``), for as long as the pool is open: then the futures that
        are not done fail with RuntimeFailure, and ``submit()`` raises RuntimeError.  To shut it down does not close
        the pool; several are independent of each other.

        Raises:
            RuntimeFailure: the pool is closed.
        """
        return PoolExecutor(self._jobs, partial(self._call_of, given=Given.POSITIONS))

    def statistics(self) -> WorkerPoolStatistics:
        """A frozen record of plain values."""
        return WorkerPoolStatistics(
            workers=sum(place.is_serving for place in self._places),
            waiting=sum(job.state is JobState.WAITING for job in self._jobs.jobs),
            handed_out=sum(len(place.had) for place in self._places),
            done=self._jobs.done,
            failed=self._jobs.failed,
            dropped=self._jobs.dropped,
            retried=self._jobs.retried,
            replaced=sum(max(0, place.started - 1) for place in self._places),
        )

    def pformat(self) -> str:
        """A description on one line."""
        stats = self.statistics()
        state = "closed" if self._jobs.is_closing else "open"
        return (
            f"<WorkerPool {state}: {stats.workers} of {self.size} workers, {stats.handed_out} jobs "
            f"handed out, {stats.waiting} waiting>"
        )

    __repr__ = pformat

    # -- for its parts --------------------------------------------------------------------------------

    def _call_of(self, fn: Any, given: Given = Given.KEYWORDS) -> Call:
        calls = self._calls[given]
        try:
            known = calls.get(fn)
        except TypeError:
            # It has no hash: `call_of` says whether it can be called.
            return call_of(fn, given, self._paces)
        if known is None:
            known = calls[fn] = call_of(fn, given, self._paces)
        return known

    def _map(
        self,
        fn: Any,
        given: Given,
        iterable: Items[Any],
        ordered: bool,
        in_flight: int | None,
        handling: Handling,
    ) -> PoolMap[Any]:
        if in_flight is not None and in_flight < 1:
            raise ValueError(
                f"in_flight={in_flight}: at least one item must be allowed to be under way"
            )
        handling.check()
        call = call_of(fn, given, self._paces, by_item=True)
        caller = find_caller(2)
        return PoolMap(MapState(self._jobs, call, iterable, ordered, in_flight, handling, caller))

    async def start(self) -> None:
        """Start every worker, at the same time, and return when all serve; raises the first failure."""
        failure: Exception | None = None
        async with collapse_eg(add_notes=False), trio.open_nursery() as starting:

            async def start(place: WorkerPlace) -> None:
                nonlocal failure
                try:
                    await self.nursery.start(place.run)
                except Exception as exc:
                    # They are alike, and so are their failures: one is enough.
                    failure = failure or exc
                    starting.cancel_scope.cancel()

            for place in self._places:
                starting.start_soon(start, place)
        if failure is not None:
            raise failure


@ki_protected_manager
async def open_worker_pool(
    workers: int | None = None,
    *,
    name: str = "worker",
    hosts: Sequence[HostLike] | str | os.PathLike[str] | None = None,
    per_host: int | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: Sequence[Any] = (),
    max_tasks: int | None = None,
    max_rss: int | None = None,
    share_above: int | None = SHARE_ABOVE,
    **start_kwargs: Any,
) -> AsyncIterator[WorkerPool]:
    """A pool of worker processes for the length of the block; boots a root actor if there is none.

    When the block has been left, by whatever route, every worker has exited.

    Args:
        workers: how many; default: the CPUs that this process may use.
        name: the workers are called ``'<own name>.<name>_0'`` and so on.
        hosts: a list: on these, instead of this one, see :mod:`tractor.hosts`.  The workers of one that is lost are
            not replaced, as long as there are others; the calls that they had fail with :class:`WorkerDied`.  A path:
            the hosts file, for :func:`open_root_actor`.
        per_host: how many on each of ``hosts``; default: as many as it has cores.
        initializer: a function as for :meth:`WorkerPool.run`, called in each worker before it gets a job, in the thread
            that runs its sync functions, or as a task if it is async.  What it returns is
            :func:`tractor.actor_state` there.
        initargs: its arguments, by position.
        max_tasks: calls that a worker is given; then it is replaced, when they have ended.
        max_rss: bytes; a worker that has more resident after a call is replaced, when those that it has begun have
            ended.  Those that wait there go to others.  Where the platform does not tell (it is Linux that does), it
            never is.
        share_above: bytes from which on an array, or a frame, among arguments, items and values is not sent: its
            receiver gets memory that its sender has copied it to, for as long as it uses it (Linux, workers of this
            host); ``None``: all are sent.
        start_kwargs: keywords of :meth:`ActorNursery.start_actor`, for each worker; others, such as ``start_method``,
            are for :func:`open_root_actor`, and without effect under a running runtime.

    Yields:
        The pool, when all workers serve.

    Raises:
        ValueError: ``workers``, ``max_tasks``, ``max_rss`` or ``share_above`` is below 1; ``workers`` is given beside a
            list of ``hosts``, ``per_host`` without one, or ``initargs`` without an initializer.
        TypeError, ValueError: ``initializer`` is not a function that a worker could call.
        HostUnavailable: one of ``hosts`` can't be used.
        ActorFailure and others: as :meth:`ActorNursery.start_actor`, also if a worker that died can't be replaced.
        RemoteActorError: a worker's lifespan or the initializer has failed at its start.
        BaseException: what the block raised.
    """
    spread, table = split_hosts(hosts, per_host, workers, "workers")
    size = usable_cpus() if workers is None else workers
    if size < 1:
        raise ValueError(f"workers={workers}: a pool needs at least one worker")
    rules = rules_of(initializer, initargs, max_tasks, max_rss, share_above)
    options = {key: value for key, value in start_kwargs.items() if key in OF_START_ACTOR}
    root_kwargs = {key: value for key, value in start_kwargs.items() if key not in OF_START_ACTOR}
    if table is not None:
        root_kwargs["hosts"] = table
    async with (
        open_nursery(**root_kwargs),
        AsyncExitStack() as stack,
        collapse_eg(add_notes=False),
        trio.open_nursery() as tn,
    ):
        each = [options] * size
        if spread is not None:
            from tractor.hosts._handle import open_spread

            handles = await stack.enter_async_context(open_spread(spread, per_host))
            each = [{**options, "host": handle} for handle in handles]
        pool = WorkerPool(current_actor(), tn, name, each, rules)
        await pool.start()
        try:
            yield pool
        finally:
            pool._jobs.close()
