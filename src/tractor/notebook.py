"""Notebooks and IPython sessions: cells whose functions actors can run.

What is defined in a cell is in no file, so that another process can't import it.  Load this module as an extension,
once, and begin the cells that define what actors need with ``%%actors``::

    %load_ext tractor.notebook

::

    %%actors
    import trio

    async def double(x: int) -> int:
        return 2 * x

All such cells together are one module, :data:`MODULE`, that each actor gets a copy of when it is started, at any depth.
Their names can be used in all other cells, too.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from types import ModuleType
from typing import Any

from tractor.spawn._sent_modules import cells, install_sent_modules, show_source

__all__ = ["MODULE", "load_ipython_extension", "run_cell"]

MODULE = "notebook_cells"
"""The name of the module, for ``enable_modules``; the same as ``double.__module__``."""


def run_cell(source: str) -> dict[str, Any]:
    """Run source as a further part of the module :data:`MODULE`, here now, and in each actor that is started later.

    What runs again, changed or not, takes the place of the part that it replaces: one that has the same text, or that
    defines nothing but what this one defines.  Actors that run already keep what they have.

    Args:
        source: Python.  IPython's own syntax (``%magic``, ``!command``) is none: an actor has no IPython.

    Returns:
        The names that the source has bound, with their values.

    Raises:
        SyntaxError: it is not Python.
        BaseException: what it raises.  Then it is not part of the module.
    """
    label = f"<cell {hashlib.blake2s(source.encode(), digest_size=4).hexdigest()} of {MODULE}>"
    tree = ast.parse(source, label)
    module = sys.modules.get(MODULE)
    if module is None:
        module = sys.modules[MODULE] = ModuleType(MODULE)
    show_source(label, source)
    exec(compile(source, label, "exec"), module.__dict__)
    bound = _bound_names(tree)
    kept = [part for part in cells.get(MODULE, []) if not _is_replaced(part, label, bound)]
    install_sent_modules({"module_cells": {MODULE: [*kept, (label, source)]}})
    names = vars(module)
    return {name: names[name] for name in bound if name in names}


def load_ipython_extension(ipython: Any) -> None:
    """Called by ``%load_ext tractor.notebook``: makes ``%%actors`` known."""

    def actors(line: str, cell: str) -> None:
        """Run this cell as part of the module that actors get a copy of."""
        if line.strip():
            raise ValueError(f"`%%actors` takes no arguments, but got {line.strip()!r}")
        ipython.push(run_cell(cell))

    ipython.register_magic_function(actors, "cell", "actors")


def _is_replaced(part: tuple[str, str], label: str, bound: set[str]) -> bool:
    if part[0] == label:
        return True
    before = _bound_names(ast.parse(part[1]))
    return bool(before) and before <= bound


def _bound_names(tree: ast.Module) -> set[str]:
    """The names that the module's own statements bind: not those within functions and classes."""
    found: set[str] = set()
    todo: list[ast.AST] = [*tree.body]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif not isinstance(node, ast.Lambda):
            todo.extend(ast.iter_child_nodes(node))
    return found
