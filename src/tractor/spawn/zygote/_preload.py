"""What the zygote loads: the subactor's program, what each actor comes to load soon, and what was asked for."""

from __future__ import annotations

import gc
import importlib
import os
import traceback

from tractor.spawn._contract import CHILD_MODULE

MODULES = (
    CHILD_MODULE,
    "tractor.control._serving",
    "tractor.trionics.patches._table",
    "tractor.trionics.patches._wakeup_drain",
)


def preload(more: tuple[str, ...] = ()) -> str | None:
    """Load them, and have no collection of garbage look at them again: each look would copy their pages.

    Args:
        more: modules of the program's.  One that can't be loaded is told on stderr: who needs it imports it by itself,
            and gets its error.

    Returns:
        Why this process must not fork; ``None``: nothing speaks against it.
    """
    for name in MODULES:
        importlib.import_module(name)
    culprit = None
    for name in more:
        try:
            importlib.import_module(name)
        except Exception:
            os.write(
                2,
                f"the zygote can't preload {name!r}:\n{traceback.format_exc()}".encode(
                    errors="replace"
                ),
            )
        if culprit is None and len(os.listdir("/proc/self/task")) > 1:
            culprit = name
    gc.collect()
    gc.freeze()
    if culprit is None:
        return None
    return f"the module {culprit!r}, which it was to preload, has started a thread"
