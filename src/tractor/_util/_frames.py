"""Which frames are the runtime's own, and say nothing of the user's code."""

from __future__ import annotations

from collections.abc import Collection
from types import FrameType

RUNTIME_PACKAGES = frozenset({"tractor", "trio", "greenback", "outcome", "contextlib"})
"""The runtime, and what it runs on."""

USERS_OWN = ("tractor.demo", "tractor.testing")
"""Parts of this package that are users of the rest."""


def module_of(frame: FrameType) -> str:
    """The name of the module whose code runs in ``frame``; of ``python -m``, the one that was named."""
    module = str(frame.f_globals.get("__name__") or "")
    if module == "__main__":
        module = str(getattr(frame.f_globals.get("__spec__"), "name", module))
    return module


def is_of(module: str, packages: Collection[str]) -> bool:
    """Whether a module belongs to one of these packages and is not a user of them that this package ships."""
    return module.partition(".")[0] in packages and not module.startswith(USERS_OWN)
