"""Making a forked process like one that was started afresh.

The child of a fork has its parent's memory, and of the parent's threads the one that forked.  What is dropped here
is kept alive all the same: the finalizers of the parent's objects are none of the child's business.  They write out
what the parent has buffered, and remove its files.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import gc
import importlib._bootstrap as _bootstrap
import io
import logging
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Collection
from types import ModuleType
from typing import Any, TextIO

from tractor.log import PACKAGE
from tractor.process._frozen import is_frozen
from tractor.process._state import renew_all
from tractor.process._stdio import has_stream
from tractor.runtime._state import forget_actor, last_actor
from tractor.runtime._vars import reset_runtime_vars
from tractor.transport._settings import reset_wire_settings

_of_the_parent: list[object] = []
"""What must not be finalized."""

_IGNORED_AT_START = {
    getattr(signal, name) for name in ("SIGPIPE", "SIGXFZ", "SIGXFSZ") if hasattr(signal, name)
}
"""Signals that a starting interpreter ignores."""


def reset_process(mask: Collection[int]) -> None:
    """Drop what belongs to the parent's threads, tasks and runtime; first thing in a forked child.

    Descriptors, loggers and ``__main__`` are left alone.

    Args:
        mask: The signals to have blocked from now on.
    """
    gc.freeze()
    _reset_signals()
    _reset_threads()
    _renew_streams()
    _forget_exit_handlers()
    _forget_imports_under_way()
    _forget_multiprocessing()
    _reseed()
    _renew_warnings()
    for name in ("excepthook", "unraisablehook", "breakpointhook", "displayhook"):
        setattr(sys, name, getattr(sys, f"__{name}__"))
    _of_the_parent.append(last_actor())
    _of_the_parent.append(renew_all())
    forget_actor()
    reset_runtime_vars()
    reset_wire_settings()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # type: ignore[attr-defined, unused-ignore]


def forget_program(main_spec: Any) -> None:
    """Drop the parent's log handlers, ``__main__`` and arguments.

    The modules that it has imported stay, and so does what they have done to themselves.

    Args:
        main_spec: The ``ModuleSpec`` of the program that this process is said to run instead.
    """
    _forget_log_handlers()
    if is_frozen():
        # Nothing could be replayed from its file.
        return
    for name in ("__main__", "__mp_main__"):
        _of_the_parent.append(sys.modules.pop(name, None))
    main = ModuleType("__main__")
    main.__spec__ = main_spec
    sys.modules["__main__"] = main
    sys.argv[:] = [main_spec.origin]


def _reset_signals() -> None:
    # The parent's wakeup descriptor is one that its trio reads.
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if number == signal.SIGINT:
            wanted: Any = signal.default_int_handler
        elif number in _IGNORED_AT_START or handler is signal.SIG_IGN:
            wanted = signal.SIG_IGN
        else:
            wanted = signal.SIG_DFL
        # `None`: a handler that was not installed by Python, faulthandler's among them.
        if handler is not wanted and handler is not None:
            signal.signal(number, wanted)
    if faulthandler.is_enabled():
        # It writes to a descriptor of the parent's choice.
        faulthandler.disable()
        if sys.flags.dev_mode or "faulthandler" in sys._xoptions:
            faulthandler.enable(2)


def _reset_threads() -> None:
    thread: Any = threading.current_thread()
    thread.name = "MainThread"
    # Threads take this over from the one that starts them.
    thread._daemonic = False
    threading.excepthook = threading.__excepthook__


def _renew_streams() -> None:
    """Standard streams without what the parent had buffered, and without a lock that a thread of it held."""
    modes = {"stdin": "r", "stdout": "w", "stderr": "w"}
    there = [has_stream(fd) for fd in range(3)]
    for fd, (name, mode) in enumerate(modes.items()):
        _of_the_parent.extend((getattr(sys, name), getattr(sys, f"__{name}__")))
        stream = _open_standard(fd, mode, getattr(sys, f"__{name}__"), there[fd])
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _open_standard(fd: int, mode: str, before: TextIO | None, is_there: bool) -> TextIO | None:
    if not is_there:
        return None
    # Says whether the interpreter was started with `-u`.
    unbuffered = bool(getattr(before, "write_through", False))
    raw: Any = open(fd, f"{mode}b", 0 if unbuffered else -1, closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(
        raw,
        encoding=getattr(before, "encoding", None),
        errors="backslashreplace" if fd == 2 else getattr(before, "errors", None),
        line_buffering=not unbuffered and (fd == 2 or raw.isatty()),
        write_through=unbuffered,
    )


def _forget_exit_handlers() -> None:
    atexit._clear()
    registry: dict[Any, Any] | None = getattr(weakref.finalize, "_registry", None)
    if registry is not None:
        # Else the parent's temporary directories would go with the child.
        _of_the_parent.append(dict(registry))
        registry.clear()
        weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]


def _forget_imports_under_way() -> None:
    """Modules that other threads were importing are nobody's now: they are imported anew when they are needed."""
    locks: dict[str, Any] = getattr(_bootstrap, "_module_locks", {})
    for name in list(locks):
        module = sys.modules.get(name)
        if getattr(getattr(module, "__spec__", None), "_initializing", False):
            _of_the_parent.append(sys.modules.pop(name))
    locks.clear()
    with contextlib.suppress(AttributeError):
        _bootstrap._blocking_on.clear()  # type: ignore[attr-defined]


def _forget_multiprocessing() -> None:
    """Its processes, managers and helper processes are the parent's."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        _of_the_parent.append(dict(util._finalizer_registry))
        util._finalizer_registry.clear()
        util._run_after_forkers()
        atexit.register(util._exit_function)
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None:
        _of_the_parent.append(process._children)
        process._children = set()
    tracker: Any = getattr(
        sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None
    )
    if tracker is not None:
        tracker._fd = tracker._pid = None
    server: Any = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    if server is not None:
        server._forkserver_pid = server._forkserver_alive_fd = server._forkserver_address = None


def _reseed() -> None:
    # `random` and OpenSSL do this themselves.
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _renew_warnings() -> None:
    """The filters of a starting interpreter; and nobody catches what is shown."""
    warnings.resetwarnings()
    if not hasattr(sys, "gettotalrefcount"):
        warnings.filterwarnings("default", "", DeprecationWarning, "__main__", append=True)
        for kind in (
            DeprecationWarning,
            PendingDeprecationWarning,
            ImportWarning,
            ResourceWarning,
        ):
            warnings.simplefilter("ignore", kind, append=True)
    options: Any = warnings
    options._processoptions(sys.warnoptions)
    warnings.showwarning = _show_warning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    out = sys.stderr if file is None else file
    with contextlib.suppress(OSError, ValueError, AttributeError):
        out.write(warnings.formatwarning(message, category, filename, lineno, line))


def _forget_log_handlers() -> None:
    manager = logging.Logger.manager
    loggers = [logging.root, *manager.loggerDict.values()]
    for logger in loggers:
        if isinstance(logger, logging.Logger):
            _of_the_parent.extend(logger.handlers)
            logger.handlers.clear()
            if logger.name.partition(".")[0] == PACKAGE:
                logger.setLevel(logging.NOTSET)
    # What `logging.shutdown()` would flush.
    handlers: list[Any] = logging._handlerList  # type: ignore[attr-defined]
    _of_the_parent.extend(handlers)
    handlers[:] = [ref for ref in handlers if ref() is logging.lastResort]
    atexit.register(logging.shutdown)
