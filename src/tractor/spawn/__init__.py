"""How subactors come to life: the spawn backends, their contract, and what one is made of.

Every name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tractor._util._lazy import lazy_exports

if TYPE_CHECKING:
    from tractor.spawn._exports import *
else:
    __getattr__, __dir__ = lazy_exports(__name__)
