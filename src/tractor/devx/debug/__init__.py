"""The debugger for the whole tree: one terminal, one REPL at a time.

Every name is loaded when it is first used: arming the debugger does not load ``pdbp``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.devx.debug._exports import *

__getattr__, __dir__ = lazy_exports(__name__)
