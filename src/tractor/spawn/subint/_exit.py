"""The process's end while sub-interpreters are left that can't be destroyed.

CPython destroys what sub-interpreters are left while it finalizes the main one.  If a thread still runs in one of
them, that crashes or hangs.  So such a process leaves before that point: threads, exit handlers and buffers as usual,
then `os._exit` with the status that it would have had anyway.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from types import CodeType
from typing import NoReturn

from tractor._util._exit import end_by_signal, flush_standard_streams
from tractor._util._frames import frame_at, frames_above, main_thread_frame
from tractor.process._state import ProcessVar, of_process

_FLUSH_FAILED = 120
"""The status with which CPython ends when buffers can't be flushed."""

_held: set[object] = of_process(set())
_installed_in = ProcessVar(lambda: 0)

# The exception, if any, that has left the main thread's outermost frame.
_left_with: ProcessVar[BaseException | None] = ProcessVar(lambda: None)
_outermost: ProcessVar[CodeType | None] = ProcessVar(lambda: None)


def hold(interpreter: object) -> None:
    """From now on, and until its :func:`release`, the process ends by `os._exit`.

    Without effect in a sub-interpreter: what is left of one keeps it from being destroyed in its turn.

    Args:
        interpreter: stands for a sub-interpreter.
    """
    import _interpreters

    if _interpreters.get_current()[0] != _interpreters.get_main()[0]:
        return
    _held.add(interpreter)
    if _installed_in.value != os.getpid():
        _installed_in.value = os.getpid()
        _install()


def release(interpreter: object) -> None:
    """That one has been destroyed.  Idempotent."""
    _held.discard(interpreter)


def watch_exit_status() -> None:
    """Note from now on how the main thread ends: nothing says so at the process's end.

    This costs a little with each frame that an exception leaves, and is for processes that have abandoned an
    interpreter.  Idempotent.
    """
    frames = list(frames_above(main_thread_frame()))
    if not _held or _outermost.value is not None or not frames:
        return
    monitoring = sys.monitoring  # type: ignore[attr-defined]  # Python 3.12
    for tool in (3, 4, 1, 0, 2, 5):
        if monitoring.get_tool(tool) is None:
            monitoring.use_tool_id(tool, "tractor exit status")
            monitoring.register_callback(tool, monitoring.events.PY_UNWIND, _on_unwind)
            monitoring.set_events(tool, monitoring.events.PY_UNWIND)
            _outermost.value = frames[-1].f_code
            return


def exit_status(exc: BaseException | None) -> int:
    """The status with which Python ends after ``exc`` has left the main thread; ``-2`` stands for SIGINT."""
    if exc is None:
        return 0
    if isinstance(exc, KeyboardInterrupt):
        return -signal.SIGINT
    if not isinstance(exc, SystemExit):
        return 1
    if exc.code is None:
        return 0
    return int(exc.code) & 0xFF if isinstance(exc.code, int) else 1


def _on_unwind(code: CodeType, _offset: int, exc: BaseException) -> None:
    if code is _outermost.value and threading.current_thread() is threading.main_thread():
        _left_with.value = exc


def _install() -> None:
    # CPython looks this function up in its module, and calls it before everything else that it does at the end.
    original = threading._shutdown  # type: ignore[attr-defined]

    def shutdown() -> None:
        original()
        if _held and os.getpid() == _installed_in.value and _called_by_interpreter():
            _leave()

    threading._shutdown = shutdown  # type: ignore[attr-defined]


def _called_by_interpreter() -> bool:
    """Whether the function that asks was called by no Python code: by the end of the process."""
    try:
        frame_at(2)
    except ValueError:
        return True
    return False


def _leave() -> NoReturn:
    exc = _left_with.value
    if _outermost.value is None:
        # Nobody has watched. Of an exception that was printed this is left.
        exc = getattr(sys, "last_exc", None)
    status = exit_status(exc)
    atexit._run_exitfuncs()
    if not flush_standard_streams():
        status = _FLUSH_FAILED
    if status < 0:
        end_by_signal(-status)
    os._exit(status & 0xFF)
