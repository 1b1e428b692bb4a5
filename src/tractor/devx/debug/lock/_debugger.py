"""The debugger of one actor, where the runtime meets it."""

from __future__ import annotations

import contextlib
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from tractor import log as _log
from tractor._errors import DebugRequestError
from tractor._proto.repl_lock import LockDo, LockEvent, RecordEvent, ReplRecord, ReplState
from tractor.devx.debug.lock._console import Console
from tractor.devx.debug.lock._lease import Lease
from tractor.devx.debug.lock._queue import TerminalQueue
from tractor.devx.debug.lock._request import (
    HELD_REQUEST,
    TERMINAL_REQUEST,
    LocalAsk,
    RequestRelay,
    ServedAsk,
)
from tractor.devx.debug.lock._sigint import SigintShield
from tractor.devx.debug.lock._status import (
    TERMINAL_TEXT,
    Holder,
    LockStatistics,
    TerminalOp,
    _ctlc_ignore_header,
)
from tractor.ipc._chan import Channel
from tractor.msg.types import Uid
from tractor.process.host._clock import told
from tractor.runtime._group_signals import heard_from
from tractor.runtime._hooks import RuntimeHooks
from tractor.runtime._vars import runtime_vars
from tractor.runtime.dialog._callee import put_return

if TYPE_CHECKING:
    from tractor.runtime._actor import Actor

log = _log.get_logger()

KEY_SIZE = 16
"""Bytes of the secret by which an actor that has the REPL is known on a further connection to its parent."""


class Debugger(RuntimeHooks):
    """The REPL of one actor, and what this actor knows of the terminal.

    Attributes:
        record: this actor's own REPL.
        queue: the requests for the terminal, its own and those from below.
        lease: of who holds the REPL in this actor.
        console: in the root, its terminal, while it is lent to an actor on another host.
        crash_repl: opens the REPL for a crash; ``None``: debug mode is off here.
        shield: against ctrl-c, up while the REPL is held or asked for.
        in_handler: a signal handler runs, maybe in the middle of a change to what is kept here.
    """

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.token = trio.lowlevel.current_trio_token()
        self.record: ReplRecord[object] = ReplRecord()
        self.queue = TerminalQueue(actor, self._on_change)
        self.lease: Lease | None = None
        self.console: Console | None = None
        self.crash_repl: Callable[[BaseException], Awaitable[None]] | None = None
        self.in_handler = False
        self.shield = SigintShield()
        self._changed = trio.lowlevel.ParkingLot()
        self._turns: dict[object, trio.Event] = {}
        self._holders: dict[object, Holder] = {}
        self._watch = _TaskWatch(self)
        self._leaving: list[trio.lowlevel.Task] = []
        self._changed_at: float | None = None

    # -- having the REPL ------------------------------------------------------------------------------

    def in_own_thread(self) -> bool:
        """Whether the calling thread is that of this actor's trio run."""
        return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self.token

    def owns(self, ident: object) -> bool:
        """Whether that task or thread has the REPL right now."""
        return self.record.state is ReplState.HELD and self.record.owner is ident

    @trio.lowlevel.enable_ki_protection
    async def hold(self, holder: Holder) -> LocalAsk:
        """Wait for the turn in this actor, then for the terminal.

        Raises:
            DebugRequestError: it was refused, or the parent is gone; nothing is held.
        """
        ident = holder.ident
        if not self._holders:
            self._changed_at = time.time()
        self._holders[ident] = holder
        try:
            if self.record.ask(ident) is LockDo.WAIT:
                self.say_if_stepping(holder.text)
                await self._wait_turn(ident)
            key = secrets.token_bytes(KEY_SIZE) if runtime_vars()._terminal_elsewhere else b""
            ask = LocalAsk(self.actor.aid.uid, id(ident), holder.text, key)
            try:
                self.queue.ask(ask)
                await ask.wait()
            except BaseException:
                self.queue.leave(ask, lost=True)
                self._end_turn(ident, RecordEvent.FAILED)
                raise
        except BaseException:
            self._forget(ident)
            raise
        self.record.granted(ident)
        if isinstance(ident, trio.lowlevel.Task):
            self._watch.start(ident)
        return ask

    def _forget(self, ident: object) -> None:
        if self._holders.pop(ident, None) is not None and not self._holders:
            self._changed_at = time.time()

    async def _wait_turn(self, ident: object) -> None:
        turn = self._turns[ident] = trio.Event()
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self._end_turn(ident, RecordEvent.FAILED)
            else:
                self.record.withdraw(ident)
            raise
        finally:
            del self._turns[ident]

    def _end_turn(self, ident: object, event: RecordEvent) -> None:
        following = self.record.left(ident, event)
        if following is not None:
            self._turns[following].set()
        self._changed.unpark_all()

    def let_go(self, holder: Holder, ask: LocalAsk) -> None:
        """The holder is done; in the trio thread."""
        self._watch.stop()
        self.lease = None
        self._forget(holder.ident)
        for child in list(self.actor.children.values()):
            # While the loop stood still, the limits of children that are on their way down have run out.
            child.on_repl_change(restart=True)
        self.queue.leave(ask, lost=False)
        self._end_turn(holder.ident, RecordEvent.RELEASE)

    def say_if_stepping(self, who: str) -> None:
        """Tell the user that ``who`` waits, if code runs that is stepped over: it may be waiting for just that one."""
        lease = self.lease
        if lease is not None and not getattr(lease.repl, "is_interacting", True):
            log.pdb(
                "%s waits for the REPL, with which %s is being stepped through; ctrl-c hands it over",
                who,
                lease.holder.text,
            )

    def statistics(self) -> LockStatistics:
        """Who has the REPL and who waits, as far as known here."""
        granted = self.queue.granted
        waiting = self.queue.waiting()
        return LockStatistics(
            holder=None if granted is None else granted.uid,
            holder_task=None if granted is None else granted.text,
            waiting=tuple(ask.uid for ask in waiting),
            waiting_tasks=tuple(ask.text for ask in waiting),
            local=tuple(self._holders[ident].text for ident in self.record.queue),
            state=self.record.state.value,
        )

    # -- teardown -------------------------------------------------------------------------------------

    def _on_change(self) -> None:
        if self.queue.asks:
            self.shield.install()
        else:
            self.shield.remove()
        if self.console is not None and self.console.ask is not self.queue.granted:
            self.console.close()
            self.console = None
        for child in list(self.actor.children.values()):
            child.on_repl_change()
        self._changed.unpark_all()

    def close(self) -> None:
        """The actor has ended: nothing of the debugger is left in the process."""
        self.shield.remove()

    def repl_below(self, uid: Uid | None = None) -> bool:
        """Whether an actor at or below the child ``uid`` (default: any) holds or awaits the REPL."""
        return bool(self.queue.holding_below(uid))

    def has_repl(self) -> bool:
        """Whether this very actor holds or awaits the REPL."""
        return self.record.active

    def repl_changed_at(self) -> float | None:
        """When this actor came to hold or await the REPL, or ceased to; ``None``: it never did."""
        return self._changed_at

    def repl_busy(self) -> bool:
        """Whether somebody in or below this actor, other than the calling task, holds or awaits the REPL."""
        owner = self.record.owner
        if owner is not None and owner in (trio.lowlevel.current_task(), *self._leaving):
            # The user has stepped into the end of a block: waiting would be for who waits.
            return False
        return self.record.active or bool(self.queue.holding())

    def note_leaving(self, leaving: bool) -> None:
        """The calling task has begun, or ceased, to wait for the end of a block."""
        task = trio.lowlevel.current_task()
        if leaving:
            self._leaving.append(task)
            self._changed.unpark_all()
        elif task in self._leaving:
            self._leaving.remove(task)

    async def wait_for_repl(self) -> None:
        """Wait for those in or below this actor who hold or await the REPL now, not for who asks later.

        Else one that pauses again and again could not be ended; who asks later is safe in its own actor, which waits
        before it cancels anything.
        """
        await trio.lowlevel.checkpoint()
        below = self.queue.holding_below()
        here = list(self._holders.values())
        while self.repl_busy() and (
            not self.queue.holding_none_of(below)
            or any(self._holders.get(holder.ident) is holder for holder in here)
        ):
            await self._changed.park()

    async def wait_for_repl_below(self, uid: Uid) -> None:
        """Wait for those at or below the child ``uid`` who hold or await the REPL now, not for who asks later."""
        below = self.queue.holding_below(uid)
        while not self.queue.holding_none_of(below):
            await self._changed.park()

    async def on_crash(self, exc: BaseException) -> None:
        """An endpoint's task, or the root's block, is about to end with ``exc``: open the REPL, where armed."""
        if self.crash_repl is not None:
            await self.crash_repl(exc)

    # -- ctrl-c ---------------------------------------------------------------------------------------

    def on_ctrl_c(self) -> None:
        """A ctrl-c while the shield is up; called by the signal handler: anything may just be under way."""
        if self.record.state is ReplState.HELD and self.lease is not None:
            self.queue.note_ignored_ctrl_c()
            self._ignore(self.lease)
            return
        parent = self.actor.parent_chan
        if self.queue.lock is not None:
            connected = self.queue.holder_connected()
            step = self.queue.lock.handle(LockEvent.SIGINT, connected=connected)
            if step.do is LockDo.CANCEL_STALE:
                self.shield.remove()
                if step.key is not None:
                    self._soon(self.queue.leave, step.key, True)
                return
            if step.do in (LockDo.IGNORE, LockDo.REDRAW):
                self.queue.note_ignored_ctrl_c()
                if self.console is not None:
                    self._soon(self.console.on_ctrl_c)
                return
            # Nobody has it any more: it is the former handler's.
            self.shield.remove()
            signal.raise_signal(signal.SIGINT)
            return
        if parent is None or not parent.connected():
            self.shield.remove()
            return
        if self.queue.asks:
            return
        self.shield.remove()
        if self.actor.cancel_called:
            raise KeyboardInterrupt
        self._soon(self.actor.cancel_soon)

    def _ignore(self, lease: Lease) -> None:
        # A handler may run in the middle of another write to the same stream.
        with contextlib.suppress(RuntimeError):
            log.pdb(
                "%s by %s of actor %s", _ctlc_ignore_header, lease.holder.text, self.actor.aid.uid
            )
        if lease.repl is not None and not lease.repl.redraw_prompt():
            # The user has let code run that does not come back: the next ctrl-c is an ordinary one.
            self.shield.remove()
            self.in_handler = True
            try:
                lease.repl.detach()
            finally:
                self.in_handler = False

    def _soon(self, fn: Callable[..., Any], *args: Any) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self.token.run_sync_soon(fn, *args)


class _TaskWatch(trio.abc.Instrument):
    """Gives the REPL back when the task that has it ends without leaving it."""

    def __init__(self, debugger: Debugger) -> None:
        self._debugger = debugger
        self._task: trio.lowlevel.Task | None = None

    def start(self, task: trio.lowlevel.Task) -> None:
        self._task = task
        trio.lowlevel.add_instrument(self)

    def stop(self) -> None:
        if self._task is not None:
            self._task = None
            trio.lowlevel.remove_instrument(self)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        if task is self._task and self._debugger.lease is not None:
            self._debugger.lease.release()


# -- wired into the runtime ---------------------------------------------------------------------------


def debugger_of(actor: Actor) -> Debugger:
    """The actor's debugger, made when it is first needed; in the actor's loop.

    Raises:
        RuntimeError: this is another loop, that of a thread of the actor, in which nobody can wait for this one.
    """
    hooks = actor.hooks
    if isinstance(hooks, Debugger):
        is_own = hooks.token is trio.lowlevel.current_trio_token()
    else:
        is_own = actor._io_nursery is None or _is_loop_of(actor.io_nursery)
    if not is_own:
        raise RuntimeError(
            "this task runs in another trio loop than the actor's; there use `tractor.pause_from_sync()`, "
            "or `tractor.devx.open_crash_handler()`"
        )
    if not isinstance(hooks, Debugger):
        hooks = actor.hooks = Debugger(actor)
        actor.lifetime_stack.callback(hooks.close)
    return hooks


def _is_loop_of(nursery: trio.Nursery) -> bool:
    task: trio.lowlevel.Task | None = nursery.parent_task
    while task is not None and task.parent_nursery is not None:
        task = task.parent_nursery.parent_task
    return task is trio.lowlevel.current_root_task()


def serve_lock(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    """The request of a child, or of one below it, for the terminal."""
    debugger = debugger_of(actor)
    ask = ServedAsk(actor, chan, cid, kwargs, debugger.queue.leave)
    debugger.queue.ask(ask)
    if ask in debugger.queue.asks:
        debugger.say_if_stepping(f"{ask.text} of actor {ask.uid}")


def serve_held(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    """Whether the REPL is in use in the tree, or was between two times of the monotonic clock: the root knows."""
    since, at = heard_from(chan, kwargs["since"]), heard_from(chan, kwargs["at"])
    if actor.parent_chan is not None:
        moments = {"since": told(since), "at": told(at)}
        RequestRelay(actor.parent_chan, chan, cid, HELD_REQUEST, moments)
        return
    hooks = actor.hooks
    put_return(chan, cid, isinstance(hooks, Debugger) and hooks.queue.was_held(since, at))


def serve_terminal(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    """What the actor that has the REPL wants of the terminal of a root on another host.

    Raises:
        DebugRequestError: it does not come from the actor that has the REPL, by way of the child that it asked by.
        ValueError: too much text, or no such request.
    """
    hooks = actor.hooks
    ask = hooks.queue.granted if isinstance(hooks, Debugger) else None
    if not isinstance(hooks, Debugger) or ask is None or not ask.is_of(chan, kwargs.get("key")):
        raise DebugRequestError(f"{chan.peer} does not have the debugger's REPL")
    op, text = TerminalOp(kwargs["op"]), str(kwargs["text"])
    if len(text) > TERMINAL_TEXT:
        raise ValueError(f"{len(text)} characters for the terminal at once, not {TERMINAL_TEXT}")
    if actor.parent_chan is not None:
        words = {"op": str(op), "text": text}
        RequestRelay(actor.parent_chan, chan, cid, TERMINAL_REQUEST, words)
        return
    if hooks.console is None:
        hooks.console = Console(actor, ask)
    hooks.console.serve(chan, cid, op, text)
