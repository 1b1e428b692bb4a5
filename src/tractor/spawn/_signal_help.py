"""Signals in a process that was forked off a thread other than the main one.

From CPython 3.13 on the interpreter goes on to mark signals as pending for the main thread of the *parent*.  In such a
child a handler therefore runs only where a system call is interrupted, or where something asks for pending signals, and
not while Python code runs.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys

import trio

__all__ = ["note_forked_off_thread", "run_handlers", "signals_need_help"]

_forked_off_thread = False


def note_forked_off_thread() -> None:
    """In the child: its only thread is not the one that its program began with."""
    global _forked_off_thread
    _forked_off_thread = True


def signals_need_help() -> bool:
    """Whether handlers would not run by themselves here."""
    return _forked_off_thread and sys.version_info >= (3, 13)


async def run_handlers(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Have signal handlers run when the loop's turn comes, until cancelled; in the main thread.

    A signal still writes to the wakeup descriptor, whatever the interpreter thinks is its main thread.
    """
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            task_status.started()
            while True:
                # Asks for what is pending, and changes nothing.
                signal.pthread_sigmask(signal.SIG_BLOCK, ())
                await trio.lowlevel.wait_readable(reader)
                with contextlib.suppress(BlockingIOError):
                    while reader.recv(4096):
                        pass
        finally:
            signal.set_wakeup_fd(before)
