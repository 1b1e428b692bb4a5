"""The modules that are ``__main__``: those in ``sys.modules``, and those that only run."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from tractor._util._frames import calling_frames, frames_above, main_thread_frame
from tractor.process._state import ProcessVar

# Loads the program's main module, when it is first asked for; in a process that is not where the program began.
_load: ProcessVar[Callable[[], None] | None] = ProcessVar(lambda: None)
_lock = ProcessVar(threading.RLock)


class _Running:
    """Stands for a module that is not in ``sys.modules``: its namespace is this object's."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.__dict__ = namespace


def main_modules() -> list[Any]:
    """Where a function whose module is ``__main__`` may be: modules, or objects that have the attributes of one.

    Tools that run a program (``python -m cProfile``, ``trace``, :mod:`runpy`) do not always put it in ``sys.modules``.

    Raises:
        BaseException: what the program's main module raises, where it is loaded only now.
    """
    with _lock.value:
        load, _load.value = _load.value, None
        if load is not None:
            load()
    names = ("__mp_main__", "__main__")
    found: list[Any] = [sys.modules[name] for name in names if name in sys.modules]
    for namespace in running_mains((*calling_frames(), *frames_above(main_thread_frame()))):
        if all(vars(module) is not namespace for module in found):
            found.append(_Running(namespace))
    return found


def load_main_later(load: Callable[[], None] | None) -> None:
    """Have the program's main module loaded when :func:`main_modules` is first called; ``None``: there is none."""
    _load.value = load


def running_mains(frames: Iterable[FrameType]) -> Iterator[dict[str, Any]]:
    """The namespaces of every ``__main__`` that runs in one of the frames."""
    for frame in frames:
        if frame.f_globals.get("__name__") == "__main__":
            yield frame.f_globals
