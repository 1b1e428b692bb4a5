"""For command lines that start actors: options of the runtime, as a callback for typer."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

from tractor import log as _log
from tractor.runtime._vars import set_runtime_vars

try:
    import typer
except ImportError:
    _PDB: Any = "typer is not installed"
    _LOGLEVEL: Any = _PDB
    _Context: Any = Any
else:
    _PDB = typer.Option("--pdb", help="Open a REPL where an actor crashes or pauses.")
    _LOGLEVEL = typer.Option("--loglevel", "-l", help="Print tractor's log from this level on.")
    _Context = typer.Context

__all__ = ["load_runtime_vars"]


def load_runtime_vars(
    ctx: _Context,
    pdb: Annotated[bool, _PDB] = False,
    loglevel: Annotated[str | None, _LOGLEVEL] = None,
) -> None:
    """Note the options of the runtime for the root actor that a command opens.

    To be used as ``app = typer.Typer(callback=load_runtime_vars)``.  The root actor that is opened next in this
    process has the debug mode; a command gets the options, too, as ``ctx.obj``, to be given to
    ``tractor.open_nursery(**ctx.obj)``.

    Args:
        ctx: the command's context.
        pdb: the option ``--pdb``: debug mode.
        loglevel: the option ``--loglevel`` or ``-l``: a level, or ``part:level,part:level``.

    Raises:
        typer.BadParameter: the level is unknown (``ValueError`` where typer is not installed).
    """
    try:
        level, _ = _log.apply_logspec(loglevel)
    except ValueError as exc:
        raise _bad_parameter(exc) from exc
    set_runtime_vars({"_debug_mode": pdb})
    ctx.obj = {**(ctx.obj or {}), "debug_mode": pdb, "loglevel": level}


def _bad_parameter(exc: ValueError) -> Exception:
    try:
        error: Exception = importlib.import_module("typer").BadParameter(str(exc))
    except ImportError:
        return exc
    return error
