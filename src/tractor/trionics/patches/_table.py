"""Fixes for bugs of trio, each applied only where a probe shows the bug.

Nothing here runs on import.  :func:`apply_all` is called by actors that tractor starts, as soon as they
serve, never in a process that is not ours: a root's owner may call it.  A root changes the one run it is opened in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tractor.trionics.patches import _wakeup_drain


class Patch(Protocol):
    """A module that fixes one bug."""

    NAME: str

    def is_needed(self) -> bool:
        """Whether this trio has the bug, and the fix is not in place."""

    def apply(self) -> None:
        """Put the fix in place; with the fix in place, nothing."""

    def repro(self) -> bool:
        """Provoke the bug, bounded and without side effects: ``True`` if it shows."""


PATCHES: tuple[Patch, ...] = (_wakeup_drain,)

_applied: set[str] = set()


def apply_all(
    patches: tuple[Patch, ...] = PATCHES, log: Callable[[str], None] | None = None
) -> dict[str, bool]:
    """Apply each fix whose bug this trio has; a second call changes nothing.

    Args:
        patches: the fixes to look at.
        log: called with a line for each fix that this call applies.

    Returns:
        For each fix by name, whether it is in place now, by this call or an earlier one.
    """
    for patch in patches:
        if patch.NAME not in _applied and patch.is_needed():
            patch.apply()
            _applied.add(patch.NAME)
            if log is not None:
                log(f"trio needs the fix {patch.NAME!r}: applied")
    return {patch.NAME: patch.NAME in _applied for patch in patches}
