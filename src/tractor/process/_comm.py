"""A process's short name (``comm``), where no library is there that sets a whole title."""

from __future__ import annotations

import contextlib
import os
import sys

from tractor.process._at_fork import on_fork
from tractor.process._state import ProcessVar

COMM_PATH = "/proc/self/comm"
"""Takes 15 bytes; what is longer is cut.  That of the process is its main thread's."""

_before: ProcessVar[bytes | None] = ProcessVar(lambda: None)


def set_short_name(title: str) -> bool:
    """Give this process a short name, by which an actor that was forked is told from its parent.

    Never for an actor that shares its parent's process.  What user code forks off later gets the name back that was
    there before: it is not an actor.

    Args:
        title: the actor's process title.

    Returns:
        Whether it was set; only Linux can.
    """
    if sys.platform != "linux":
        return False
    try:
        with open(COMM_PATH, "rb") as file:
            before = file.read().rstrip(b"\n")
        _write(os.fsencode(title))
    except (OSError, ValueError):
        return False
    _before.value = before
    return True


def _restore() -> None:
    if _before.value is not None:
        with contextlib.suppress(OSError):
            _write(_before.value)


def _write(name: bytes) -> None:
    with open(COMM_PATH, "wb", buffering=0) as file:
        file.write(name)


on_fork(_restore, always=True)
