"""What user code forks off is not an actor: there the process is put back to what it was without a runtime.

``multiprocessing`` with its ``fork`` method, pools, data loaders, a bare ``os.fork()``: the child has the parent's
memory, and with it the runtime's signal handlers, its wake-up descriptor and a second copy of every socket.  With them
it would ignore what is to end it, wake up its parent's loop with its own signals, and hide the parent's end from peers
that wait for an end of file.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol

import trio

from tractor._util._exit import leave
from tractor.process._state import ProcessVar, of_process


class Closable(Protocol):
    """A socket, or what else owns a descriptor, and can be referred to weakly."""

    def close(self) -> object:
        """Close this process's descriptor, and do nothing else."""


_closables: weakref.WeakSet[Any] = of_process(weakref.WeakSet())
_callbacks: list[Callable[[], None]] = []
_undo: list[Callable[[], None]] = of_process([])
_handlers_before: dict[int, Any] = of_process({})
_own_handlers: weakref.WeakSet[Any] = weakref.WeakSet()
_always: list[Callable[[], None]] = []
_armed = ProcessVar(lambda: False)
_masks: dict[int, set[signal.Signals | int]] = of_process({})
"""Of each thread that forks right now: the signals that it had blocked before."""


def arm(armed: bool) -> None:
    """A runtime begins to change this process, or has put everything back."""
    if armed and not _armed.value:
        _handlers_before.update(
            {number: signal.getsignal(number) for number in signal.valid_signals()}
        )
    _armed.value = armed


def close_in_child(closable: Closable) -> None:
    """Have ``closable`` closed in whatever is forked off while it is open."""
    _closables.add(closable)


def note_handler(handler: Any) -> None:
    """A signal handler is the runtime's, whatever module it was defined in."""
    _own_handlers.add(handler)


def on_fork(callback: Callable[[], None], *, always: bool = False) -> None:
    """Call this in every child that is forked off; for modules, once.

    Args:
        callback: what it raises is dropped.
        always: also while no runtime is open.
    """
    (_always if always else _callbacks).append(callback)


@contextmanager
def undone_in_child(undo: Callable[[], None]) -> Iterator[None]:
    """For the length of the block: call this in what is forked off."""
    _undo.append(undo)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            _undo.remove(undo)


@trio.lowlevel.enable_ki_protection
def _before_fork() -> None:
    """Nothing is lost that is sent to the child before it has its own handlers.

    Until then a signal would be noted for a handler of the parent's, and the interpreter forgets what was noted.
    """
    if _armed.value and sys.platform != "win32":
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        _masks[threading.get_ident()] = before


@trio.lowlevel.enable_ki_protection
def _unblock() -> None:
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None and sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork() -> None:
    """In the child; of what fails here nothing may keep the rest from being done."""
    for callback in _always:
        with contextlib.suppress(Exception):
            callback()
    if not _armed.value:
        return
    _armed.value = False
    with contextlib.suppress(ValueError, OSError):
        _put_signals_back()
    _unblock()
    _masks.clear()
    for closable in list(_closables):
        with contextlib.suppress(OSError):
            closable.close()
    _closables.clear()
    for callback in [*reversed(_undo), *_callbacks]:
        with contextlib.suppress(Exception):
            callback()
    _undo.clear()
    _handlers_before.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork, after_in_parent=_unblock)


def _put_signals_back() -> None:
    # The parent's loop reads what is written there.
    signal.set_wakeup_fd(-1)
    for number, before in _handlers_before.items():
        if _is_ours(signal.getsignal(number)):
            if _is_ours(before):
                interrupt = number == signal.SIGINT
                before = signal.default_int_handler if interrupt else signal.SIG_DFL
            signal.signal(number, before)


def _is_ours(handler: Any) -> bool:
    """Whether a handler acts on the runtime, or on trio's loop; another one is the user's, and stays."""
    if not callable(handler) or isinstance(handler, signal.Handlers):
        return False
    module = getattr(handler, "__module__", None) or ""
    if module.partition(".")[0] == "tractor" or module.startswith("trio._core."):
        return True
    with contextlib.suppress(TypeError):
        return handler in _own_handlers
    return False


def go_on(exc: BaseException | None = None) -> None:
    """What an actor's process does where a fork of it calls :func:`leave_copy`: nothing."""


def leave_copy(exc: BaseException | None = None) -> NoReturn:
    """End a forked-off process whose user code has come back to the runtime's code.

    That code is the parent's: it would answer the parent's callers, and take its subactors and files down, a second
    time.  The process ends as a program does: exit handlers, buffers, and the exit status that ``exc`` asks for.
    """
    status: Any = 0
    if isinstance(exc, SystemExit):
        status = exc.code
        if not isinstance(status, int | None):
            with contextlib.suppress(Exception):
                print(status, file=sys.stderr)
            status = 1
    elif exc is not None:
        status = 130 if isinstance(exc, KeyboardInterrupt) else 1
        with contextlib.suppress(Exception):
            sys.excepthook(type(exc), exc, exc.__traceback__)
    leave(status or 0)
