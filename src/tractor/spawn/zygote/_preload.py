"""What the zygote loads: the subactor's program, and what each actor comes to load soon after its start."""

from __future__ import annotations

import gc
import importlib

from tractor.spawn._contract import CHILD_MODULE

MODULES = (
    CHILD_MODULE,
    "tractor.control._serving",
    "tractor.trionics.patches._table",
    "tractor.trionics.patches._wakeup_drain",
)


def preload() -> None:
    """Load them, and have no collection of garbage look at them again: each look would copy their pages."""
    for name in MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
