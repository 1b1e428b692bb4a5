"""What a program puts around an actor's serving: its lifespan, and its background tasks.

Theory of operation.  Both have a task of their own, out of reach of the scopes around the root's block and of the
requests that are served.  The lifespan is entered before the actor begins any request; an error there is that of the
actor's start.  Later each error of either is the actor's failure (`Actor.fail`): it goes down, and says why.

**The end.**  What is served, and the root's block, end first, since they may use both; then the background tasks are
cancelled, and waited for; then the lifespan is left, in order and not by an exception, whatever ends the actor: what
stands behind its ``yield`` runs, and may wait.  How long is the business of those who want the actor gone: the ladder
of its parent, the lifeline.  Who insists (a further signal) cancels what is left.

**Why the races are safe.**

- *The actor is cancelled while its lifespan is entered*: that runs under the start's scopes, and is cancelled with it.
- *... at the very moment when it is entered*: it is shielded before that is told.  So it has either moved out of the
  start's scopes, and is left by `close()`, or it sees that it has not, and leaves by itself.
- *Both fail*, or fail again while they are closed: `Actor.fail` takes each of them.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import trio

from tractor._errors import RuntimeFailure
from tractor.trionics._groups import is_multi_cancelled, the_one_error

Lifespan: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]
"""Makes the async context manager around an actor's life."""

OnError: TypeAlias = Callable[[BaseException], Awaitable[None]]


class Life:
    """The lifespan and the background tasks of one actor.

    Args:
        on_error: takes what either raises, once the actor serves.
        on_crash: told of each of their errors first, where it stands; the debugger's.
    """

    def __init__(self, on_error: Callable[[BaseException], None], on_crash: OnError) -> None:
        # When the actor was made, in nanoseconds of the monotonic clock.
        self.began = time.monotonic_ns()
        # What its start has failed with.
        self.start_error: BaseException | None = None
        self._on_error = on_error
        self._on_crash = on_crash
        # Hosts the background tasks; there is one while the actor's runtime is open.
        self.nursery: trio.Nursery | None = None
        # What either has raised while the actor served, or at its end.
        self.failures: list[BaseException] = []
        self._background_over = trio.Event()
        # What the lifespan has yielded; empty: there is none, or it is not entered.
        self._states: list[Any] = []
        self._entered = False
        self._may_leave = trio.Event()
        self._left = trio.Event()
        self._scope = trio.CancelScope()

    @property
    def background(self) -> trio.Nursery:
        """The nursery of the background tasks."""
        if self.nursery is None:
            raise RuntimeFailure("this actor's runtime is not open, so it runs no background tasks")
        return self.nursery

    @property
    def state(self) -> Any:
        """What the lifespan has yielded."""
        if not self._states:
            raise RuntimeFailure(
                "this actor has no state: it was started without `lifespan=`, or that is not entered yet, or left"
            )
        return self._states[0]

    def share(self, value: Any) -> None:
        """Have ``value`` be the state from now on; ``None`` does not replace what the lifespan has yielded."""
        if value is not None or not self._states:
            self._states[:] = [value]

    @property
    def is_entered(self) -> bool:
        """Whether there is a lifespan that is to be left."""
        return self._entered

    @property
    def failure(self) -> BaseException | None:
        """What either has raised: one error, or a group."""
        if len(self.failures) > 1:
            return BaseExceptionGroup("an actor has failed, and again as it ended", self.failures)
        return self.failures[0] if self.failures else None

    # -- background tasks -----------------------------------------------------------------------------

    async def run_background(
        self,
        host: Callable[..., Awaitable[None]],
        *,
        task_status: trio.TaskStatus[trio.Nursery] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """The task of the background's nursery, which ``host(task_status=...)`` opens and keeps."""
        try:
            await host(task_status=task_status)
        except trio.Cancelled:
            raise
        except BaseException as exc:
            await self._fail(exc)
        finally:
            self._background_over.set()

    # -- the lifespan ---------------------------------------------------------------------------------

    async def enter(self, make: Lifespan, nursery: trio.Nursery) -> None:
        """Enter the lifespan; it stays until :meth:`close`, in a task of ``nursery``.

        Raises:
            TypeError: ``make`` makes no async context manager.
            BaseException: what it raises.
        """
        await nursery.start(self._run, make, nursery, name="lifespan")
        # One that has left by itself tells of no cancellation.
        await trio.lowlevel.checkpoint_if_cancelled()

    async def _run(
        self, make: Lifespan, nursery: trio.Nursery, *, task_status: trio.TaskStatus[None]
    ) -> None:
        try:
            with self._scope:
                async with _opened(make) as value:
                    self._states.append(value)
                    self._entered = self._scope.shield = True
                    task_status.started()
                    if trio.lowlevel.current_task().parent_nursery is nursery:
                        await self._may_leave.wait()
            if (
                trio.lowlevel.current_task().parent_nursery is nursery
                and not self._may_leave.is_set()
            ):
                raise RuntimeFailure(f"the lifespan {make!r} has ended by itself, before its actor")
        except trio.Cancelled:
            raise
        except BaseException as exc:
            if not self._entered:
                await self._on_crash(exc)
                raise
            await self._fail(exc)
        finally:
            self._states.clear()
            self._left.set()

    # -- the end --------------------------------------------------------------------------------------

    async def close(self) -> None:
        """End the background tasks, then leave the lifespan; returns when both are over.  To be called shielded."""
        if self.nursery is not None:
            self.nursery.cancel_scope.cancel()
            await self._background_over.wait()
        if self._entered:
            self._may_leave.set()
            await self._left.wait()

    async def left(self) -> None:
        """Wait until the lifespan is left."""
        await self._left.wait()

    def insist(self) -> None:
        """Cancel what a lifespan that is being left still does."""
        if self._may_leave.is_set():
            self._scope.cancel()

    async def _fail(self, exc: BaseException) -> None:
        if is_multi_cancelled(exc):
            # Of a scope that is not ours to know: nothing has failed.
            raise exc
        exc = the_one_error(exc)
        try:
            await self._on_crash(exc)
        finally:
            self._on_error(exc)


def require_lifespan(fn: Any) -> None:
    """Return where ``fn()`` may make an async context manager.

    Raises:
        TypeError: it can't.
    """
    if not callable(fn) or inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(
            f"`lifespan` is a function without arguments that makes an async context manager, as one that is decorated "
            f"with `contextlib.asynccontextmanager`, or its 'module:name'; not {fn!r}"
        )


def _opened(make: Lifespan) -> AbstractAsyncContextManager[Any]:
    require_lifespan(make)
    manager = make()
    if not hasattr(manager, "__aenter__") or not hasattr(manager, "__aexit__"):
        raise TypeError(f"the lifespan {make!r} has made no async context manager, but {manager!r}")
    return manager
