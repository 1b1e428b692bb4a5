"""The way down of one subactor: carries out what the pure ladder decides.

**Who drives.**  The ladder (:mod:`tractor._proto.children.ladder`) has one task, which `run()` is: it waits for the
next event or the limit, feeds the machine and does what follows.  The task is shielded and belongs to the runtime, so
that neither a cancelled scope nor a second ctrl-c ends it halfway; whoever wants the child gone waits for the child's
end instead.

**Events** come from the reader (the child says that it is ready, or has got further), from portals, and from the task
that reaps the process.  They are queued (`feed()`), in their order.  They can't be lost: between the look at the
queue and the next wait there is no checkpoint.

**Why the races are safe.**

- *The process ends while a signal is about to be sent.*  The backend sends none to a process that it has reaped, so
  that a pid that was given to another process is never hit.
- *The limit passes in the very turn in which an event comes.*  Events are handled first, and the machine acts on a
  limit only if it has passed by its own clock.
- *The request to cancel finds the channel closed.*  It is not repeated: either the child has gone, then the reaper
  says so, or it can't be reached, then the limits decide.
- *Somebody takes the debugger's REPL.*  The machine is told before each event is handled, so no signal goes to a
  child at or below which somebody holds or awaits it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from time import monotonic_ns
from typing import ClassVar, Protocol

import trio

from tractor import log as _log
from tractor._errors import TransportClosed
from tractor._proto.children.ladder import Ladder, LadderDo, LadderEvent, Rung
from tractor.ipc._chan import Channel
from tractor.msg.types import Aid
from tractor.runtime._actor import Actor
from tractor.runtime.dialog._caller import PendingCall, request
from tractor.runtime.seen._events import Rung as RungEvent
from tractor.runtime.seen._lives import tell_cancel
from tractor.runtime.seen._told import TOLD
from tractor.spawn._contract import ChildProcess

log = _log.get_logger()


def number_of(rung: Rung) -> int | None:
    """As instruments are told of it, 0 to 4; ``None``: it is before the first, or behind the last."""
    number = rung.depth - 1
    return number if 0 <= number <= 4 else None


class GoesDown(Protocol):
    """A child, as far as its way down goes."""

    actor: Actor
    aid: Aid
    process: ChildProcess | None
    chan: Channel | None

    @property
    def ready(self) -> bool:
        """Whether it has come to serve."""

    @property
    def drains(self) -> bool:
        """Whether it takes its time when it gets a SIGTERM unasked."""

    def on_kill(self) -> None:
        """It is about to be killed."""


class Descent:
    """A child's way down its ladder.

    Args:
        child: it.
        hard_kill: begin with the signals.
        grace: of :class:`~tractor._proto.ladder.Ladder`.
    """

    def __init__(self, child: GoesDown, hard_kill: bool, grace: float | None = None) -> None:
        self._child = child
        # What decides.
        self.ladder = Ladder(hard_kill=hard_kill, booting=not child.ready, grace=grace)
        # The rung on which it stands, or stood last.
        self.last = self.ladder.rung
        # What has happened since the task looked last, in this order.
        self._events: list[LadderEvent] = []
        # Set with each event; a new one for each wait.
        self._signal = trio.Event()
        # Hosts the tasks that wait for acknowledgments, while the task runs.
        self._tn: trio.Nursery | None = None

    def feed(self, event: LadderEvent) -> None:
        """Something has happened to the child."""
        self._events.append(event)
        self._signal.set()

    @trio.lowlevel.enable_ki_protection
    async def run(self, first: LadderEvent) -> None:
        """Have the child go; returns when its process is reaped.  Shielded.

        Args:
            first: what the ladder begins with, unless the child is to be killed at once.
        """
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as tn:
                self._tn = tn
                self._watch_repl()
                self._carry_out(self.ladder.start(trio.current_time(), first))
                self._note_rung()
                while self.ladder.rung is not Rung.GONE:
                    await self._next_event()
                tn.cancel_scope.cancel()

    async def _next_event(self) -> None:
        """Wait for what comes next, an event or the limit, and do what follows from it."""
        ladder = self.ladder
        with trio.move_on_at(ladder.deadline):
            await self._signal.wait()
        self._signal = trio.Event()
        events, self._events = self._events, []
        self._watch_repl()
        for event in events:
            if ladder.rung is not Rung.GONE:
                self._carry_out(ladder.handle(event, trio.current_time()))
        if ladder.rung is not Rung.GONE:
            left = ladder.rung
            self._note_rung()
            todo = ladder.tick(trio.current_time())
            if ladder.rung is not left:
                log.warning(
                    "%s is still %r after its limit; escalating to %r: %s",
                    self._child.aid.reprol(),
                    left.value,
                    ladder.rung.value,
                    self._why_forced(),
                )
            self._carry_out(todo)
            self._note_rung()

    def _note_rung(self) -> None:
        if self.ladder.rung in (self.last, Rung.GONE):
            return
        self.last = self.ladder.rung
        self._child.actor.recorder.note(
            "rung", child=self._child.aid.name, pid=self._child.aid.pid, rung=self.last.value
        )
        number = number_of(self.last)
        if TOLD.rung is not None and number is not None:
            aid = self._child.aid
            TOLD.rung(RungEvent(monotonic_ns(), TOLD.actor, aid.uuid, aid.name, number))

    def on_repl_change(self, restart: bool) -> None:
        """An actor at or below the child has asked for the debugger's REPL, or is done with it.

        Args:
            restart: this actor's loop stood still meanwhile, so that every limit starts anew.
        """
        if self.ladder.rung is Rung.GONE:
            return
        if restart and not self.ladder.held:
            self.ladder.handle(LadderEvent.REPL_HELD, trio.current_time())
        self._watch_repl()
        self._signal.set()

    def _watch_repl(self) -> None:
        """Tell the ladder whether somebody at or below the child holds or awaits the REPL."""
        held = self._child.actor.hooks.repl_below(self._child.aid.uid)
        if held is not self.ladder.held:
            event = LadderEvent.REPL_HELD if held else LadderEvent.REPL_RELEASED
            self._carry_out(self.ladder.handle(event, trio.current_time()))

    # -- what follows ---------------------------------------------------------------------------------

    def _carry_out(self, todo: list[LadderDo]) -> None:
        for do in todo:
            self.HANDLERS[do](self)

    def _send_cancel(self) -> None:
        chan = self._child.chan
        if chan is None or self._tn is None:
            return
        chan.cancel_called = True
        tell_cancel("actor", self._child.aid.uuid, chan.local_uid)
        try:
            pending = request(chan, "cancel")
        except TransportClosed:
            return
        self._tn.start_soon(self._await_ack, pending)

    @trio.lowlevel.enable_ki_protection
    async def _await_ack(self, pending: PendingCall) -> None:
        if not isinstance(await pending.wait(), BaseException):
            self.feed(LadderEvent.ACK)

    def _terminate(self) -> None:
        if self._child.drains and self._child.chan is not None:
            # It hears of this before it has the word on the signal, for which it asks this actor.
            with contextlib.suppress(TransportClosed):
                request(self._child.chan, "_no_drain")
        if self._child.process is not None:
            self._child.process.terminate()

    def _kill(self) -> None:
        process = self._child.process
        if process is not None:
            log.error(
                "#T-800 deployed to collect zombie B0: %s, pid %s: %s\n%s",
                self._child.aid.reprol(sin_uuid=False),
                process.pid,
                process.cmdline,
                self._why_forced(),
            )
            self._child.on_kill()
            process.kill()

    HANDLERS: ClassVar[dict[LadderDo, Callable[[Descent], None]]] = {
        LadderDo.SEND_CANCEL: _send_cancel,
        LadderDo.SIGTERM: _terminate,
        LadderDo.SIGKILL: _kill,
    }
    """What carries out each instruction."""

    def _why_forced(self) -> str:
        """Why the child does not end by itself, in plain words."""
        if LadderEvent.KILL_AT_ONCE in self.ladder.history:
            return "it was to be killed without a word"
        if not self._child.ready:
            return "it was still starting"
        if LadderEvent.HARD_KILL in self.ladder.history:
            return "it was to be killed at once (`hard_kill`)"
        if self.ladder.acked:
            return (
                "it has acknowledged its cancellation, but does not end: it computes or blocks, or a cleanup, a thread "
                "that is not a daemon, or a process that it has forked keeps it"
            )
        return (
            "it computes or blocks, and did not answer: its event loop does not run. Put what computes or blocks into "
            "`trio.to_thread.run_sync()`, or into a worker pool (`tractor.trionics.open_worker_pool()`)"
        )
