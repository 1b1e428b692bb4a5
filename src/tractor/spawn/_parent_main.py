"""Replaying a parent's ``__main__`` in a child, so that a script's functions can be endpoints."""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader, SourcelessFileLoader
from types import CodeType, ModuleType
from typing import Any

__all__ = ["apply_parent_main_data", "get_parent_main_data"]

_REPLAY_NAME = "__mp_main__"

# The main of an actor that replayed nothing; there is nothing of a user's in it.
_CHILD_MODULE = "tractor._child"

# Mains that were replaced: functions of theirs may still run.
_replaced: list[ModuleType] = []


def get_parent_main_data(inherit: bool) -> dict[str, Any]:
    """What a child needs to import what this process can, in the parent.

    Args:
        inherit: Whether the child replays our ``__main__``, too.

    Returns:
        Data for :func:`apply_parent_main_data` that msgpack can carry: ``sys_path`` always;
        ``sys_argv``, and ``init_main_from_name`` or ``init_main_from_path`` where there is a main
        to replay.
    """
    data: dict[str, Any] = {"sys_path": _sys_path()}
    if not inherit:
        return data
    main = sys.modules.get("__main__")
    spec: ModuleSpec | None = getattr(main, "__spec__", None)
    if spec is not None:
        # ``python -m package`` and ``python directory`` run a ``__main__`` that exists to be run.
        if spec.name.rpartition(".")[2] == "__main__" or spec.name == _CHILD_MODULE:
            return data
        data["init_main_from_name"] = str.__str__(spec.name)
    else:
        path = getattr(main, "__file__", None)
        # Interactive, ``-c`` and standard input leave no file.
        if not isinstance(path, str) or not os.path.isfile(path):
            return data
        if os.path.splitext(os.path.basename(path))[0] == "ipython":
            return data
        data["init_main_from_path"] = _pack(os.path.abspath(path))
    data["sys_argv"] = [_pack(arg) for arg in sys.argv]
    return data


def apply_parent_main_data(data: dict[str, Any]) -> None:
    """Take over the parent's import path and replay its ``__main__``, in the child.

    Afterwards ``sys.modules`` names the replayed module both ``__main__`` and ``__mp_main__``.  The
    part under ``if __name__ == '__main__'`` does not run.

    Raises:
        BaseException: Whatever the parent's main module raises when it is imported; ``sys.modules``
            is then as before.
    """
    sys.path[:] = [_unpack(entry) for entry in data["sys_path"]]
    if "sys_argv" in data:
        sys.argv[:] = [_unpack(arg) for arg in data["sys_argv"]]
    if "init_main_from_name" in data:
        _replay(*_load_by_name(data["init_main_from_name"]))
    elif "init_main_from_path" in data:
        _replay(*_load_by_path(_unpack(data["init_main_from_path"])))


def _load_by_name(name: str) -> tuple[ModuleType, CodeType]:
    spec = importlib.util.find_spec(name)
    get_code = getattr(spec.loader, "get_code", None) if spec is not None else None
    code = get_code(name) if get_code is not None else None
    if spec is None or code is None:
        raise ImportError(f"the parent's main module {name!r} cannot be found here", name=name)
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
        exec(code, module.__dict__)
    except BaseException:
        sys.modules.pop(_REPLAY_NAME, None)
        if before is not None:
            sys.modules["__main__"] = before
        raise
    if before is not None:
        _replaced.append(before)


def _sys_path() -> list[str | bytes]:
    path: list[str | bytes] = []
    for entry in sys.path:
        if not isinstance(entry, str):
            continue
        # Relative entries mean our working directory, which need not be the child's.
        try:
            path.append(_pack(os.path.abspath(entry)))
        except FileNotFoundError:
            continue
    return path


def _pack(text: str) -> str | bytes:
    """File names need not be UTF-8, but msgpack's strings are; some in ``sys.argv`` may be of a subclass."""
    text = str.__str__(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def _unpack(text: str | bytes) -> str:
    return os.fsdecode(text)
