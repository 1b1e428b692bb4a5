"""pdbp, without what importing it does to the stdlib's :mod:`pdb`.

Importing pdbp puts its own names into :mod:`pdb`: every ``breakpoint()`` of the program would be pdbp's from then on.
Here they are there only while the user's ``~/.pdbrc.py`` is read, which may have come to expect them.  A program that
has imported pdbp itself is left alone.
"""

from __future__ import annotations

import pdb
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_MISSING = object()


def _import() -> tuple[Any, dict[str, Any]]:
    """The module, and what its import has changed in :mod:`pdb`; that is undone."""
    wanted = "pdbp" in sys.modules
    before = dict(vars(pdb))
    import pdbp as module

    changed = {
        name: value for name, value in vars(pdb).items() if before.get(name, _MISSING) is not value
    }
    if wanted:
        return module, {}
    _put({name: before.get(name, _MISSING) for name in changed})
    return module, changed


def _put(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if value is _MISSING:
            vars(pdb).pop(name, None)
        else:
            setattr(pdb, name, value)


pdbp, _names = _import()


@contextmanager
def pdb_has_pdbp() -> Iterator[None]:
    """Have pdbp's names in :mod:`pdb` for the length of the block."""
    before = {name: vars(pdb).get(name, _MISSING) for name in _names}
    _put(_names)
    try:
        yield
    finally:
        _put(before)
