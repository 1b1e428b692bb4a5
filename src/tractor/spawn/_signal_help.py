"""Signals of a child that is starting, and in one that was forked off a thread other than the main one.

From CPython 3.13 on the interpreter goes on to mark signals as pending for the main thread of the *parent*.  In a child
that a side thread has forked off a handler therefore runs only where a system call is interrupted, or where something
asks for pending signals, and not while Python code runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from tractor.process._state import ProcessVar

ENDING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
"""The signals that ask a process to end."""

_forked_off_thread = ProcessVar(lambda: False, survives=True)


@contextlib.contextmanager
def held_off() -> Iterator[None]:
    """Have a child begin with :data:`ENDING` blocked; it unblocks them once it can handle them.

    Otherwise one that is sent to a whole process group would hit a starting interpreter, which would end without a
    word, or print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # type: ignore[attr-defined, unused-ignore]
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # type: ignore[attr-defined, unused-ignore]


class EarlySignals:
    """Takes the signals of :data:`ENDING` while there is no loop yet to act on them; in the child.

    It unblocks them, so that no thread that is started from now on has them blocked.  In a thread other than the main
    one it does nothing.  A signal that the parent had ignored, as SIGHUP under ``nohup``, stays ignored.

    Attributes:
        numbers: those that it takes.
        on_note: called by the handler.

    Args:
        own_process: ``False``: the child shares its parent's process, and leaves its signals alone.
    """

    def __init__(self, own_process: bool = True) -> None:
        self._times: dict[int, float] = {}
        self.on_note: Callable[[], object] = lambda: None
        self.numbers: set[int] = set()
        if not own_process or threading.current_thread() is not threading.main_thread():
            return
        for number in ENDING:
            if number == signal.SIGINT or signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._note)
                self.numbers.add(number)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)  # type: ignore[attr-defined, unused-ignore]

    def _note(self, number: int, _frame: Any) -> None:
        self._times.setdefault(number, time.monotonic())
        self.on_note()

    def came(self) -> bool:
        """Whether a signal has come that nobody has taken."""
        run_pending_handlers()
        return bool(self._times)

    def take(self) -> dict[int, float]:
        """The signals that have come since the last call, and when, on the monotonic clock."""
        run_pending_handlers()
        taken, self._times = self._times, {}
        return taken

    def end_by_it(self) -> None:
        """End the process by the first signal that has come, if one has."""
        for number in self._times:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def stop(self) -> None:
        """The loop has ended: from now on they end the process as ever, but for SIGINT, which is not heard."""
        for number in self.numbers - {signal.SIGINT}:
            signal.signal(number, signal.SIG_DFL)


def note_forked_off_thread() -> None:
    """In the child: its only thread is not the one that its program began with."""
    _forked_off_thread.value = True


def run_pending_handlers() -> None:
    """Run the handlers of signals that have come, where the interpreter would not do so by itself."""
    if _forked_off_thread.value and sys.version_info >= (3, 13):
        # Asks for what is pending, and changes nothing.
        signal.pthread_sigmask(signal.SIG_BLOCK, ())
