"""Replaying a parent's ``__main__`` in a child, so that a script's functions can be endpoints."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Iterable
from functools import partial
from importlib.machinery import PathFinder, SourceFileLoader, SourcelessFileLoader
from types import CodeType, ModuleType
from typing import Any

from tractor._errors import RuntimeFailure
from tractor._util._mains import load_main_later
from tractor.process._state import ProcessVar, of_process
from tractor.spawn._import_path import import_path, pack, unpack
from tractor.spawn._program import Program, find_program, way_out
from tractor.spawn._sent_modules import install_sent_modules, known_modules

SHIPPED_MAIN = "sha256:"
"""Begins the path of a main module that was sent here: then come a folder of the import path, and the file in it."""

_REPLAY_NAME = "__mp_main__"

# Mains that were replaced: functions of theirs may still run.
_replaced: list[ModuleType] = of_process([])

# What this process was told of the program by its parent; `None`: it has none, and is where the program began.
_told: ProcessVar[Program | None] = ProcessVar(lambda: None)

_UNTOLD = "this actor was started with `inherit_parent_main=False`, and so has nothing of the program's main module"

# A main module that starts the program while it is replayed has no main guard.
_replaying_in: ProcessVar[int | None] = ProcessVar(lambda: None)
"""The thread that replays one."""

_IS_RUNNING = ("from inside a run()", "from a running event loop", "main module is replayed")
"""What trio, asyncio and we say to a program that starts them, in a process where they run."""


def get_parent_main_data(inherit: bool, enabled: Iterable[str] = ()) -> dict[str, Any]:
    """What a child needs to import what this process can, in the parent.

    Args:
        inherit: Whether the child replays our ``__main__``, too.
        enabled: Names of the modules that the child serves.

    Returns:
        Data for :func:`apply_parent_main_data` that msgpack can carry: ``sys_path`` always; modules that are not
        found by it; and, where there is a main to replay, where that is, whether to do it at once, and ``sys_argv``.

    Raises:
        ValueError: ``__main__`` is enabled, but not to be inherited.
        RuntimeFailure: ``__main__`` is enabled, but a child could not find it; says why, and what to do.  Or this is
            called by a main module that is being replayed.
    """
    refuse_in_replay(any_thread=False)
    enabled = list(enabled)
    data: dict[str, Any] = {"sys_path": [pack(entry) for entry in import_path()]}
    data.update(known_modules(enabled))
    wanted = "__main__" in enabled
    if not inherit:
        if wanted:
            raise ValueError(
                "functions of `__main__` are to be run in an actor, but `inherit_parent_main=False` keeps that module"
                " from it; leave the argument out, or move the functions to a module of their own"
            )
        return data
    program = _program() if wanted else _told.value or find_program()
    if program.origin is not None:
        data.update(program.origin)
        data["replay_main"] = wanted or not program.is_entry
        data["sys_argv"] = [pack(arg) for arg in sys.argv]
    return data


def require_program() -> None:
    """Return where another process can load our ``__main__``.

    Raises:
        RuntimeFailure: None can; says why, and what to do.
    """
    _program()


def refuse_in_replay(any_thread: bool) -> None:
    """Return where an actor may be started, or a root be opened, as far as this goes.

    Args:
        any_thread: whether a replay in any thread of this process counts, or one in this thread alone.

    Raises:
        RuntimeFailure: a main module that is being replayed tries to.
    """
    if _replaying_in.value is not None and (
        any_thread or _replaying_in.value == threading.get_ident()
    ):
        raise RuntimeFailure(
            "no actor can be started while the main module is replayed in one: put what starts the program"
            " under `if __name__ == '__main__':`"
        )


def program_origin() -> dict[str, Any] | None:
    """Where another process finds our ``__main__``; ``None``: it finds none."""
    return _program_as_known().origin


def _program() -> Program:
    program = _program_as_known()
    if program.origin is None:
        raise RuntimeFailure(
            f"functions of `__main__` can't be run in an actor: {program.why_not}, so that another process"
            f" can't load them; {way_out()}"
        )
    return program


def _program_as_known() -> Program:
    return _told.value or find_program()


def take_import_path(data: dict[str, Any]) -> None:
    """Have the child find the modules that the parent finds; no code of the program's runs.

    A parent on another host says nothing of its path: what was sent is in this process's own one already.
    """
    if "sys_path" in data:
        sys.path[:] = [unpack(entry) for entry in data["sys_path"]]
    install_sent_modules(data)


def apply_parent_main_data(data: dict[str, Any]) -> None:
    """Take over the parent's import path and replay its ``__main__``, in the child.

    Afterwards ``sys.modules`` names the replayed module both ``__main__`` and ``__mp_main__``.  The
    part under ``if __name__ == '__main__'`` does not run.

    Raises:
        RuntimeFailure: The parent's main module has no main guard, or ends the process.
        BaseException: Whatever else it raises when it is imported.  ``sys.modules`` is then as before.
    """
    take_import_path(data)
    load_main_later(None)
    origin: dict[str, str | bytes | bool] = {
        key: _where_it_is(value) for key, value in data.items() if key.startswith("init_main_")
    }
    if not origin:
        _told.value = Program(None, why_not=_UNTOLD)
        return
    _told.value = Program(origin, is_entry=not data["replay_main"])
    if data["replay_main"]:
        _replay_main(origin, data["sys_argv"])
    else:
        load_main_later(partial(_replay_main, origin, data["sys_argv"]))


def _where_it_is(path: Any) -> Any:
    """The path of a main module, also of one that was sent here."""
    text = unpack(path) if isinstance(path, (str, bytes)) else ""
    if not text.startswith(SHIPPED_MAIN):
        return path
    folder, _, name = text.removeprefix(SHIPPED_MAIN).partition("/")
    for entry in sys.path:
        if os.path.basename(entry) == folder:
            return pack(os.path.join(entry, name))
    raise RuntimeFailure(f"the main module {name!r} was not sent here, or sys.path was replaced")


def _replay_main(origin: dict[str, Any], argv: list[str | bytes]) -> None:
    sys.argv[:] = [unpack(arg) for arg in argv]
    if "init_main_from_name" in origin:
        _replay(*_load_by_name(unpack(origin["init_main_from_name"])))
    elif "init_main_from_path" in origin:
        _replay(*_load_by_path(unpack(origin["init_main_from_path"])))
    elif "init_main_from_entry" in origin:
        _replay(*_load_by_entry(unpack(origin["init_main_from_entry"])))
    else:
        sys.modules[_REPLAY_NAME] = sys.modules["__main__"]


def _load_by_name(name: str) -> tuple[ModuleType, CodeType]:
    return _load_by_spec(name, importlib.util.find_spec(name))


def _load_by_entry(entry: str) -> tuple[ModuleType, CodeType]:
    return _load_by_spec("__main__", PathFinder.find_spec("__main__", [entry]), entry)


def _load_by_spec(name: str, spec: Any, entry: str = "") -> tuple[ModuleType, CodeType]:
    get_code = getattr(spec.loader, "get_code", None) if spec is not None else None
    code = get_code(name) if get_code is not None else None
    if code is None:
        where = f"in {entry!r}" if entry else "here"
        raise ImportError(f"the parent's main module {name!r} cannot be found {where}", name=name)
    module = ModuleType(_REPLAY_NAME)
    module.__spec__ = spec
    module.__loader__ = spec.loader
    module.__package__ = spec.parent
    module.__file__ = spec.origin
    return module, code


def _load_by_path(path: str) -> tuple[ModuleType, CodeType]:
    module = ModuleType(_REPLAY_NAME)
    if path.endswith(".pyc"):
        compiled = SourcelessFileLoader(_REPLAY_NAME, path)
        code = compiled.get_code(_REPLAY_NAME)
        assert code is not None
        module.__loader__ = compiled
    else:
        # Compiled here, not by get_code(), which would leave a ``__pycache__`` beside the script.
        source = SourceFileLoader(_REPLAY_NAME, path)
        code = source.source_to_code(source.get_data(path), path)
        module.__loader__ = source
    module.__file__ = path
    return module, code


def _replay(module: ModuleType, code: CodeType) -> None:
    before = sys.modules.get("__main__")
    # In place before its code runs, because types look their own module up while they are made.
    sys.modules["__main__"] = sys.modules[_REPLAY_NAME] = module
    try:
        _replaying_in.value = threading.get_ident()
        exec(code, module.__dict__)
    except BaseException as exc:
        sys.modules.pop(_REPLAY_NAME, None)
        if before is not None:
            sys.modules["__main__"] = before
        if _has_no_guard(exc):
            raise RuntimeFailure(
                f"the main module {module.__file__!r} starts the program again when an actor imports it:"
                " it has no main guard. Put what starts the program under `if __name__ == '__main__':`"
                f" (found by {exc!r})"
            ) from exc
        raise
    finally:
        _replaying_in.value = None
    if before is not None:
        _replaced.append(before)


def _has_no_guard(exc: BaseException) -> bool:
    """Whether a main module has tried to run the program, or has ended itself as after one."""
    seen: BaseException | None = exc
    while seen is not None:
        text = str(seen)
        if isinstance(seen, RuntimeError) and any(words in text for words in _IS_RUNNING):
            return True
        seen = seen.__cause__ or seen.__context__
    return isinstance(exc, SystemExit)
