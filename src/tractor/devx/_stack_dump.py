"""SIGUSR1: each actor of a tree writes down what its tasks do, parents before their children.

A dump is made by the actor's own loop, between two steps of its tasks.  Where the loop does not come to it, because a
task computes or blocks, a thread makes it half a second later: just then one wants to know.
"""

from __future__ import annotations

import _thread
import contextlib
import importlib.util
import os
import select
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import trio

from tractor import log as _log
from tractor._errors import TransportClosed
from tractor._util._task_tree import append_dump, dump_file, format_threads, format_tree_of
from tractor._util.dist._name import pip_install
from tractor.ipc._chan import Channel
from tractor.process._proc import expects_signal
from tractor.process._state import ProcessVar, of_process
from tractor.process.host._host_id import is_here
from tractor.runtime._actor import Actor
from tractor.runtime._state import process_actor
from tractor.runtime._vars import runtime_vars
from tractor.runtime.dialog._callee import put_return
from tractor.runtime.dialog._caller import request

log = _log.get_logger()

TERMINAL = "/dev/tty"

TERMINAL_LIMIT = 1.0
"""Seconds without progress after which a terminal gets no more of a dump."""

LOOP_LIMIT = 0.5
"""Seconds in which an actor's own loop must have begun its dump; then a thread makes it."""

SIGUSR1: int | None = getattr(signal, "SIGUSR1", None)

_one_at_a_time = ProcessVar(threading.Lock)
_armed: dict[int, Any] = of_process({})
"""The handlers that were in force before, by signal."""


def enable_stack_on_sig(sig: int | None = SIGUSR1) -> ModuleType | None:
    """Dump this process's whole trio task tree whenever ``sig`` comes, and relay the signal to its subactors.

    Each dump is appended to ``/tmp/tractor-stackscope-<pid>.log``, and goes to the terminal and to the log (``devx``).
    Subactors that are started afterwards are armed, too.  Doing it twice changes nothing.  Call it in the main thread.

    Args:
        sig: the signal's number.

    Returns:
        The module ``stackscope``; ``None``, after a warning, where it is not installed, the platform has no such
        signal, or this is not the main thread: nothing was armed.
    """
    if importlib.util.find_spec("stackscope") is None:
        log.warning(
            "No trace-trees on a signal: `stackscope` is not installed; run `%s`",
            pip_install("dumps"),
        )
        return None
    if not arm(sig):
        return None
    runtime_vars().use_stackscope = True
    with warnings.catch_warnings():
        # It leaves coroutines unawaited to learn their types.
        warnings.simplefilter("ignore")
        import stackscope

        found: ModuleType = stackscope
    return found


def dump_task_tree() -> str:
    """Dump this process's trio task tree now, where the signal's dump goes: the file, the terminal, the log.

    Returns:
        The tree as text.
    """
    root = trio.lowlevel.current_root_task() if _token() is not None else None
    _write(process_actor(), root)
    return _safely(format_tree_of, root)


def is_armed() -> bool:
    """Whether the handler for SIGUSR1 is in force."""
    return SIGUSR1 is not None and signal.getsignal(SIGUSR1) is _on_signal


def arm(sig: int | None = SIGUSR1, quietly: bool = False) -> bool:
    """Install the handler; whether it is there now."""
    if sig is None:
        log.warning("No trace-trees on a signal: this platform has no SIGUSR1")
        return False
    if sig in _armed and signal.getsignal(sig) is _on_signal:
        return True
    try:
        before = signal.signal(sig, _on_signal)
    except (ValueError, OSError) as exc:
        log.warning(
            "No trace-trees on signal %s: %s; call it in the main thread, with a signal that can be caught",
            sig,
            exc,
        )
        return False
    _armed[sig] = before
    if not quietly:
        log.devx("Enabling trace-trees on `%s`", signal.Signals(sig).name)
    return True


def disarm(sig: int | None = SIGUSR1) -> None:
    """Put the former handler back, where ours is in force."""
    if sig in _armed and threading.current_thread() is threading.main_thread():
        before = _armed.pop(sig)
        if signal.getsignal(sig) is _on_signal:
            # A handler that is not a function of Python's is `None`, and can't be put back.
            signal.signal(sig, before if before is not None else signal.SIG_DFL)


def arm_actor(actor: Actor, asked: bool = True) -> None:
    """Arm the actor of this process, until its runtime ends.  Nothing is imported before a dump is made.

    Args:
        actor: it.
        asked: the dump was asked for as such, and not with the debugger as a whole: say where it can't be had.
    """
    if importlib.util.find_spec("stackscope") is None:
        if asked:
            log.warning("No trace-trees on `SIGUSR1`: `stackscope` is not installed")
        return
    runtime_vars().use_stackscope = True
    if threading.current_thread() is not threading.main_thread():
        # Nothing can be signalled here; an actor in its parent's process is asked by message.
        return
    new = SIGUSR1 not in _armed
    if arm() and new:
        actor.lifetime_stack.callback(disarm)


# -- the signal -----------------------------------------------------------------------------------


class _Dump:
    """One dump that is due, made exactly once, by the loop or by the thread that waits for it."""

    def __init__(self, sig: int) -> None:
        self.sig = sig
        self.begun = threading.Event()
        self._claim = threading.Lock()
        self.token = _token()
        self.root = trio.lowlevel.current_root_task() if self.token is not None else None

    def make(self, note: str = "") -> None:
        """Make it, unless it was made; never raises."""
        if not self._claim.acquire(blocking=False):
            return
        self.begun.set()
        _dump_and_relay(self.root, self.token, self.sig, note)

    def make_if_late(self) -> None:
        if not self.begun.wait(LOOP_LIMIT):
            note = f"the trio loop has not run for {LOOP_LIMIT} s; made by a thread beside it\n"
            threading.Thread(target=self.make, args=(note,), name="task dump", daemon=True).start()


def _token() -> trio.lowlevel.TrioToken | None:
    with contextlib.suppress(RuntimeError):
        return trio.lowlevel.current_trio_token()
    return None


_callbacks: deque[Callable[[FrameType], object]] = of_process(deque())


def interrupt_main_thread(fn: Callable[[FrameType], object]) -> bool:
    """Have ``fn`` called in the main thread, with the frame that it is in, between two steps of whatever it does.

    Returns:
        Whether it will be, as soon as the main thread runs Python code; ``False``: the handler is not armed.
    """
    if sys.platform == "win32":
        raise NotImplementedError
    ident = threading.main_thread().ident
    if SIGUSR1 is None or ident is None or not is_armed():
        return False
    _callbacks.append(fn)
    signal.pthread_kill(ident, SIGUSR1)
    return True


def _on_signal(signum: int, frame: FrameType | None) -> None:
    # Between any two steps of the main thread: nothing may leave here as an exception.
    with contextlib.suppress(Exception):
        if _callbacks and frame is not None:
            _callbacks.popleft()(frame)
            return
        dump = _Dump(signum)
        if dump.token is None:
            _make_here(dump)
            return
        dump.token.run_sync_soon(dump.make)
        # Not a `threading.Thread`: the signal may have come while this thread holds a lock of that module.
        _thread.start_new_thread(dump.make_if_late, ())


_due_here: list[_Dump] = of_process([])


def _make_here(dump: _Dump) -> None:
    """Without a loop: at once, but after the dump that this signal may have interrupted."""
    _due_here.append(dump)
    if len(_due_here) == 1:
        while _due_here:
            _due_here[0].make()
            _due_here.pop(0)


def _dump_and_relay(
    root: trio.lowlevel.Task | None, token: trio.lowlevel.TrioToken | None, sig: int, note: str = ""
) -> None:
    """This process's dump, then those below; a failure of the one does not keep the others from being made."""
    actor = process_actor()
    with _one_at_a_time.value:
        try:
            _write(actor, root, note)
        except Exception as exc:
            with contextlib.suppress(Exception):
                log.error("the task dump failed: %r", exc)
    if actor is not None:
        try:
            _relay(actor, token, sig)
        except Exception as exc:
            with contextlib.suppress(Exception):
                log.error("the task dump could not be relayed: %r", exc)


def _write(actor: Actor | None, root: trio.lowlevel.Task | None, note: str = "") -> None:
    uid = actor.aid.uid if actor is not None else (Path(sys.argv[0] or "python").name, "no actor")
    path = dump_file(os.getpid())
    head = f"trio task tree of {uid}, pid {os.getpid()}\nin {path}; to follow it: tail -f {path}\n"
    body = _safely(format_tree_of, root)
    if note or root is None:
        body += "\n" + _safely(format_threads)
    text = f"{head}start-of-{uid}\n{note}{body}\nend-of-{uid}\n"
    # One that fails does not keep the others from it.
    with contextlib.suppress(Exception):
        append_dump(path, text)
    with contextlib.suppress(Exception):
        _to_terminal(text)
    with contextlib.suppress(Exception):
        log.devx("%s", text)


def _safely(make: Any, *args: Any) -> str:
    try:
        return str(make(*args))
    except Exception as exc:
        return f"{make.__name__}() failed: {exc!r}\n"


def _to_terminal(text: str) -> None:
    """Write to the terminal that this process was started from, where there is one."""
    # A terminal that was stopped (ctrl-s) must not stop the actor.
    fd = os.open(TERMINAL, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)  # type: ignore[attr-defined, unused-ignore]
    # Nor must one that stops background processes which write to it (`stty tostop`).
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})  # type: ignore[attr-defined, unused-ignore]
    try:
        data = text.encode(errors="replace").replace(b"\n", b"\r\n")
        # One that is merely slow gets it all.
        while data and select.select([], [fd], [], TERMINAL_LIMIT)[1]:
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(fd, data) :]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # type: ignore[attr-defined, unused-ignore]
        os.close(fd)


# -- those below ----------------------------------------------------------------------------------


def _relay(actor: Actor, token: trio.lowlevel.TrioToken | None, sig: int) -> None:
    """Have each subactor make its dump, by the signal where it waits for that, else by message."""
    by_message: list[Channel] = []
    for name, pid, chan in _children(actor):
        log.devx(
            "Relaying `%s`[%d] to sub-actor\n |_%s, pid %s",
            signal.Signals(sig).name,
            sig,
            name,
            pid,
        )
        if pid is not None and pid != os.getpid() and expects_signal(pid, sig):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)
        elif chan is not None:
            by_message.append(chan)
    if by_message and token is not None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(_ask_all, by_message)


def _children(actor: Actor) -> Iterator[tuple[str, int | None, Channel | None]]:
    for child in list(actor.children.values()):
        info = child.info()
        chan = info.portal.chan if info.portal is not None else None
        yield info.aid.reprol(), info.pid if is_here(info.host) else None, chan


def _ask_all(chans: list[Channel]) -> None:
    for chan in chans:
        with contextlib.suppress(TransportClosed):
            request(chan, "_dump_stacks")


def serve_dump(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    """The request ``self:_dump_stacks``, from the parent: dump, then have those below do so."""
    put_return(chan, cid, None)
    token = trio.lowlevel.current_trio_token()
    _dump_and_relay(trio.lowlevel.current_root_task(), token, SIGUSR1 or 0)
