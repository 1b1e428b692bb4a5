"""Giving way: whether another task is ready to run, without a pass through trio's loop to find out.

Theory of operation.  trio runs the tasks that are ready in passes; what becomes ready during a pass is queued for the
next one.  A pass costs a system call, so a stream that made one for each message would be five times slower.  But it
must not keep others waiting, above all not a task that it has just started or woken.  So a :class:`Turns` looks at
trio's own queue: when it has grown since the calling task's turn began, somebody was made ready in that turn, and the
caller lets a pass go by.  Where the turn did not begin in this module (the task waited for something else), anything
in the queue counts.  What was queued before waits for at most :data:`PER_TURN` messages.

The queue is trio's private state.  Where it can't be had, every message makes a pass: slower, and just as right.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import trio

from tractor._util._runs import OfRun

PER_TURN = 32
"""Messages that one task handles before it lets a pass of the loop go by, whether or not others are ready."""

LARGE = 4096
"""Bytes; to handle 32 messages that are larger may take seconds, if their sender chooses what is in them."""

SECONDS = 0.005
"""How long a turn with a large message may take, but for its last message."""


def _run_queue() -> Sequence[trio.lowlevel.Task]:
    """The tasks that are ready and wait for the next pass; where that is unknown, as if somebody always were."""
    task = trio.lowlevel.current_task()
    try:
        queue: Any = trio._core._run.GLOBAL_RUN_CONTEXT.runner.runq
        len(queue)
        task._schedule_points += 0
    except (AttributeError, TypeError):
        return (task,)
    return queue  # type: ignore[no-any-return]


def _points(task: trio.lowlevel.Task) -> int:
    """The number of turns that a task has had; another number once it has ended."""
    if getattr(task.coro, "cr_frame", task) is None:
        return -1
    return getattr(task, "_schedule_points", 0)


class Turns:
    """Who gives way to whom, for all streams of one trio run; see :func:`current_turns`."""

    __slots__ = ("_blind", "_left", "_points", "_queue", "_ready", "_task", "_until")

    def __init__(self) -> None:
        self._queue = _run_queue()
        # trio's state can't be had.
        self._blind = type(self._queue) is tuple
        # The task whose turn began in this object, the number of turns that it had by then, and how many tasks
        # were ready at that moment.  Valid as long as the task has that number.
        self._task: trio.lowlevel.Task | None = None
        self._points = -1
        self._ready = 0
        self._left = PER_TURN
        # When the turn is to end; 0: whenever.
        self._until = 0.0

    def must_pass(self) -> bool:
        """Whether the calling task must let a pass of the loop go by before it handles another message."""
        if self._blind:
            return True
        task = trio.lowlevel.current_task()
        if task is self._task and task._schedule_points == self._points:
            self._left -= 1
            if self._left <= 0 or len(self._queue) > self._ready:
                return True
            return 0 < self._until < perf_counter()
        if len(self._queue):
            return True
        self._begin(task)
        return False

    def began(self) -> None:
        """Note that the calling task's turn has begun right now."""
        self._until = 0.0
        if not self._blind:
            self._begin(trio.lowlevel.current_task())

    def _begin(self, task: trio.lowlevel.Task) -> None:
        self._task = task
        self._points = task._schedule_points
        self._ready = len(self._queue)
        self._left = PER_TURN
        self._until = 0.0

    def limit(self) -> float:
        """Have this turn end :data:`SECONDS` after the first such call in it; when that is (``perf_counter()``)."""
        self._until = self._until or perf_counter() + SECONDS
        return self._until

    async def let_pass(self) -> None:
        """Let the tasks that are ready have a turn."""
        first = self._queue[0] if self._queue else None
        had = _points(first) if first is not None else 0
        took_long = 0 < self._until < perf_counter()
        self._until = 0.0
        await trio.lowlevel.checkpoint()
        if took_long or (first is not None and _points(first) == had):
            # trio runs a pass in order or in reverse order: this task came first, the others are next.  Behind a long
            # turn these are also those whose timers have run out meanwhile.
            await trio.lowlevel.checkpoint()
        self.began()

    async def give_way(self) -> None:
        """Be a cancellation point, and let others run if it is their turn."""
        if self.must_pass():
            await self.let_pass()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()


current_turns = OfRun("tractor_turns", Turns).get
"""The :class:`Turns` of this trio run."""
