"""Frozen programs: their executable is the program itself, so a child runs that, up to `freeze_support()`."""

from __future__ import annotations

import sys

from tractor._errors import RuntimeFailure
from tractor.process._state import ProcessVar

_supported = ProcessVar(lambda: False, survives=True)


def is_frozen() -> bool:
    """Whether this program was made by PyInstaller, cx_Freeze or the like."""
    return bool(getattr(sys, "frozen", False))


def note_support() -> None:
    """The program has called :func:`tractor.freeze_support`: so will what is started from its executable."""
    _supported.value = True


def is_supported() -> bool:
    """Whether ``sys.executable`` can be started as something else than the program."""
    return _supported.value or not is_frozen()


def require_support(key: str) -> None:
    """Return where ``sys.executable`` can be started as a child.

    Raises:
        RuntimeFailure: this is a frozen program that has not said that it looks whether it is one.
    """
    if not is_supported():
        raise RuntimeFailure(
            f"this program is frozen (sys.frozen={getattr(sys, 'frozen', None)!r}): spawn backend {key!r} starts"
            f" {sys.executable!r}, which would be the whole program again, without end."
            " Call `tractor.freeze_support()` in the first line under `if __name__ == '__main__':`"
        )
