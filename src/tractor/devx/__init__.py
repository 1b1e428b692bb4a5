"""Tools for developers: the debugger for the whole tree, dumps, process titles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.devx._exports import *
else:
    __getattr__, __dir__ = lazy_exports(__name__)
