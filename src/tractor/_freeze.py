"""Actors of frozen programs, which have no interpreter but themselves."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tractor._child import main
from tractor.process._frozen import is_frozen, note_support
from tractor.process.sentinel._sentinel import MODULE as SENTINEL_MODULE

if TYPE_CHECKING:
    # What is loaded by name.  Tools that freeze a program look for imports in its code, and find them here.
    import tractor.process.sentinel._sentinel_main
    import tractor.shm.ring._transport
    import tractor.spawn._exec
    import tractor.spawn.fork._backend
    import tractor.spawn.mp._backends
    import tractor.spawn.subint._backend
    import tractor.spawn.zygote._backend  # noqa: F401

_HELPER = re.compile(
    r"(import sys; )?from multiprocessing\.(forkserver|resource_tracker) import main; ?main\("
)
"""The programs of multiprocessing's helper processes."""


def freeze_support() -> None:
    """Have a frozen program (PyInstaller, cx_Freeze) run as an actor where it was started as one.

    To be called in the first line under ``if __name__ == '__main__':`` of the program, where all that actors are to
    call is defined.  The executable of a frozen program is the program: an actor's process is a further one of it, and
    ends in this call.  In the process that the user started, and in a program that is not frozen, nothing happens.

    Without this call a frozen program can start actors by ``start_method="main_thread_forkserver"`` only; others
    are refused by a ``RuntimeFailure``.

    It does what :func:`multiprocessing.freeze_support` does for the start methods of :mod:`multiprocessing`, too.

    Raises:
        SystemExit: this process was started as an actor, or as a helper process of one, and has done its work.
    """
    note_support()
    if is_frozen():
        _run_as(sys.argv[1:])


def _run_as(argv: Sequence[str]) -> None:
    """Be what the command line asks for, if it is one of ours."""
    match argv:
        case ["-m", "tractor._child", *args]:
            main(args)
        case ["-m", module, _] if module == SENTINEL_MODULE:
            importlib.import_module(module).main()
        case ["--multiprocessing-fork", *values]:
            pairs = dict(value.split("=", 1) for value in values)
            spawn = importlib.import_module("multiprocessing.spawn")
            spawn.spawn_main(**{k: None if v == "None" else int(v) for k, v in pairs.items()})
        case [*_, "-c", code] if _HELPER.match(code):
            sys.argv[:] = ["-c"]
            exec(code, {})
        case _:
            return
    sys.exit()
