"""What the builtin ``breakpoint()`` does while a runtime is open."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from tractor import log as _log
from tractor.process._at_fork import undone_in_child

log = _log.get_logger()

SYNC_PAUSE = "tractor.devx.debug._sync_pause_from_builtin"
"""What ``breakpoint()`` calls in an actor of which the tasks can pause in sync code."""
VARIABLE = "PYTHONBREAKPOINT"


def _refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
    """Stands for a ``breakpoint()`` that would open a debugger which knows nothing of the tree."""
    raise RuntimeError(
        "`breakpoint()` can't be used in this actor: it would not share the terminal with the tree's other processes. "
        "Install `greenback` and open the root actor with `debug_mode=True` (and `maybe_enable_greenback=True`, the "
        "default); or, in async code, use `await tractor.pause()`"
    )


def greenback_is_there(say: bool = True) -> bool:
    """Whether `greenback` is installed; with ``say`` the log tells where it is not."""
    import importlib.util

    found = importlib.util.find_spec("greenback") is not None
    if not found and say:
        log.warning(
            "`greenback` is not installed: `await tractor.pause()` can be used, "
            "`breakpoint()` and `tractor.pause_from_sync()` can't"
        )
    return found


@contextmanager
def own_breakpoint(target: str | None) -> Iterator[None]:
    """Have ``breakpoint()`` call ``target`` for the length of the block; hook and variable are put back in any case.

    Args:
        target: dotted name of the function to call; ``None``: ``breakpoint()`` is refused with a ``RuntimeError``.
    """
    hook, variable = sys.breakpointhook, os.environ.get(VARIABLE)
    sys.breakpointhook = _refuse if target is None else sys.__breakpointhook__
    os.environ[VARIABLE] = target or "0"

    def put_back() -> None:
        sys.breakpointhook = hook
        if variable is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = variable

    try:
        with undone_in_child(put_back):
            yield
    finally:
        put_back()
