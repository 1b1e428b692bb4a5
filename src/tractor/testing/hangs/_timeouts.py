"""Time limits that leave a snapshot of what was hanging."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import trio

from tractor.testing.hangs._snapshot import try_snapshot
from tractor.trionics._ki import ki_protected_manager

ALARM_GRACE = 5.0
"""Seconds that a trio run has to come down after an alarm, before it is broken off."""


@ki_protected_manager
async def fail_after_w_trace(
    seconds: float, *, label: str, pid: int | None = None, out_dir: Path | str | None = None
) -> AsyncIterator[trio.CancelScope]:
    """`trio.fail_after` that first writes a snapshot, while everything still hangs.

    The snapshot takes up to about a second, in which this process's loop stands still.  What can't
    be written is told on stderr and changes nothing.

    Args:
        seconds: the limit.
        label: what may hang; names the snapshot's directory ``<label>__<time>``.
        pid: the process at the top of the snapshot; default: this one.
        out_dir: where the snapshot goes; default: ``$XDG_CACHE_HOME/tractor/hung-dumps``.

    Yields:
        The cancel scope.

    Raises:
        trio.TooSlowError: the block was cancelled at the limit.
        ValueError: ``seconds`` is negative or NaN.
    """
    taken = over = False
    watch: trio.CancelScope | None = None

    def snapshot() -> None:
        nonlocal taken
        taken = True
        try_snapshot(label, f"no end within {seconds} s", pid, out_dir)

    def too_late() -> bool:
        return not taken and trio.current_time() >= just_before(scope.deadline)

    def on_deadline(raise_cancel: object) -> trio.lowlevel.Abort:
        # Runs while trio looks which deadlines have passed, and the watcher's is the one just
        # before the block's: nothing in the block has been told, or has moved on, yet.
        if not over and too_late():
            snapshot()
        return trio.lowlevel.Abort.SUCCEEDED

    async def watcher() -> None:
        nonlocal watch
        while not over and not taken:
            # Once more where the block has moved its deadline.
            with trio.CancelScope(deadline=just_before(scope.deadline)) as watch:
                await trio.lowlevel.wait_task_rescheduled(on_deadline)

    with trio.fail_after(seconds) as scope:
        trio.lowlevel.spawn_system_task(watcher)
        try:
            yield scope
        except BaseException:
            if scope.cancel_called and too_late():
                snapshot()
            raise
        finally:
            over = True
            if watch is not None:
                watch.cancel()


def just_before(deadline: float) -> float:
    return math.nextafter(deadline, -math.inf)


class AFKAlarmTimeout(TimeoutError):
    """Nobody came back before `afk_alarm_w_trace` went off."""


@contextmanager
def afk_alarm_w_trace(
    seconds: float, *, label: str, pid: int | None = None, out_dir: Path | str | None = None
) -> Iterator[None]:
    """Let the block take no longer, even where its event loop hangs; first write a snapshot.

    For the main thread, around `trio.run()` or anything else.  At the limit a trio run that is
    under way gets what ctrl-c gives it, so that its actors come down in good order, and is broken
    off 5 s later; other code is broken off at once.  An alarm that was set before, and is due
    later, goes on afterwards; with one that is due earlier this does nothing.

    Args:
        seconds: the limit, above 0.
        label, pid, out_dir: as in `fail_after_w_trace`.

    Raises:
        AFKAlarmTimeout: the alarm went off, whatever the block made of it.
        RuntimeError: the platform has no SIGALRM, or this is not the main thread.
        ValueError: ``seconds`` is not above 0.
    """
    if not seconds > 0:
        raise ValueError(f"an alarm is set to some seconds above 0, not to {seconds!r}")
    if not hasattr(signal, "SIGALRM") or threading.current_thread() != threading.main_thread():
        raise RuntimeError("afk_alarm_w_trace() needs SIGALRM, and works in the main thread only")
    alarm = AFKAlarmTimeout(f"{label}: nobody came back within {seconds} s")
    went_off = 0

    def on_alarm(signum: int, frame: FrameType | None) -> None:
        nonlocal went_off
        went_off += 1
        if went_off == 1:
            try_snapshot(label, f"alarm after {seconds} s", pid, out_dir)
            interrupt = _ctrl_c_of_trio()
            if interrupt is not None:
                interrupt(signal.SIGINT, frame)
                return
        raise alarm

    with _timer(seconds, on_alarm):
        try:
            yield
        except BaseException as exc:
            if went_off and exc is not alarm:
                raise alarm from exc
            raise
        if went_off:
            raise alarm


def _ctrl_c_of_trio() -> Callable[[int, FrameType | None], object] | None:
    """trio's own handler of SIGINT, if a trio run of this thread has one in place."""
    handler = signal.getsignal(signal.SIGINT)
    if not trio.lowlevel.in_trio_run() or handler is signal.default_int_handler:
        return None
    return handler if callable(handler) else None


@contextmanager
def _timer(seconds: float, handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)  # type: ignore[attr-defined, unused-ignore]
    began = time.monotonic()
    left, interval = signal.getitimer(signal.ITIMER_REAL)  # type: ignore[attr-defined, unused-ignore]
    if 0 < left <= seconds:
        yield
        return
    signal.signal(signal.SIGALRM, handler)  # type: ignore[attr-defined, unused-ignore]
    signal.setitimer(signal.ITIMER_REAL, seconds, ALARM_GRACE)  # type: ignore[attr-defined, unused-ignore]
    try:
        yield
    finally:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)  # type: ignore[attr-defined, unused-ignore]
        finally:
            # Also where the alarm went off on the way to the line above.  Silenced before the
            # handlers change hands, so that no alarm reaches the wrong one.
            signal.setitimer(signal.ITIMER_REAL, 0)  # type: ignore[attr-defined, unused-ignore]
            signal.signal(signal.SIGALRM, before)  # type: ignore[attr-defined, unused-ignore]
            if left:
                spent = time.monotonic() - began
                signal.setitimer(signal.ITIMER_REAL, max(left - spent, 0.001), interval)  # type: ignore[attr-defined, unused-ignore]
