"""Packages whose public names are loaded when they are first used (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def lazy_exports(
    package: str,
    homes: Mapping[str, Iterable[str]],
    submodules: Iterable[str] = (),
    aliases: Mapping[str, tuple[str, str]] | None = None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    Args:
        package: its name.
        homes: the public names that each module, given by its full name, holds.
        submodules: its submodules.
        aliases: for each further name the module, by its full name, and what it is called there.

    Returns:
        The three; a name that was used once is an ordinary global of the package afterwards.  Names with a leading
        underscore can be used, but are not listed.
    """
    where = {name: (home, name) for home, names in homes.items() for name in names}
    where.update(aliases or {})
    modules = {name: f"{package}.{name}" for name in submodules}

    public = [name for name in (*modules, *where) if not name.startswith("_")]

    def load(name: str) -> Any:
        value: Any
        if name in where:
            home, original = where[name]
            value = getattr(importlib.import_module(home), original)
        elif name in modules:
            value = importlib.import_module(modules[name])
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        vars(sys.modules[package])[name] = value
        return value

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *public})

    return load, listed, public
