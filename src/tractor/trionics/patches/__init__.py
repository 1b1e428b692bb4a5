"""Fixes for bugs of trio: ``apply_all()``, and one module for each fix.

Each module has ``NAME``, ``is_needed()``, ``apply()`` and ``repro()``.  They live in a lower layer,
because an actor's entry point applies them and may not import this package.
"""

from __future__ import annotations

from tractor.trionics.patches import _wakeup_drain as wakeup_socketpair_drain
from tractor.trionics.patches._table import PATCHES, Patch, apply_all

__all__ = ["PATCHES", "Patch", "apply_all", "wakeup_socketpair_drain"]
