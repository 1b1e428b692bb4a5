"""Where the debugger plugs into the runtime; without it nothing happens here."""

from __future__ import annotations

import trio

from tractor.msg.types import Uid


class RuntimeHooks:
    """What the runtime calls at the points that a debugger cares for.  This base does nothing."""

    async def on_crash(self, exc: BaseException) -> None:
        """An endpoint's task, or the root's block, is about to end with ``exc``."""

    async def wait_for_repl(self) -> None:
        """Wait for those in or below this actor who hold or await the REPL now; it is about to be cancelled."""
        await trio.lowlevel.checkpoint()

    def has_repl(self) -> bool:
        """Whether this very actor holds or awaits the REPL; from any thread."""
        return False

    def repl_changed_at(self) -> float | None:
        """When this actor came to hold or await the REPL, or ceased to, in s since 1970; ``None``: it never did."""
        return None

    def repl_busy(self) -> bool:
        """Whether somebody in or below this actor holds or awaits the REPL."""
        return False

    def note_leaving(self, leaving: bool) -> None:
        """The calling task has begun, or ceased, to wait for the end of a block: nobody waits for its own REPL then."""

    def repl_below(self, uid: Uid | None = None) -> bool:
        """Whether an actor at or below the child ``uid`` (default: any) holds or awaits the REPL.

        That child must not be cancelled or signalled.
        """
        return False

    async def wait_for_repl_below(self, uid: Uid) -> None:
        """Wait for those at or below the child ``uid`` who hold or await the REPL now."""
