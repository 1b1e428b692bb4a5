"""What people and scripts may ask about the REPL."""

from __future__ import annotations

from tractor._proto.repl_lock import ReplState
from tractor.devx.debug._hooks import Debugger
from tractor.devx.debug._status import LockStatistics
from tractor.runtime._state import process_actor

__all__ = ["DebugStatus", "Lock"]


def _debugger() -> Debugger | None:
    actor = process_actor()
    hooks = None if actor is None else actor.hooks
    return hooks if isinstance(hooks, Debugger) else None


class Lock:
    """The terminal's lock, as far as this actor knows: the root knows all, others what is at and below them."""

    @classmethod
    def statistics(cls) -> LockStatistics:
        """Who has the REPL, and who waits; nobody where there is no runtime."""
        debugger = _debugger()
        if debugger is None:
            return LockStatistics(None, None, (), (), (), ReplState.NONE.value)
        return debugger.statistics()

    @classmethod
    def is_held(cls) -> bool:
        """Whether somebody who is known here has the REPL."""
        return cls.statistics().holder is not None


class DebugStatus:
    """This actor's own REPL."""

    @classmethod
    def state(cls) -> str:
        """``'none'``, ``'requesting'``, ``'held'`` or ``'released'``."""
        return Lock.statistics().state

    @classmethod
    def holder(cls) -> str | None:
        """The task or thread of this actor that has it, as text."""
        debugger = _debugger()
        lease = None if debugger is None else debugger.lease
        return None if lease is None else lease.holder.text
