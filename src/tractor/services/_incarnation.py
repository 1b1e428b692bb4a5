"""One life of a service: its actor, from the spawn until nothing of it is left.

**Who drives.**  Each incarnation has one task, `run()`, shielded, in the supervisor's own trio nursery.  It starts the
actor, has it do its work, takes it down, and says how it has ended.  What this side ends it for (it is not ready in
time, it is stuck, it has outgrown a limit too soon) is its `fault`, which is set first.

**Why the races are safe.**

- *It is asked to go while it starts.*  The start's scope is cancelled: the child goes by its ladder, and the start
  waits for its end.  If it became ready in the same turn, it goes as one that was ready.
- *It is asked to go while it ends by itself.*  What the supervisor decided first counts: the table takes any end of
  one that was asked to go as its goal.
- *Its work ends before its process.*  Nothing is told before the process is reaped, with all below it.
- *It said goodbye before its work ended*: the note is sent first on the same channel, so it is looked at when the work
  has ended, before this side asks anything.
"""

from __future__ import annotations

import contextlib
import random
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import msgspec
import trio

from tractor import log as _log
from tractor._errors import (
    ActorFailure,
    ContextCancelled,
    HostLost,
    HostUnavailable,
    RuntimeFailure,
    ServiceNotReady,
    ServiceStuck,
    TransportClosed,
)
from tractor._proto.children.child_life import Cause
from tractor._proto.children.ladder import LadderEvent
from tractor._proto.children.outcome import Part
from tractor._proto.deadlines import TERM_TIMEOUT
from tractor._proto.services.service_life import Member, ServiceEnd
from tractor._util._stuck import place_in, stacks_of_stuck
from tractor.process._proc import expects_signal, resident_bytes
from tractor.runtime._portal import Portal
from tractor.runtime.dialog._caller import request
from tractor.services._specification import ServiceSpec
from tractor.services._starts import Starts
from tractor.services._work import Work
from tractor.supervise._child import Child
from tractor.supervise._children import Children
from tractor.supervise._outcome import part_of
from tractor.trionics._ki import ki_protected

log = _log.get_logger()

TOO_SOON = 10.0
"""Seconds from ready within which a limit of `Recycle` is no plan: the service would be restarted for ever."""

LOOK_INTERVAL = 1.0
"""Seconds between two looks at a process's size."""


class End(NamedTuple):
    """How an incarnation has ended.

    Attributes:
        how: unless it was asked to go.
        error: with which; ``None``: without.
        value: what its function has returned.
    """

    how: ServiceEnd
    error: BaseException | None
    value: Any


class Owner(Protocol):
    """Who has the incarnation."""

    children: Children

    def note_ready(self, life: Incarnation) -> None:
        """It is ready."""

    def note_gone(self, life: Incarnation, end: End) -> None:
        """Nothing of it is left."""

    def note_outgrown(self, life: Incarnation) -> None:
        """It is to be restarted by plan."""

    def respawn(self, life: Incarnation) -> bool:
        """Somebody asks for a fresh one, in the debugger."""


@ki_protected
class Incarnation:
    """One life of a service.

    Args:
        owner: who has it.
        member: whose life it is.
        spec: the service's specification.
        options: what its actor is started with.
        work: what it does.
    """

    def __init__(
        self,
        owner: Owner,
        member: Member,
        spec: ServiceSpec,
        options: Starts,
        work: Work,
    ) -> None:
        self.member = member
        self.label = member.name
        self.number = member.incarnation
        self._owner = owner
        self._children = owner.children
        self._spec = spec
        self._options = options
        self._work = work
        # Its actor; `None` before the start.
        self.child: Child | None = None
        # Leads to it; `None` before it is ready.
        self.portal: Portal | None = None
        # What it gave when it was ready.
        self.first: Any = None
        # The dialog of its own function, if it has one.
        self._cid: int | None = None
        # When it was; `None` before.
        self.ready_at: float | None = None
        # Why this side ends it, as an abnormal end.
        self.fault: BaseException | None = None
        # The supervisor has asked it to go.
        self._asked = False
        # Its work is over.
        self._over = False
        # Its end was begun at the signals.
        self._hard = trio.Event()
        # How its process has failed.
        self._failure: BaseException | None = None
        # Around its start; its work is never cancelled here.
        self._start_scope = trio.CancelScope()

    @property
    def is_ready(self) -> bool:
        """Whether it serves, as far as is known here."""
        going = self._asked or self._over
        return self.portal is not None and not going and self.portal.chan.connected()

    def needs(self, drains: bool) -> float:
        """Seconds that it takes at most to stop it, with its drain or without; 0: it is gone."""
        child, spec = self.child, self._spec
        if child is None or child.exited.is_set():
            return 0.0
        # What its own services need, where it has its time as that takes.
        grace = child.needs if spec.shutdown is None else spec.shutdown
        grace = 0.0 if grace == "kill" else grace
        return (spec.drain if drains else 0.0) + grace + TERM_TIMEOUT

    # -- its life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Live; returns when nothing is left, and the owner knows."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as tn:
                if self._spec.ready_timeout is not None:
                    tn.start_soon(self._limit_start, self._spec.ready_timeout)
                value, error = await self._live(tn)
                tn.cancel_scope.cancel()
        self._owner.note_gone(self, self._judge(value, error))

    async def _live(self, tn: trio.Nursery) -> tuple[Any, BaseException | None]:
        value: Any = None
        error: BaseException | None = None
        on_request = False
        try:
            with self._start_scope:
                value = await self._start_and_serve(tn)
        except BaseException as exc:
            error = exc
        self._over = True
        child = self.child
        if child is not None and child.process is not None:
            on_request = self.fault is None and child.life.cause in (Cause.GOODBYE, Cause.ASKED)
            if not child.exited.is_set():
                await self._children.take_down(child, hard_kill=False)
            on_request = on_request and child.returncode == 0
            if error is None and not self._work.returns and not on_request:
                # A daemon's process has ended.
                error = self._failure or ActorFailure(uid=child.uid, returncode=child.returncode)
        if on_request and (error is None or isinstance(error, (TransportClosed, ContextCancelled))):
            self._note_request(error)
            error = None
        elif isinstance(error, TransportClosed) and self._failure is not None:
            # How the process ended says more.
            if self._failure.__cause__ is None and error.__cause__ is None:
                self._failure.__cause__ = error
            error = self._failure
        if isinstance(error, HostLost):
            self._options.move_on()
        return value, error

    async def _start_and_serve(self, tn: trio.Nursery) -> Any:
        child, portal = await self._start()
        return await self._work.serve(portal, child, partial(self._on_ready, portal, tn))

    async def _start(self) -> tuple[Child, Portal]:
        """Start its actor, at the first of its hosts that takes it."""
        for left in reversed(range(len(self._options))):
            child = self._prepare()
            try:
                return child, await self._children.start_process(child, self._children.tn)
            except HostUnavailable as exc:
                self._options.move_on()
                if not left:
                    raise
                log.warning("service %r goes to another host: %s", self.label, exc)
        raise AssertionError("not reached: there is at least one host")

    def _prepare(self) -> Child:
        options = self._options.next()
        if self._spec.watchdog is not None:
            options = msgspec.structs.replace(options, writes_stacks=True)
        child = self.child = self._children.prepare(options)
        child.keeper = self._note_failure
        child.service = self.member
        shutdown = self._spec.shutdown
        if shutdown == "kill":
            child.way_down = LadderEvent.KILL_AT_ONCE
        elif shutdown is not None:
            child.grace = shutdown
        child.respawn = lambda: self._owner.respawn(self)
        return child

    def _note_failure(self, failure: BaseException) -> None:
        self._failure = failure

    def _on_ready(self, portal: Portal, tn: trio.Nursery, first: Any, cid: int | None) -> None:
        self.first = first
        self.portal = portal
        self._cid = cid
        self.ready_at = trio.current_time()
        if self._spec.watchdog is not None:
            tn.start_soon(self._watch_loop, portal, self._spec.watchdog)
        if self._spec.recycle is not None:
            tn.start_soon(self._watch_growth)
        self._owner.note_ready(self)

    def _note_request(self, error: BaseException | None) -> None:
        """It was cancelled by somebody else, and has said goodbye: a normal end."""
        child = self.child
        if child is not None and not self._asked:
            who = child.canceller
            if isinstance(error, ContextCancelled):
                who = error.canceller or who
            log.warning("service %r was cancelled by %s", self.label, who or "somebody else")

    def _judge(self, value: Any, error: BaseException | None) -> End:
        if self._asked:
            # What it has raised all the same, other than that it was cancelled.
            told = error is not None and part_of(error) is Part.ERROR and self.fault is None
            is_own = told and not isinstance(error, ActorFailure)
            return End(ServiceEnd.NORMAL, error if is_own else None, value)
        if self.fault is not None:
            if error is not None and self.fault.__cause__ is None:
                self.fault.__cause__ = error
            return End(ServiceEnd.ABNORMAL, self.fault, None)
        if error is None and self._work.serves_by_ending:
            return End(ServiceEnd.DONE, None, value)
        if error is None and self.portal is None:
            error = RuntimeFailure(f"service {self.label!r} has ended before it was ready")
        if error is not None:
            return End(ServiceEnd.ABNORMAL, error, None)
        return End(ServiceEnd.NORMAL, None, value)

    # -- the way down ---------------------------------------------------------------------------------

    def stop(self, drain: float, hard: bool) -> None:
        """Have it go, at once from the signals on with ``hard``; may be called again with that.

        Args:
            drain: seconds that requests which run have, before it is asked to go.
            hard: begin with the signals.
        """
        again, self._asked = self._asked, True
        if hard:
            self._hard.set()
        child = self.child
        if child is None or child.portal is None:
            self._start_scope.cancel()
        elif not again:
            # Before it is ready there is nothing to drain.
            drain = drain if self.portal is not None else 0.0
            self._children.tn.start_soon(self._go_down, drain, name=f"stop of service {self.label}")
            return
        if hard and child is not None and child.process is not None and not child.exited.is_set():
            self._children.tn.start_soon(child.take_down, True, name=f"kill of {self.label}")

    async def _go_down(self, drain: float) -> None:
        child = self.child
        assert child is not None
        with trio.CancelScope(shield=True):
            if drain > 0 and not self._hard.is_set():
                await self._drain(child, drain)
            await child.take_down(self._hard.is_set())

    async def _drain(self, child: Child, limit: float) -> None:
        """Have it refuse what is new, and let it end what runs, until it is to go at once."""
        async with trio.open_nursery() as tn:
            tn.start_soon(self._cancel_if_hard, tn.cancel_scope)
            await child.drain(limit, self._cid)
            tn.cancel_scope.cancel()

    async def _cancel_if_hard(self, scope: trio.CancelScope) -> None:
        await self._hard.wait()
        scope.cancel()

    # -- what this side watches -----------------------------------------------------------------------

    async def _limit_start(self, limit: float) -> None:
        while self.portal is None:
            await trio.sleep(limit)
            if self.portal is not None:
                return
            child, hooks = self.child, self._children.actor.hooks
            if child is not None and hooks.repl_below(child.uid):
                await hooks.wait_for_repl_below(child.uid)
                continue
            self.fault = ServiceNotReady(
                f"service {self.label!r} was not ready within its ready_timeout of {limit:g} s"
            )
            if child is None or child.portal is None:
                self._start_scope.cancel()
            else:
                # Its endpoint may hang: the ladder does not wait for that.
                self._children.tn.start_soon(
                    child.take_down, False, name=f"stop of service {self.label}"
                )
            return

    async def _watch_loop(self, portal: Portal, limit: float) -> None:
        """Ask its event loop for a sign of life, again and again."""
        child, chan, hooks = self.child, portal.chan, self._children.actor.hooks
        assert child is not None
        while True:
            await trio.sleep(limit / 4)
            heard = chan.transport.received
            try:
                asked = request(chan, "_ping")
            except TransportClosed:
                return
            await _wait_while_awake(asked.wait, limit)
            if chan.transport.received != heard:
                continue
            if hooks.repl_below(child.uid):
                await hooks.wait_for_repl_below(child.uid)
                continue
            chan.forget(asked.cid)
            await self._kill_stuck(child, limit)
            return

    async def _kill_stuck(self, child: Child, limit: float) -> None:
        process = child.process
        if process is None or self._is_going(child):
            return
        stacks = "(it does not write down its stacks)"
        # A pid of another host means another process here.
        listens = (
            child.is_here
            and hasattr(signal, "SIGUSR1")
            and expects_signal(process.pid, signal.SIGUSR1)
        )
        if listens:
            with contextlib.suppress(ProcessLookupError):
                stacks = await stacks_of_stuck(process.pid)
        if self._is_going(child):
            return
        log.error(
            "service %r is stuck: its event loop has not answered for %s s; pid %s is killed\n%s",
            self.label,
            limit,
            process.pid,
            stacks,
        )
        place = place_in(stacks)
        self.fault = ServiceStuck(
            f"the event loop of service {self.label!r} did not answer for {limit:g} s, its watchdog"
            + (f": it stood at {place}" if place else "")
        )
        process.kill()

    def _is_going(self, child: Child) -> bool:
        """Whether its end has begun."""
        return self._asked or self.fault is not None or child.died.is_set()

    async def _watch_growth(self) -> None:
        child, hooks, recycle = self.child, self._children.actor.hooks, self._spec.recycle
        assert child is not None
        assert child.process is not None
        assert recycle is not None
        assert self.ready_at is not None
        factor = 1 + recycle.jitter * random.uniform(-1, 1)
        oldest = None if recycle.age is None else recycle.age * factor
        largest = None if recycle.rss is None else recycle.rss * factor
        while True:
            age = trio.current_time() - self.ready_at
            size = resident_bytes(child.process.pid) if largest is not None else None
            reached = ""
            if oldest is not None and age >= oldest:
                reached = f"it is {age:.1f} s old (recycle.age is {recycle.age:g} s)"
            elif size is not None and largest is not None and size >= largest:
                reached = f"it has {size} bytes resident (recycle.rss is {recycle.rss})"
            if self._is_going(child):
                return
            if reached and not hooks.repl_below(child.uid):
                # By plan it may be put off, or broken off: so it is asked for again and again.
                self._outgrow(child, reached, age)
            await trio.sleep(
                LOOK_INTERVAL
                if oldest is None or reached
                else min(LOOK_INTERVAL, max(0.01, oldest - age))
            )

    def _outgrow(self, child: Child, reached: str, age: float) -> None:
        if age >= TOO_SOON:
            log.info("service %r is to be recycled: %s", self.label, reached)
            self._owner.note_outgrown(self)
            return
        self.fault = RuntimeFailure(
            f"service {self.label!r} has reached a limit of its `recycle` within {TOO_SOON:g} s: {reached}"
        )
        self._children.tn.start_soon(child.take_down, False, name=f"stop of {self.label}")


async def _wait_while_awake(wait: Callable[[], Awaitable[object]], limit: float) -> None:
    """Wait, at most ``limit`` seconds; they begin anew when this process itself stood still meanwhile.

    That is how it is when the whole tree was stopped, or the machine: who is asked needs its time after that, too.
    """
    slept = 0.0
    while slept < limit:
        begin, part = trio.current_time(), limit / 4
        with trio.move_on_after(part):
            await wait()
            return
        late = trio.current_time() - begin - part
        slept = 0.0 if late > limit / 8 else slept + part
    # What has come meanwhile is read now.
    await trio.sleep(min(limit / 10, 0.1))
