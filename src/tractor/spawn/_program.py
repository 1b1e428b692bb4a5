"""Which program this process runs, and where another process would find it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from tractor._util._frames import calling_frames, frames_above, main_thread_frame
from tractor._util._mains import running_mains
from tractor._util._plain import plain
from tractor.spawn._import_path import absolute, pack


class Program(NamedTuple):
    """The module that this program was started as, its ``__main__``.

    Attributes:
        origin: where a child finds it: ``init_main_from_name`` (a module), ``_from_path`` (a file), ``_from_entry``
            (a directory or an archive with a ``__main__.py``), or ``_here`` (a frozen program's child runs it already);
            ``None``: nowhere.
        is_entry: it is a ``__main__.py``, which exists to be run; often it has nothing else, and no main guard.
        why_not: where there is no origin: the reason.
    """

    origin: dict[str, str | bytes | bool] | None
    is_entry: bool = False
    why_not: str = ""


def find_program() -> Program:
    """The program that this process runs.

    Tools that run one (``python -m cProfile``, ``trace``, ``pdb``, :mod:`runpy`) do not always put it in
    ``sys.modules``.  Then it is found by the frames that wait for the caller: one of them is in it.
    """
    if getattr(sys, "frozen", False):
        return Program({"init_main_here": True})
    registered = vars(sys.modules["__main__"]) if "__main__" in sys.modules else {}
    if is_ipython() or hasattr(sys, "ps1"):
        # What is defined there is not in the file of a script that was run before.
        return _locate(registered) or Program(None, why_not=_why_not(registered))
    for namespace in running_mains(calling_frames()):
        if namespace is registered:
            break
        if (program := _locate(namespace)) is not None:
            return program
    else:
        # In a thread.
        for namespace in running_mains(frames_above(main_thread_frame())):
            if namespace is not registered and (program := _locate(namespace)) is not None:
                return program
    found = _locate(registered) or _by_code(registered)
    return found or Program(None, why_not=_why_not(registered))


def _by_code(registered: Mapping[str, Any]) -> Program | None:
    """A script that is over has lost its file's name, but its functions still run, in a thread."""
    for frame in calling_frames():
        if frame.f_globals is registered:
            return _locate({"__file__": frame.f_code.co_filename})
    return None


def _locate(namespace: Mapping[str, Any]) -> Program | None:
    spec: Any = namespace.get("__spec__")
    name = getattr(spec, "name", None)
    # Profilers make one without a loader for a script.
    if isinstance(name, str) and spec.loader is not None:
        if name != "__main__":
            return Program({"init_main_from_name": pack(name)}, name.endswith(".__main__"))
        # `python directory` and `python archive.pyz`.
        archive = getattr(spec.loader, "archive", None)
        entry = absolute(archive or os.path.dirname(plain(spec.origin)))
        return Program({"init_main_from_entry": pack(entry)}, True) if entry else None
    path = namespace.get("__file__")
    if not isinstance(path, str | os.PathLike) or plain(path).endswith(".ipynb"):
        return None
    found = absolute(plain(path))
    if found is None or not os.path.isfile(found):
        return None
    return Program({"init_main_from_path": pack(found)})


def _why_not(namespace: Mapping[str, Any]) -> str:
    path = namespace.get("__file__")
    if is_ipython():
        return "the cells of a notebook or of an IPython session are in no file"
    if hasattr(sys, "ps1") or sys.flags.interactive:
        return "what is typed at a prompt is in no file"
    if sys.argv[:1] == ["-c"]:
        return "a program given by `python -c` is in no file"
    if isinstance(path, str | os.PathLike) and not plain(path).startswith("<"):
        return f"its file {plain(path)!r} is not found (any more)"
    return "a program read from standard input is in no file"


def way_out() -> str:
    """What to do where there is no program to be found by a child."""
    if is_ipython():
        return (
            "run `%load_ext tractor.notebook` and begin the cell that defines the functions with `%%actors`,"
            " or move them to a module (a .py file) and import that here"
        )
    return "move them to a module (a .py file) and import that here"


def is_ipython() -> bool:
    """Whether this is a notebook's kernel or an IPython session."""
    ipython: Any = sys.modules.get("IPython")
    get_ipython = getattr(ipython, "get_ipython", None)
    return get_ipython is not None and get_ipython() is not None
