"""Modules that a child can't find by its import path alone: loaded by file path here, or written in a notebook.

What a parent has of them goes to each child with its configuration, and from there to its own children.  A child on
another host imports what is there; what goes to it are digests, by which it sees whether that is the same.
"""

from __future__ import annotations

import hashlib
import importlib.util
import linecache
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tractor._errors import RuntimeFailure
from tractor._util._plain import plain
from tractor.process._state import of_process
from tractor.spawn._import_path import pack, unpack

if TYPE_CHECKING:
    from importlib.abc import Loader
else:
    # That module takes a millisecond to load, and its classes give nothing that the import system asks for.
    Loader = object

Cell = tuple[str, str]
"""A part of a module that is in no file: the name by which tracebacks know it, and its source."""

cells: dict[str, list[Cell]] = of_process({})
"""The modules that are in no file, by name: their parts, in the order in which they run."""

_files: dict[str, tuple[str, list[str] | None] | None] = of_process({})
"""Those of the parent's that were loaded by file path: file and package path; ``None``: a package that is nowhere."""


def known_modules(enabled: Iterable[str]) -> dict[str, Any]:
    """What a child needs to import the enabled modules, as :func:`install_sent_modules` takes it.

    Args:
        enabled: names of modules; those that are loaded here are to be the same there.
    """
    files = dict(_files)
    for name in enabled:
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            _note_file(".".join(parts[:end]), end < len(parts), files)
    data: dict[str, Any] = {}
    if files:
        data["module_files"] = {name: _pack_file(known) for name, known in files.items()}
    if cells:
        data["module_cells"] = cells
    return data


def install_sent_modules(data: dict[str, Any]) -> None:
    """Have this process import what :func:`known_modules` of its parent has told of, from where the parent has it."""
    for name, known in data.get("module_files", {}).items():
        _files[name] = None if known is None else (unpack(known[0]), _unpack_all(known[1]))
    for name, parts in data.get("module_cells", {}).items():
        cells[name] = [(label, source) for label, source in parts]
    if (_files or cells) and _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def module_digests(names: Iterable[str]) -> dict[str, str]:
    """A digest of the source of each module that is here; of ``__main__``, and of what has no source, there is none."""
    found = {name: _digest(name) for name in names if name != "__main__"}
    return {name: digest for name, digest in found.items() if digest}


def check_modules(data: dict[str, Any]) -> None:
    """Compare the modules of this actor with what its parent has told of its own; what is only there is passed over.

    Args:
        data: ``module_digests``, by name, and ``module_ship``, whether code is sent to this host; without them nothing
            was told.

    Raises:
        RuntimeFailure: some differ, though code is sent; without that there is a RuntimeWarning.
    """
    told: dict[str, str] = data.get("module_digests", {})
    here = module_digests(told)
    differ = [name for name, digest in here.items() if digest != told[name]]
    if not differ:
        return
    which = ", ".join(
        f"{name!r} ({getattr(sys.modules.get(name), '__file__', None)})" for name in differ
    )
    text = f"enabled modules differ from those on the parent's host: {which}; "
    if data.get("module_ship"):
        raise RuntimeFailure(text + "`ship` their package, too, or install the same version here")
    # Seen by everybody: it is printed to stderr, which comes back to the parent's host.
    warnings.warn(
        text + "install the same version here, or `ship` their package", RuntimeWarning, 2
    )


def show_source(label: str, source: str) -> None:
    """Have tracebacks and :mod:`inspect` show the source of a :data:`Cell`."""
    linecache.cache[label] = (len(source), None, source.splitlines(keepends=True), label)


class _Finder:
    """Finds the modules that this file knows, before ``sys.path`` is looked at."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As :meth:`importlib.abc.MetaPathFinder.find_spec`."""
        if name in cells:
            return ModuleSpec(name, _CellLoader(), origin="cells of a notebook")
        if name not in _files:
            return None
        known = _files[name]
        if known is None:
            return ModuleSpec(name, None, is_package=True)
        file, search = known
        if not os.path.isfile(file):
            return None
        spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=search)
        # A name without a suffix that Python knows is source, too, if somebody could load it.
        return spec or importlib.util.spec_from_loader(name, SourceFileLoader(name, file))


class _CellLoader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """An ordinary one."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run its parts, each under its own label."""
        for label, source in cells[module.__name__]:
            show_source(label, source)
            exec(compile(source, label, "exec"), module.__dict__)


_finder: Any = _Finder()


def _note_file(name: str, is_parent: bool, files: dict[str, Any]) -> None:
    """Note the file of a loaded module, if its import path does not lead there."""
    module = sys.modules.get(name)
    if name in cells or name in files or name == "__main__":
        return
    if module is None:
        if is_parent and any(loaded.startswith(f"{name}.") for loaded in sys.modules):
            files[name] = None
        return
    spec = getattr(module, "__spec__", None)
    file = getattr(spec, "origin", None) or getattr(module, "__file__", None)
    if not isinstance(file, str | os.PathLike) or not os.path.isfile(file):
        return
    file = os.path.abspath(plain(file))
    above = sys.modules.get(name.rpartition(".")[0])
    try:
        found = PathFinder.find_spec(name, getattr(above, "__path__", None))
    except Exception:
        # A finder of somebody's, or an entry that can't be read.
        found = None
    origin = getattr(found, "origin", None)
    if origin is None or os.path.abspath(origin) != file:
        search = getattr(module, "__path__", None)
        files[name] = file, None if search is None else [plain(entry) for entry in search]


def _pack_file(known: tuple[str, list[str] | None] | None) -> Any:
    if known is None:
        return None
    file, search = known
    return pack(file), None if search is None else [pack(entry) for entry in search]


def _unpack_all(entries: list[str | bytes] | None) -> list[str] | None:
    return None if entries is None else [unpack(entry) for entry in entries]


def _digest(name: str) -> str | None:
    try:
        spec = getattr(sys.modules.get(name), "__spec__", None) or importlib.util.find_spec(name)
        loader: Any = None if spec is None else spec.loader
        source = loader.get_source(name) if hasattr(loader, "get_source") else None
    except Exception:
        # Nobody's source can be had that can't be found or read; who needs it will say so.
        return None
    return None if source is None else hashlib.sha256(source.encode()).hexdigest()
