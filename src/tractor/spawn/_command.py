"""Command lines that start an interpreter which imports what this one does."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from tractor.process._frozen import is_frozen
from tractor.process._stdio import move_above_stdio
from tractor.spawn._import_path import import_path

_READ = r"f.read().decode('utf-8', 'surrogateescape').split('\0')[:-1]"
_RUN = (
    "import gc; on = gc.isenabled(); gc.disable(); from {} import main; "
    "on and [gc.freeze(), gc.enable()]; main(sys.argv[3:])"
)
"""What is loaded here stays: collections would only look at it, again and again, for a tenth of a start's time.  A
program that has turned them off (``sitecustomize``) keeps them off.
"""


@contextlib.contextmanager
def program_command(module: str, argv: list[str]) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """A command that runs ``main(argv)`` of a module, found where this process finds it.

    It reads ``python … -m module argv``, for users and for tools that look for actors.  What stands before the ``-m``
    sets ``sys.path``: neither ``-m`` nor the environment would find what only this process's path leads to.

    Args:
        module: The module's name.
        argv: Its arguments.

    Returns:
        The command, and the descriptors that it inherits; they are closed here at the end of the block.
    """
    shown = ["-m", module, *argv]
    if is_frozen():
        # Its interpreter takes no options; `freeze_support()` looks at the arguments.
        yield [sys.executable, *shown], ()
        return
    fd = _open_path()
    try:
        if fd is None:
            code = with_path(_RUN.format(module))
        else:
            code = f"import sys; f = open({fd}, 'rb'); sys.path[:] = {_READ}; f.close(); "
            code += _RUN.format(module)
        # In a namespace of its own: what `__main__` holds can be called by name.
        code = f"exec({code!r}, {{}})"
        yield (
            [sys.executable, *interpreter_flags(), "-c", code, *shown],
            () if fd is None else (fd,),
        )
    finally:
        if fd is not None:
            os.close(fd)


def with_path(code: str) -> str:
    """A program for ``python -c`` that has this process's import path before it imports anything."""
    return f"import sys; sys.path[:] = {import_path()!a}; {code}"


def interpreter_flags() -> list[str]:
    """The options that this interpreter was started with, as far as they matter to what it runs."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    given = [flag.removeprefix("-X").partition("=")[0] for flag in flags]
    for name, value in sys._xoptions.items():
        if name not in given:
            flags += ["-X", name if value is True else f"{name}={value}"]
    return flags


def _open_path() -> int | None:
    """A descriptor that :func:`import_path` can be read from; ``None`` where the system has no files without a name."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        fd = move_above_stdio(os.memfd_create("sys.path"))
    except OSError:
        return None
    text = "".join(f"{entry}\0" for entry in import_path())
    os.write(fd, text.encode("utf-8", "surrogateescape"))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
