"""Which process is which, in `ps` and `top`: its title, or a short name where no library is there that sets one."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Protocol

from tractor.process._at_fork import on_fork
from tractor.process._state import ProcessVar


class _Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def pid(self) -> int | None: ...


def actor_title(name: str, pid: int | None, prefix: str = "_subactor") -> str:
    """``<prefix>[<name>@<pid>]``; what would garble a terminal or end a C string is shown as ``?``."""
    plain = "".join(c if c.isprintable() else "?" for c in name)
    return f"{prefix}[{plain}@{pid}]"


def set_actor_proctitle(actor: _Named, prefix: str = "_subactor") -> str | None:
    """Give this process the title of an actor, ``<prefix>[<name>@<pid>]``, also as its short name (``comm``).

    Args:
        actor: the actor of this process, or its ``Aid``.
        prefix: what the title begins with.

    Returns:
        The title; ``None`` where ``setproctitle`` is not installed, and nothing has changed.
    """
    title = actor_title(actor.name, actor.pid, prefix)
    return title if set_title(title) else None


def set_title(title: str) -> bool:
    """Set the process title; ``False`` where that can't be done.  Never raises."""
    try:
        import setproctitle

        # Before the first call the library looks for the arguments, and changes nothing where it fails.
        setproctitle.setproctitle(title)
    except Exception:
        return False
    return True


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
