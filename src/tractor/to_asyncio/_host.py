"""The asyncio loop as host of this thread's trio run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import trio

from tractor import log as _log
from tractor._errors import AsyncioRuntimeTranslationError, TransportClosed
from tractor._util.dist._name import pip_install
from tractor.msg._boxing import pack_error
from tractor.runtime._actor import Actor
from tractor.runtime._state import asyncio_host, current_actor
from tractor.to_asyncio._ctrl_c import CtrlC
from tractor.to_asyncio._leftovers import end_loop

log = _log.get_logger()

T = TypeVar("T")

LOOP_VARIABLE = "TRACTOR_ASYNCIO_LOOP"
"""Environment variable that says which loop hosts trio: ``asyncio`` (default) or ``uvloop``."""

STOPPED_LIMIT = 10.0
"""Seconds in which trio must have finished after its host loop was stopped."""

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run_as_asyncio_guest(
    trio_main: Callable[[], Awaitable[T]], *, loop_factory: LoopFactory | None = None
) -> T:
    """Run ``trio_main()`` in trio, as the guest of an asyncio loop; for an infected root, in place of ``trio.run()``.

    When it returns, trio has finished, every asyncio task has ended or was given up with a log message, and the loop
    is closed.

    Args:
        trio_main: an async function without arguments.
        loop_factory: makes the loop; default: as the environment variable ``TRACTOR_ASYNCIO_LOOP`` says.

    Returns:
        What ``trio_main()`` returns.

    Raises:
        BaseException: what leaves ``trio_main()``.
        KeyboardInterrupt: ctrl-c.  The first one cancels the actor and is raised when trio has finished; a second
            one is raised in trio's main task.
        AsyncioRuntimeTranslationError: the loop was stopped before trio had finished.
        RuntimeError: asyncio or trio runs in this thread already.
        ValueError, ImportError: the environment variable names no loop, or one that is not installed.
    """
    runs = "asyncio" if asyncio._get_running_loop() is not None else None
    with contextlib.suppress(RuntimeError):
        trio.lowlevel.current_trio_token()
        runs = "trio"
    if runs is not None:
        raise RuntimeError(
            "run_as_asyncio_guest() starts an asyncio loop with trio as its guest, and "
            f"{runs} runs in this thread already; call it in place of trio.run() or asyncio.run()"
        )
    return GuestRun(trio_main, (loop_factory or chosen_loop_factory())()).run()


def run_infected(trio_main: Callable[[], Awaitable[T]]) -> T:
    """As :func:`run_as_asyncio_guest`, for a subactor."""
    return GuestRun(trio_main, chosen_loop_factory()()).run()


def chosen_loop_factory() -> LoopFactory:
    """What makes the loop that the environment asks for.  Raises ValueError, ImportError."""
    name = os.environ.get(LOOP_VARIABLE) or "asyncio"
    if name == "asyncio":
        return asyncio.new_event_loop
    if name != "uvloop":
        raise ValueError(f"{LOOP_VARIABLE}={name!r} is none of 'asyncio' and 'uvloop'")
    try:
        import uvloop
    except ImportError as exc:
        raise ImportError(
            f"{LOOP_VARIABLE}='uvloop' needs the package uvloop: {pip_install('uvloop')}"
        ) from exc
    factory: LoopFactory = uvloop.new_event_loop
    return factory


def current_host(what: str) -> GuestRun[Any]:
    """The host of the running trio run, or of the running asyncio task.

    Args:
        what: the function that needs it, for the error's text.

    Raises:
        RuntimeError: trio does not run as a guest of asyncio here.
    """
    host = asyncio_host.get()
    if not isinstance(host, GuestRun) or asyncio._get_running_loop() is not host.loop:
        actor = current_actor(err_on_no_runtime=False)
        who = f"{actor.aid.reprol()} is no such actor" if actor else "no actor runs here"
        raise RuntimeError(
            f"{what} needs an actor whose trio runs as a guest of asyncio, and {who}: start it with "
            "`infect_asyncio=True`, or a root through `tractor.to_asyncio.run_as_asyncio_guest()`"
        )
    return host


class GuestRun(Generic[T]):
    """One asyncio loop, and the trio run that is its guest.

    Attributes:
        loop: the loop; it runs in the thread that has called :meth:`run`.
        token: trio's, once its main task has begun.
        scope: cancels trio's main task.
    """

    def __init__(
        self, trio_main: Callable[[], Awaitable[T]], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.loop = loop
        self.token: trio.lowlevel.TrioToken | None = None
        self.scope = trio.CancelScope()
        self.finished = False
        self._trio_main = trio_main
        self._done: asyncio.Future[None] | None = None
        self._outcome: Any = None
        self._cancelled = False
        self._failure: BaseException | None = None
        self._abandoned = False
        self._actor: Actor | None = None
        self._ctrl_c = CtrlC(self)

    def run(self) -> T:
        """Run the loop until trio has finished, and close it; what trio's main function returns or raises."""
        asyncio.set_event_loop(self.loop)
        try:
            with self._ctrl_c:
                self._pump()
                if self._actor is not None:
                    # Done by the actor itself, unless it was interrupted a second time.
                    self._actor.lifetime_stack.close()
        finally:
            end_loop(self.loop)
        return self._result()

    def cancel(self) -> None:
        """Cancel the actor, or what runs where there is none; from the host's side, returns at once."""
        self._cancelled = True
        self.in_trio(self._cancel)

    def fail(self, exc: BaseException) -> None:
        """As :meth:`cancel`; :meth:`run` will raise ``exc``."""
        self._failure = exc if self._failure is None else self._failure
        self.cancel()

    def interrupted_again(self) -> None:
        """The actor has received a further SIGINT after the one that cancelled it; in trio."""
        self._ctrl_c.note()

    def abandon(self, exc: BaseException) -> None:
        """Have :meth:`run` raise ``exc`` without waiting for trio any longer."""
        log.critical("trio does not end, and is abandoned: its tasks are left as they stand")
        self._failure, self._abandoned = exc, True
        self.loop.stop()

    def in_trio(self, fn: Callable[[], object]) -> None:
        """Run a sync function soon in trio; nothing once trio has finished, or where it has not begun."""
        if self.token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self.token.run_sync_soon(fn)

    # -- the host's side ------------------------------------------------------------------------------

    def _pump(self) -> None:
        # Not by the loop's task factory: an eager task would begin here.
        task = asyncio.Task(self._host_main(), loop=self.loop, name="host of trio")
        try:
            self.loop.run_until_complete(task)
        except BaseException as exc:
            if self._outcome is not None or (task.done() and self.token is None):
                raise
            if not self._abandoned:
                self._on_stopped(exc)
                self._pump_the_rest(task)

    def _on_stopped(self, exc: BaseException) -> None:
        """The loop was stopped, or an error has left it that asyncio keeps for no task."""
        if isinstance(exc, RuntimeError):
            failure: BaseException = AsyncioRuntimeTranslationError(
                "the asyncio loop was stopped before trio, its guest, had finished: "
                "the asyncio side stopped first; trio was cancelled"
            )
            failure.__cause__ = exc
        else:
            failure = exc
        log.error("the asyncio loop has stopped before trio: %r; trio is cancelled", exc)
        self.fail(failure)

    def _pump_the_rest(self, task: asyncio.Task[None]) -> None:
        """Run the stopped loop on until trio has finished, however often it is stopped, within a limit."""
        end = self.loop.time() + STOPPED_LIMIT
        while not task.done() and not self._abandoned:
            left = end - self.loop.time()
            if left <= 0:
                self._abandoned = True
                log.critical("trio has not finished within %s s after its host loop", STOPPED_LIMIT)
                return
            with contextlib.suppress(RuntimeError):
                self.loop.run_until_complete(asyncio.wait({task}, timeout=left))

    async def _host_main(self) -> None:
        self._done = self.loop.create_future()
        asyncio_host.set(self)
        with self._ctrl_c.as_trio_finds_it():
            trio.lowlevel.start_guest_run(
                self._guest_main,
                run_sync_soon_threadsafe=self._soon_threadsafe,
                run_sync_soon_not_threadsafe=self.loop.call_soon,
                done_callback=self._on_trio_done,
                host_uses_signal_set_wakeup_fd=_wakeup_fd_is_taken(),
                strict_exception_groups=True,
            )
        while not self._done.done():
            try:
                await asyncio.wait({self._done})
            except asyncio.CancelledError:
                if self._abandoned:
                    return
                self.cancel()

    def _soon_threadsafe(self, fn: Callable[[], object]) -> None:
        # An abandoned trio run may still have a thread that waits for sockets.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(fn)

    def _on_trio_done(self, outcome: Any) -> None:
        self.finished = True
        self._outcome = outcome
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _result(self) -> T:
        outcome, failure = self._outcome, self._failure
        error = getattr(outcome, "error", None)
        if failure is not None:
            if error is not None and failure.__cause__ is None:
                failure.__cause__ = error
            raise failure
        if error is None and self._ctrl_c.is_to_be_raised:
            raise KeyboardInterrupt
        value: T = outcome.unwrap()
        return value

    # -- trio's side ----------------------------------------------------------------------------------

    async def _guest_main(self) -> Any:
        self.token = trio.lowlevel.current_trio_token()
        if self._cancelled:
            self.scope.cancel()
        with self.scope:
            return await self._trio_main()

    def _cancel(self) -> None:
        actor = current_actor(err_on_no_runtime=False)
        if actor is not None and actor.is_infected_aio():
            self._actor = actor
            if self._failure is not None:
                tell_parent(actor, self._failure)
            actor.cancel_soon()
        else:
            self.scope.cancel()


def tell_parent(actor: Actor, exc: BaseException) -> None:
    """Tell an actor's parent, if it has one, what its runtime fails with."""
    chan = actor.parent_chan
    if chan is not None and chan.connected():
        with contextlib.suppress(TransportClosed):
            chan.transport.put(pack_error(exc, cid=0, src_uid=actor.aid.uid))


def _wakeup_fd_is_taken() -> bool:
    """Whether this thread's signals wake up the host loop already."""
    if threading.current_thread() is not threading.main_thread():
        return False
    try:
        fd = signal.set_wakeup_fd(-1)
    except ValueError:
        # A sub-interpreter's.
        return False
    if fd != -1:
        signal.set_wakeup_fd(fd)
    return fd != -1
