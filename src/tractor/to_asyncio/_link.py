"""Carrying out the life of a link: the driver of `_proto/aio_link.py`.

Theory of operation.  Both sides run in one thread, so each may call the other's synchronous functions directly, and
nothing changes between two awaits of either.  What each side's end means for the other one is decided by the table;
here is only when the ends are noticed.  asyncio tells of a task's end by a callback, one turn of its loop later: a
task that is done and whose callback has not run counts as ended.  An exception is raised in a task by setting it on
the future that the task awaits, and only where that can harm nobody else (`_deliver.py`); until then it waits.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

import trio

from tractor import log as _log
from tractor._errors import (
    AsyncioCancelled,
    AsyncioRuntimeTranslationError,
    AsyncioTaskExited,
    TrioCancelled,
    TrioTaskExited,
)
from tractor._proto.aio_link import (
    UNWINDS,
    AioEnd,
    AioLink,
    LinkDo,
    LinkPhase,
    Related,
    Relation,
    TrioEnd,
    Verdict,
    aio_end,
    related,
    without,
)
from tractor.runtime._vars import runtime_vars
from tractor.to_asyncio._deliver import codes, maybe_signal_aio_task
from tractor.to_asyncio._leftovers import CANCEL_DEADLINE
from tractor.to_asyncio._queue import AsyncioQueue
from tractor.trionics._groups import is_multi_cancelled
from tractor.trionics._ki import ki_protected

log = _log.get_logger()

CHANNEL_SIZE = 256
"""Values in each direction that nobody has read yet, at most."""

GRACE = 0.5
"""Seconds for a task to end by itself once it was told of the trio side's end, and for a reader to read on."""

RETRIES = 10
"""How often, a turn of the loop apart, a task that does not wait is looked at again before it is cancelled."""


@ki_protected
class TaskLink:
    """One asyncio task and the trio block that it belongs to.

    Args:
        size: the bound of both directions, in values.

    Attributes:
        machine: what state it is in.
        scope: around the trio block.
        name: the task's, for messages.
        entry: set when the task has started, or has ended before.
        ended: set when the task has ended, or was given up.
        error: the task's own error, or that it was given up.
        value: what it has returned.
    """

    def __init__(self, size: int) -> None:
        self.machine = AioLink()
        self.scope = trio.CancelScope()
        self.entry = trio.Event()
        self.ended = trio.Event()
        self.name = ""
        self.first: Any = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.size = size
        self.to_aio = AsyncioQueue(self._on_read, self._on_swallowed)
        self.to_trio, self.from_aio = trio.open_memory_channel[Any](size)
        self.room = trio.lowlevel.ParkingLot()
        self._senders: deque[asyncio.Future[None]] = deque()
        self.left = False
        self.deaf = False
        self.ends_of_values: weakref.WeakSet[BaseException] = weakref.WeakSet()
        self._reads = trio.lowlevel.ParkingLot()
        self._told: BaseException | None = None
        self._begun = False
        self._has_started = False
        self._entered = False
        self._held = False
        self._fatal: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._task: asyncio.Task[Any] | None = None
        self._coro: Any = None
        self._loop = asyncio.get_running_loop()

    # -- the asyncio side -----------------------------------------------------------------------------

    def launch(self, target: Callable[..., Any], kwargs: dict[str, Any]) -> None:
        """Start the task.  Raises TypeError: ``target`` gives no awaitable; and what calling it raises."""
        self.name = name_of(target)
        try:
            coro = target(**kwargs)
        except BaseException:
            self._close()
            raise
        if not inspect.isawaitable(coro):
            self._close()
            raise TypeError(
                f"{self.name}() gives a {type(coro).__name__!r}, and no awaitable: "
                "it must be an async function"
            )
        self._coro = coro
        # Not by the loop's task factory: an eager task would begin here, inside of trio.
        self._task = asyncio.Task(self._drive(coro), loop=self._loop, name=self.name)
        self._task.add_done_callback(self._on_task_done)

    async def _drive(self, coro: Any) -> Any:
        self._begun = True
        if runtime_vars().use_greenback:
            await _give_portal()
        try:
            return await coro
        except (KeyboardInterrupt, SystemExit) as exc:
            # They would stop the loop.
            self._fatal = exc
            return None

    @property
    def entry_failed(self) -> bool:
        """Whether the task has ended before it had started."""
        return self.machine.phase is LinkPhase.AIO_DONE and not self._entered

    @property
    def task(self) -> asyncio.Task[Any]:
        """The asyncio task."""
        assert self._task is not None
        return self._task

    def started(self, value: Any) -> None:
        """The task has started.  Raises RuntimeError: for the second time, or it has ended."""
        if self._has_started:
            raise RuntimeError(f"started_nowait() was called a second time by {self.name!r}")
        if not self._entered:
            self.enter()
        self._has_started = True
        self.first = value

    def enter(self) -> None:
        """The trio side waits for no word of the task that it has started, or that has come."""
        todo = self.machine.started()
        self._entered = True
        self._carry_out(todo)

    def put_nowait(self, item: Any) -> None:
        """Send to the trio side.

        Raises:
            trio.WouldBlock: there is no room.
            trio.BrokenResourceError: the trio side reads no more.
            trio.ClosedResourceError: the task has ended; somebody else has called this.
            TrioTaskExited, TrioCancelled: the trio side has ended.
        """
        if self._told is not None:
            self.to_aio.told = True
            raise self._told
        try:
            self.to_trio.send_nowait(item)
        except trio.BrokenResourceError:
            raise trio.BrokenResourceError(
                f"the trio side of {self.name!r} has closed its receive half"
            ) from None
        except trio.ClosedResourceError:
            raise trio.ClosedResourceError(f"the asyncio task {self.name!r} has ended") from None

    async def put(self, item: Any) -> None:
        """Send to the trio side, from asyncio: waits while there is no room.  Raises as :meth:`put_nowait` else."""
        if self.to_aio.told:
            # One that ignores every error must not keep the loop busy.
            self._on_swallowed()
            await asyncio.sleep(0)
        while True:
            try:
                self.put_nowait(item)
                return
            except trio.WouldBlock:
                await self._room_for_sender()

    async def _room_for_sender(self) -> None:
        turn: asyncio.Future[None] = self._loop.create_future()
        self._senders.append(turn)
        # It reads nothing meanwhile.
        self._reads.unpark_all()
        try:
            await turn
        except BaseException:
            if turn not in self._senders:
                # Given room that it does not use.
                self._let_send()
            raise
        finally:
            if turn in self._senders:
                self._senders.remove(turn)

    def _let_send(self) -> None:
        while self._senders:
            turn = self._senders.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _let_all_send(self) -> None:
        """Those who wait for room are to find out how the link has ended."""
        while self._senders:
            self._let_send()

    @property
    def senders_in_asyncio(self) -> int:
        """Tasks of asyncio that wait for room."""
        return len(self._senders)

    def ask_cancel(self, msg: str) -> None:
        """Cancel the task because the trio side asks for it."""
        if LinkDo.CANCEL_TASK in self.machine.cancel_asked():
            self.task.cancel(msg or None)

    def _close(self) -> None:
        self.to_trio.close()
        self.from_aio.close()

    def close_receiving(self) -> None:
        """The trio side reads no more."""
        self.deaf = True
        self.from_aio.close()
        self._let_all_send()

    def _on_task_done(self, task: asyncio.Task[Any]) -> None:
        if self.machine.aio is not None:
            return
        if not self._begun and hasattr(self._coro, "close"):
            self._coro.close()
        error = None if task.cancelled() else task.exception()
        if error is None:
            error = self._fatal
        if error is not None:
            rest = without(error, self._is_told)
            self.error = rest if rest is not None else error
        how = aio_end(
            cancelled=task.cancelled(),
            failed=error is not None,
            on_told=error is not None and without(error, self._is_told) is None,
            asked=self.machine.asked,
            told=self.machine.told,
        )
        if how is AioEnd.RETURNED:
            self.value = task.result()
        self._aio_over(how)

    def _is_told(self, exc: BaseException) -> bool:
        if self._told is None:
            return False
        return exc is self._told or type(exc).__name__ == "QueueShutDown"

    def _aio_over(self, how: AioEnd) -> None:
        todo = self.machine.aio_ended(how)
        self._traceback = None if self.error is None else self.error.__traceback__
        # Before the scope is cancelled, so that who waits for the result gets it.
        self.ended.set()
        self._reads.unpark_all()
        self._carry_out(todo)

    # -- what the machine says ------------------------------------------------------------------------

    def _carry_out(self, todo: list[LinkDo]) -> None:
        for do in todo:
            if do in (LinkDo.ENTER, LinkDo.FAIL_ENTRY):
                self.entry.set()
            elif do is LinkDo.TELL_EXITED:
                self._tell(TrioTaskExited("the trio side of this asyncio task has left its block"))
            elif do is LinkDo.TELL_CANCELLED:
                self._tell(TrioCancelled("the trio side of this asyncio task was cancelled"))
        if LinkDo.CANCEL_SCOPE in todo:
            self._unwind_when_read()
        elif LinkDo.END_VALUES in todo:
            self._end_values()

    def _end_values(self) -> None:
        self.to_trio.close()
        self.room.unpark_all()
        self._let_all_send()

    # -- the task has failed --------------------------------------------------------------------------

    def _unwind_when_read(self) -> None:
        """Cancel the block: at once, or once it has read what was sent before, as long as it reads on."""
        if self.unread() and not self.left:
            self._held = True
            self._loop.call_later(GRACE, self._unwind_unless_read, self.unread())
        else:
            self.unwind()

    def _unwind_unless_read(self, before: int) -> None:
        if not self._held:
            return
        now = self.unread()
        if now < before:
            self._loop.call_later(GRACE, self._unwind_unless_read, now)
        else:
            self.unwind()

    def unwind(self) -> None:
        """Cancel the block."""
        self._held = False
        self.scope.cancel()
        self._end_values()

    def unread(self) -> int:
        """Values that the trio side has not read."""
        return self.from_aio.statistics().current_buffer_used

    def note_received(self) -> None:
        """The trio side has taken a value."""
        self._let_send()
        if self._held and not self.unread():
            self.unwind()

    def has_ended(self) -> bool:
        """Whether the task has, also if the loop has not come to its callback yet."""
        if self.task.done():
            self._on_task_done(self.task)
        return self.ended.is_set()

    @property
    def failed(self) -> bool:
        """Whether the task's end cancels the block."""
        return self.machine.aio in UNWINDS

    # -- the trio side has ended ----------------------------------------------------------------------

    def _tell(self, exc: BaseException) -> None:
        self._told = exc
        self.to_aio.end(exc)
        self._raise_in_task(RETRIES)

    def _raise_in_task(self, retries: int) -> None:
        exc, task = self._told, self.task
        if task.done() or self.to_aio.told or exc is None:
            return
        if self._begun:
            done, _ = maybe_signal_aio_task(task, exc)
            if done:
                self.to_aio.told = True
                return
            if getattr(task, "_fut_waiter", None) is None and retries:
                self._loop.call_soon(self._raise_in_task, retries - 1)
                return
        self._cancel_task()

    def _cancel_task(self) -> None:
        self.to_aio.told = True
        self.task.cancel(self._word)

    @property
    def _word(self) -> str:
        """The message of a `CancelledError` that stands for what the task was told."""
        return f"{type(self._told).__name__}: {self._told}"

    def _stands_for_told(self, exc: BaseException) -> bool:
        return isinstance(exc, asyncio.CancelledError) and exc.args == (self._word,)

    def _on_swallowed(self) -> None:
        if self.machine.told and asyncio.current_task() is self._task:
            self._cancel_task()

    def _on_read(self) -> None:
        self.room.unpark()
        self._reads.unpark_all()

    async def _let_read(self) -> None:
        """Wait until the task has read what was sent and asks for more, as long as it reads on.

        One that waits for room for what nobody will read does not.
        """
        self.to_aio.on_idle = self._reads.unpark_all
        while not (
            (self.to_aio.empty() and self.to_aio.read_now) or self._senders or self.ended.is_set()
        ):
            taken = self.to_aio.taken
            with trio.move_on_after(GRACE) as limit:
                await self._reads.park()
            if limit.cancelled_caught and taken == self.to_aio.taken:
                return

    async def end(self, exc: BaseException | None, strict: bool) -> BaseException | None:
        """End the link after its block: tell the task, wait for its end.

        Args:
            exc: what has left the block.
            strict: graceful exits count as errors.

        Returns:
            What is to leave the block in its place; ``None``: nothing.
        """
        how = self._how_left(exc)
        if how is TrioEnd.LEFT and not self.to_aio.empty() and not self.task.done():
            try:
                await self._let_read()
            except trio.Cancelled as cancelled:
                how, exc = TrioEnd.CANCELLED, cancelled
        self.left = True
        self.has_ended()
        self._carry_out(self.machine.trio_ended(how))
        if how is TrioEnd.RAISED and self._told is not None:
            self._told.__cause__ = exc
        await self._await_task()
        self._close()
        self.to_aio.close(graceful=how is TrioEnd.LEFT)
        self._let_all_send()
        return self._verdict(exc, strict)

    def _how_left(self, exc: BaseException | None) -> TrioEnd:
        if exc is None:
            if self.entry_failed:
                return TrioEnd.WAITING
            unwound = self.scope.cancelled_caught
            return TrioEnd.UNWOUND if unwound else TrioEnd.LEFT
        if without(exc, self._is_end_of_values) is None:
            return TrioEnd.LEFT
        return TrioEnd.CANCELLED if is_multi_cancelled(exc) else TrioEnd.RAISED

    def _is_end_of_values(self, exc: BaseException) -> bool:
        return isinstance(exc, trio.EndOfChannel) and exc in self.ends_of_values

    async def _await_task(self) -> None:
        with trio.CancelScope(shield=True):
            with trio.move_on_after(GRACE):
                await self.ended.wait()
                return
            self._cancel_task()
            with trio.move_on_after(CANCEL_DEADLINE - GRACE):
                await self.ended.wait()
                return
        self._give_up()

    def _give_up(self) -> None:
        self.task.remove_done_callback(self._on_task_done)
        # Without the link's own.
        where = " > ".join(
            f"{module}.{code.co_qualname}()" for module, code in codes(self.task)[1:]
        )
        self.error = AsyncioRuntimeTranslationError(
            f"the asyncio task {self.name!r} was told that its trio side has ended, was "
            f"cancelled, and still runs {CANCEL_DEADLINE} s later, in {where or '?'}; it is given up"
        )
        log.error("%s", self.error)
        self._aio_over(AioEnd.GIVEN_UP)

    def _verdict(self, exc: BaseException | None, strict: bool) -> BaseException | None:
        both: Related | None = None
        if exc is not None and self.error is not None:
            both = related(self.error, exc, self._stands_for_told)
        relation = Relation.INDEPENDENT if both is None else both.relation
        verdict = self.machine.verdict(strict, relation)
        if verdict in (Verdict.TRIO_ERROR, Verdict.TRIO_CANCELLED):
            return exc
        if verdict in (Verdict.AIO_ERROR, Verdict.GIVEN_UP):
            return self.error
        if verdict is Verdict.BOTH:
            assert both is not None
            return BaseExceptionGroup(
                f"both sides of the link with {self.name!r} failed", [both.trio, both.aio]
            )
        if verdict is Verdict.TASK_EXITED:
            return AsyncioTaskExited(f"the asyncio task {self.name!r} has returned")
        if verdict is Verdict.AIO_CANCELLED:
            return self.cancelled_error()
        return self._told if verdict is Verdict.EXITED_IF_STRICT else None

    def cancelled_error(self) -> AsyncioCancelled:
        """That the task was cancelled."""
        return AsyncioCancelled(f"the asyncio task {self.name!r} was cancelled")

    def result(self) -> Any:
        """The ended task's value.  Raises its translated error."""
        how = self.machine.aio
        if how is AioEnd.RETURNED:
            return self.value
        if how in (AioEnd.CANCELLED, AioEnd.CANCELLED_HERE) or self.error is None:
            raise self.cancelled_error()
        # Its traceback does not grow from call to call.
        raise self.error.with_traceback(self._traceback)

    def fail_use(self) -> NoReturn:
        """Raise that the task has ended, in one who would send to it."""
        raise trio.BrokenResourceError(f"the asyncio task {self.name!r} has ended") from self.error


def name_of(target: Callable[..., Any]) -> str:
    """What a target is called in messages."""
    inner = getattr(target, "func", target)
    return getattr(inner, "__qualname__", None) or repr(target)


async def _give_portal() -> None:
    """Make `breakpoint()` and its like usable in this task."""
    try:
        import greenback
    except ImportError:
        return
    await greenback.ensure_portal()
