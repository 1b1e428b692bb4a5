"""How a process ends itself."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from typing import NoReturn


def leave(status: int) -> NoReturn:
    """End the process: threads, exit handlers and buffers as usual, without tearing every module down."""
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    flush_standard_streams()
    os._exit(status & 0xFF)


def end_by_signal(number: int) -> NoReturn:
    """End the process by a signal, with its buffers written."""
    flush_standard_streams()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # The first process of a container, PID 1, can't be ended by a signal of its own.
    os._exit(128 + number)


def flush_standard_streams() -> bool:
    """Write out what is buffered for stdout and stderr; one that is closed or missing is passed over.

    Returns:
        Whether that has worked.
    """
    written = True
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except Exception:
            written = False
    return written
