"""What users and scripts may ask about the REPL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tractor._proto.repl_lock import ReplState
from tractor.devx.debug.lock._debugger import Debugger
from tractor.devx.debug.lock._lease import Lease
from tractor.devx.debug.lock._status import LockStatistics
from tractor.msg.types import Uid
from tractor.runtime._state import process_actor

if TYPE_CHECKING:
    from tractor.devx.debug.repl._repl import PdbREPL

T = TypeVar("T")


def _debugger() -> Debugger | None:
    actor = process_actor()
    hooks = None if actor is None else actor.hooks
    return hooks if isinstance(hooks, Debugger) else None


def _lease() -> Lease | None:
    debugger = _debugger()
    return None if debugger is None else debugger.lease


class _live(Generic[T]):
    """A property of a class itself."""

    def __init__(self, get: Callable[[Any], T]) -> None:
        self._get = get
        self.__doc__ = get.__doc__

    def __get__(self, instance: object, owner: type) -> T:
        return self._get(owner)


class Lock:
    """The terminal's lock, as far as this actor knows: the root knows all, others what is at and below them."""

    @classmethod
    def statistics(cls) -> LockStatistics:
        """Who has the REPL, and who waits; nobody where there is no runtime."""
        debugger = _debugger()
        if debugger is None:
            return LockStatistics(None, None, (), (), (), ReplState.NONE.value)
        return debugger.statistics()

    stats = statistics

    @classmethod
    def is_held(cls) -> bool:
        """Whether somebody who is known here has the REPL."""
        return cls.statistics().holder is not None

    @_live
    def ctx_in_debug(cls) -> Any:
        """The request of the subactor that has the REPL; ``None``: none has it."""
        debugger = _debugger()
        granted = None if debugger is None else debugger.queue.granted
        return granted if granted is not None and granted.chan is not None else None

    @_live
    def remote_task_in_debug(cls) -> str | None:
        """The task or thread, as text, of the subactor that has the REPL; ``None``: none has it."""
        ask = Lock.ctx_in_debug
        return None if ask is None else str(ask.text)

    @_live
    def subactor_in_debug(cls) -> Uid | None:
        """The uid of the subactor that has the REPL; ``None``: none has it."""
        ask = Lock.ctx_in_debug
        uid: Uid | None = None if ask is None else ask.uid
        return uid

    @classmethod
    def release(cls) -> bool:
        """Give the REPL back, where a task or thread of this actor has it; whether one had."""
        return DebugStatus.release()

    @classmethod
    def repr(cls) -> str:
        """The lock, on one line."""
        s = cls.statistics()
        held = f"held by {s.holder} {s.holder_task}" if s.holder else "free"
        return f"<Lock {held}, {len(s.waiting)} wait, REPL here: {s.state}>"


class DebugStatus:
    """This actor's own REPL."""

    @classmethod
    def state(cls) -> str:
        """``'none'``, ``'requesting'``, ``'held'`` or ``'released'``."""
        return Lock.statistics().state

    @classmethod
    def holder(cls) -> str | None:
        """The task or thread of this actor that has it, as text."""
        lease = _lease()
        return None if lease is None else lease.holder.text

    @_live
    def repl(cls) -> PdbREPL | None:
        """The REPL that is open in this actor, if one is."""
        lease = _lease()
        repl: PdbREPL | None = None if lease is None else lease.repl
        return repl

    @_live
    def repl_task(cls) -> Any:
        """The ``trio`` task, thread or ``asyncio`` task of this actor that has the REPL, if one has."""
        lease = _lease()
        return None if lease is None else lease.holder.ident

    @classmethod
    def is_main_trio_thread(cls) -> bool:
        """Whether the calling thread is the one that this actor's ``trio`` runs in, and the process's main one."""
        debugger = _debugger()
        return (
            debugger is not None
            and debugger.in_own_thread()
            and threading.current_thread() is threading.main_thread()
        )

    @classmethod
    def release(cls) -> bool:
        """Give the REPL back, where a task or thread of this actor has it; whether one had."""
        lease = _lease()
        if lease is None or lease.released:
            return False
        lease.release()
        return True

    @classmethod
    def shield_sigint(cls) -> None:
        """Have ctrl-c ignored, as while a REPL is open, until :meth:`unshield_sigint`, or the next release."""
        debugger = _debugger()
        if debugger is not None:
            debugger.shield.install()

    @classmethod
    def unshield_sigint(cls) -> None:
        """Put the former handler of SIGINT back, unless a REPL is held or asked for."""
        debugger = _debugger()
        if debugger is not None and not debugger.queue.asks:
            debugger.shield.remove()

    @classmethod
    def repr(cls) -> str:
        """This actor's REPL, on one line."""
        return f"<DebugStatus {cls.state()}, holder {cls.holder()}>"


def get_lock() -> type[Lock]:
    """The terminal's lock."""
    return Lock


def get_debug_req() -> type[DebugStatus] | None:
    """This actor's own REPL; ``None``: it has, and asks for, none."""
    held = (ReplState.REQUESTING.value, ReplState.HELD.value)
    return DebugStatus if DebugStatus.state() in held else None
