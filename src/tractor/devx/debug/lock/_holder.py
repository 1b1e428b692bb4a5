"""Who wants the terminal: a trio task, a thread, an asyncio task."""

from __future__ import annotations

import sys
import threading

import trio


def current_ident() -> object:
    """What runs right now in this thread: the trio task, else the asyncio task, else the thread."""
    if trio.lowlevel.in_trio_task():
        return trio.lowlevel.current_task()
    return asyncio_task() or threading.current_thread()


def asyncio_task() -> object | None:
    """The asyncio task that runs right now in this thread; never imports asyncio."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        task: object | None = asyncio.current_task()
    except RuntimeError:
        return None
    return task


def describe(ident: object) -> str:
    """``<Task '<name>' ...>`` or ``<Thread(<name>, ...)>``."""
    if isinstance(ident, threading.Thread):
        return thread_text(ident)
    if isinstance(ident, trio.lowlevel.Task):
        return repr(ident)
    name = ident.get_name() if hasattr(ident, "get_name") else "?"
    coro = ident.get_coro() if hasattr(ident, "get_coro") else None
    what = getattr(coro, "__qualname__", "")
    return f"<Task {name!r} of asyncio, {what}() at {id(ident):#x}>"


def thread_text(thread: threading.Thread) -> str:
    """``<Thread(<name>, started ...)>``, whatever its class."""
    _, paren, rest = repr(thread).partition("(")
    return f"<Thread{paren}{rest}"
