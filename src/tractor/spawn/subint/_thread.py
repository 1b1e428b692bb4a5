"""One sub-interpreter on an OS thread of its own, from its making to its end."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tractor import log as _log
from tractor.spawn.subint import _exit

log = _log.get_logger()

# The last code of every interpreter: nothing may run in one that is destroyed.
_EPILOGUE = """
import _thread, sys, threading, time
threading._shutdown()
_deadline = time.monotonic() + 1.0
while _thread._count() and time.monotonic() < _deadline:
    time.sleep(0.002)
for _stream in (sys.stdout, sys.stderr):
    try:
        _stream.flush()
    except Exception:
        pass
if _thread._count():
    _no_names = (threading._DummyThread, threading._MainThread)
    _names = [t.name for t in threading.enumerate() if not isinstance(t, _no_names)]
    raise RuntimeError(", ".join(_names) or "(of unknown names)")
"""

_ARE_THREADS_LEFT = """
import _thread
if _thread._count():
    raise RuntimeError
"""


class SubintEnd(NamedTuple):
    """How a sub-interpreter's code has ended.

    Attributes:
        status: what it gave to ``SystemExit``, 1 after another exception, 0 without one.
        failure: the traceback of what it raised, if that was more than a ``SystemExit`` with a status.
        left: names of the threads that still run in it, because of which it was not destroyed.
    """

    status: int
    failure: str | None = None
    left: str | None = None


def require_subints() -> None:
    """Return where sub-interpreters can be had.

    Raises:
        RuntimeError: this Python can't run them.
    """
    if sys.version_info < (3, 14):
        raise RuntimeError(
            "spawn backend 'subint' needs Python 3.14 or newer;"
            f" this is Python {'.'.join(map(str, sys.version_info[:3]))}"
        )
    if sys.implementation.name != "cpython":
        raise RuntimeError(
            f"spawn backend 'subint' needs CPython; this is {sys.implementation.name}"
        )


class SubintThread:
    """Runs code in a sub-interpreter that shares the GIL, on a daemon thread that is used for nothing else.

    The thread ends, then the interpreter is destroyed, then ``on_end`` is called.  All of that may come later than
    anybody waits for it, or never: see :meth:`abandon`.

    Args:
        steps: sources, run in ``__main__`` one after another until one raises.
        name: the thread's.
        on_end: called once, in another thread.
    """

    def __init__(
        self, steps: Sequence[str], name: str, on_end: Callable[[SubintEnd], None]
    ) -> None:
        self.interpreter: int | None = None
        self.steps_begun = 0
        self._steps = steps
        self._on_end = on_end
        self._stop = False
        self._thread = threading.Thread(target=self._drive, name=name, daemon=True)

    @property
    def name(self) -> str:
        """The thread's name."""
        return self._thread.name

    def start(self) -> None:
        """Begin.  Raises RuntimeError when the system is out of threads."""
        _exit.hold(self)
        try:
            self._thread.start()
        except BaseException:
            _exit.release(self)
            raise

    def stop_early(self) -> None:
        """Begin no further step."""
        self._stop = True

    def join(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the thread; whether it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def abandon(self) -> str:
        """Give thread and interpreter up: the process will end without waiting for them.

        Should the thread end by itself later, then the interpreter is still destroyed.

        Returns:
            What is abandoned, and whether it still runs, in words.
        """
        self._stop = True
        _exit.watch_exit_status()
        return f"sub-interpreter {self.interpreter}, {self._state()}, and its thread {self.name!r}"

    def _state(self) -> str:
        import _interpreters

        try:
            running = self.interpreter is not None and _interpreters.is_running(self.interpreter)
        except (_interpreters.InterpreterError, ValueError):
            return "which is being destroyed"
        return "which still runs" if running else "which runs no code any more"

    def _drive(self) -> None:
        end = SubintEnd(1, "it never ran")
        try:
            end = self._run()
        except BaseException:
            end = SubintEnd(1, traceback.format_exc())
        finally:
            try:
                reaper = threading.Thread(
                    target=self._reap, args=(end,), name=f"{self.name} reaper", daemon=True
                )
                reaper.start()
            except RuntimeError as exc:
                # Out of threads. This one can't be waited for by itself, so the interpreter stays.
                _exit.watch_exit_status()
                self._on_end(end._replace(left=f"(not looked at: {exc})"))

    def _run(self) -> SubintEnd:
        import _interpreters

        self.interpreter = _interpreters.create("legacy")
        end = SubintEnd(1 if self._stop else 0)
        for step in self._steps:
            if self._stop:
                end = SubintEnd(1)
                break
            self.steps_begun += 1
            try:
                raised = _interpreters.exec(self.interpreter, step)
            except SyntaxError:
                # It is compiled here before it runs there.
                end = SubintEnd(1, traceback.format_exc(limit=0))
                break
            if raised is not None:
                end = _end_by(raised)
                break
        left = _interpreters.exec(self.interpreter, _EPILOGUE)
        return end if left is None else end._replace(left=left.msg)

    def _reap(self, end: SubintEnd) -> None:
        self._thread.join()
        if self.interpreter is None:
            left = None
        else:
            left = end.left if end.left is not None else self._destroy()
        if left is None:
            _exit.release(self)
        else:
            _exit.watch_exit_status()
        self._on_end(end._replace(left=left))
        if left is not None:
            self._destroy_later()

    def _destroy(self) -> str | None:
        """Destroy the interpreter.  Returns why that can't be done, if so."""
        import _interpreters

        try:
            _interpreters.destroy(self.interpreter)
        except _interpreters.InterpreterError as exc:
            return f"(it can't be destroyed: {exc})"
        return None

    def _destroy_later(self) -> None:
        """Wait until no thread runs in the interpreter any more: the process might go on for long."""
        import _interpreters

        pause = 0.1
        while _interpreters.exec(self.interpreter, _ARE_THREADS_LEFT) is not None:
            time.sleep(pause)
            pause = min(pause * 1.5, 10.0)
        if self._destroy() is None:
            _exit.release(self)


def _end_by(raised: Any) -> SubintEnd:
    """The end by an exception, of which only a description leaves the interpreter."""
    if raised.type.__name__ == "SystemExit":
        if raised.msg in (None, "", "None"):
            return SubintEnd(0)
        try:
            return SubintEnd(int(raised.msg) & 0xFF)
        except ValueError:
            pass
    return SubintEnd(1, f"{raised.errdisplay or raised.formatted}\n")


def run_subint_in_worker_thread(
    bootstrap: str, *, thread_name: str = "subint-trio", join_timeout: float = 10.0
) -> None:
    """Run code in a fresh sub-interpreter that shares the GIL, on a thread of its own, and destroy both.  Blocks.

    Args:
        bootstrap: source, run as ``__main__`` there; it sees nothing of the caller's.
        thread_name: the thread's name.
        join_timeout: seconds that it may take.

    Raises:
        RuntimeError: this Python has no such interpreters; the code raised (with its traceback as text), or ended
            with a ``SystemExit`` other than 0; it left threads behind; or it took too long. In the last two cases
            interpreter and thread are abandoned: they go on as they like, and the process will end by `os._exit`.
    """
    require_subints()
    ends: list[SubintEnd] = []
    ended = threading.Event()

    def on_end(end: SubintEnd) -> None:
        ends.append(end)
        ended.set()

    subint = SubintThread([bootstrap], thread_name, on_end)
    subint.start()
    if not ended.wait(join_timeout):
        what = subint.abandon()
        raise RuntimeError(f"not ended within join_timeout={join_timeout} s; abandoned: {what}")
    (end,) = ends
    if end.left is not None:
        raise RuntimeError(f"{subint.abandon()} are abandoned: threads still run in it: {end.left}")
    if end.status or end.failure is not None:
        raise RuntimeError(
            f"the code in sub-interpreter {subint.interpreter} ended with status {end.status}"
            + (f":\n{end.failure}" if end.failure else "")
        )
