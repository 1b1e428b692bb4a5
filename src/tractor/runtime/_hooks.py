"""Where the debugger plugs into the runtime; without it nothing happens here."""

from __future__ import annotations

import trio

__all__ = ["RuntimeHooks"]


class RuntimeHooks:
    """What the runtime calls at the points that a debugger cares for.  This base does nothing."""

    async def on_crash(self, exc: BaseException) -> None:
        """An endpoint's task, or the root's block, is about to end with ``exc``."""

    async def wait_for_repl(self) -> None:
        """Wait while a local REPL is held; the actor is about to be cancelled."""
        await trio.lowlevel.checkpoint()

    def repl_below(self) -> bool:
        """Whether an actor below holds or awaits the REPL, so that it must not be signalled."""
        return False
