"""Packages whose public names are loaded when they are first used (PEP 562)."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Any


class _NotedModule:
    """Stands for a module whose import is noted, not made: its attributes are their places, ``(module, name)``."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> tuple[str, str]:
        return self._module, name


def lazy_exports(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package whose names stand in its module ``_exports``.

    That module is nothing but imports and aliases.  Type checkers and editors, for which the package imports all of
    it, know each name's type by it.  In a running program its code is run too, when a name is first used, but then
    each import only tells what is where.  The code is the compiled one: a frozen program has no other.

    The two are for the running program only: type checkers would take a module's ``__getattr__`` for any name.

    Args:
        package: its name.

    Returns:
        The two.  A name that was used once is an ordinary global of the package afterwards, and so is ``__all__``.
        Names with a leading underscore can be used, but are not listed.
    """
    places = functools.cache(lambda: _noted_imports(f"{package}._exports"))

    def public() -> list[str]:
        return [name for name in places() if not name.startswith("_")]

    def load(name: str) -> Any:
        value: Any
        if name == "__all__":
            value = public()
        elif (place := places().get(name)) is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        elif place[0] == package:
            value = importlib.import_module(f"{package}.{name}")
        else:
            home, original = place
            value = getattr(importlib.import_module(home), original)
        vars(sys.modules[package])[name] = value
        return value

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *public()})

    return load, listed


def _noted_imports(module: str) -> dict[str, tuple[str, str]]:
    """Where a module would import each of its names from; none of those imports is made.

    Raises:
        ImportError: the loader has no code of it.
    """
    spec = importlib.util.find_spec(module)
    # Every loader of Python code has `get_code`: of files, archives and executables (`importlib.abc.InspectLoader`).
    code = spec.loader.get_code(module) if spec and spec.loader else None  # type: ignore[attr-defined]
    if code is None:
        raise ImportError(f"there is no code of {module}", name=module)

    def note(home: str, *_scope_and_names: object) -> _NotedModule:
        return _NotedModule(home)

    # The statement `import` calls the `__import__` of its globals' builtins.
    names: dict[str, Any] = {"__builtins__": {"__import__": note}}
    exec(code, names)
    return {name: place for name, place in names.items() if isinstance(place, tuple)}
