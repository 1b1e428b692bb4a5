"""The subactors of one nursery, from their start to their end.

**Who drives.**  Each subactor has a task that reaps it and decides what its end means (`_supervise()`), and one for its
ladder, once it is to go.  Both are shielded and live in the nursery's own trio nursery, `tn`: the block's end waits for
them, and a second ctrl-c hits the main task, which only waits.

**Why the races are safe.**

- *One fails while another is started.*  `taking_down` stays set, and is looked at once there is a process, in the same
  turn of the loop in which that gets its supervisor: it goes at once.
- *A start is cancelled, or fails halfway.*  The child goes by its ladder, and the start waits for its end, shielded.
- *Several fail at once.*  The first to be noted begins the teardown, which asks the others to go.  Those that were gone
  by then are failures all the same: who asks looks first, see :mod:`tractor._proto.children.child_life`.
- *Between the end of an old process and the start of its replacement nobody lives.*  So `replacing` counts, too, for
  who waits for the end of all; and `unsettled`, for a result that came with its actor's death.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from functools import partial

import msgspec
import trio

from tractor import log as _log
from tractor._errors import ActorFailure, RuntimeFailure, TransportClosed
from tractor._proto.deadlines import PROGRESS_INTERVAL
from tractor.address._types import UnwrappedAddress, mk_uuid
from tractor.hosts._process import RemoteProcess
from tractor.msg.types import Aid, SpawnSpec, Uid
from tractor.runtime._actor import Actor
from tractor.runtime._portal import Portal
from tractor.runtime.dialog._caller import boxed
from tractor.spawn._contract import SpawnBackend, get_backend, selected_start_method
from tractor.spawn._shortage import named_shortage
from tractor.supervise._arguments import Recipe, StartOptions
from tractor.supervise._child import Child
from tractor.supervise._elsewhere import backend_of, spec_of
from tractor.supervise._outcome import note_losses
from tractor.supervise._telling import tell_gone, tell_ready, tell_starting
from tractor.transport._settings import wire_settings
from tractor.trionics._groups import collapse_eg
from tractor.trionics._ki import ki_protected, ki_protected_manager

log = _log.get_logger()


@ki_protected
class Children:
    """What a nursery, its one-shots and its replacements do to subactors.

    Args:
        actor: this process's.
        tn: hosts the tasks that supervise them.
        respawn: replaces one by a fresh process; see :mod:`tractor.supervise._respawn`.
    """

    def __init__(
        self, actor: Actor, tn: trio.Nursery, respawn: Callable[[Children, Child], bool]
    ) -> None:
        self.actor = actor
        self.tn = tn
        self._respawn = respawn
        # Gives the seconds that it takes to work them down, where they have their own.
        self.needs: Callable[[], float] = float
        # From before their processes are started until they are reaped.
        self.living: dict[Uid, Child] = {}
        # Of each that failed, the error that tells of it.
        self.errors: dict[Uid, BaseException] = {}
        # Those that failed or were taken down, for what the block's errors tell of them.
        self.gone: dict[Uid, Child] = {}
        # Around the nursery's block: one that fails cancels it.
        self.block_scope = trio.CancelScope()
        # The block has ended: one-shots that have given their results go.
        self.block_over = trio.Event()
        # Wakes who waits for the end of all.
        self.changed = trio.lowlevel.ParkingLot()
        # Somebody has called `cancel()`.
        self.cancel_called = False
        # The block ended by that alone.
        self.cancelled_caught = False
        # One has failed, and so all go.
        self.failing = False
        # All are being taken down. One whose process is being started then goes as soon as there is one.
        self.taking_down = False
        # The block has ended, and all that it has waited for: no more can be started.
        self.closed = False
        # One-shots whose outcome is not known yet.
        self.unsettled = 0
        # Replacements that are under way.
        self.replacing = 0
        # Counters: processes that were started and reaped, limits of ladders that passed.
        self.spawned = 0
        self.reaped = 0
        self.escalations = 0

    @property
    def refusal(self) -> str:
        """Why no more can be started; empty: they can."""
        if self.closed:
            return "closed"
        return "cancelled" if self.cancel_called or self.failing else ""

    # -- a start --------------------------------------------------------------------------------------

    async def start(
        self, options: StartOptions, nursery: trio.Nursery | None = None
    ) -> tuple[Child, Portal]:
        """Start one.

        Args:
            options: what it is started with.
            nursery: hosts the task that supervises it; default: this one's own.

        Raises:
            RuntimeFailure: no more can be started here.
            ActorFailure and others: as :meth:`start_process`.
        """
        child = self.prepare(options)
        return child, await self.start_process(child, nursery or self.tn)

    def prepare(self, options: StartOptions) -> Child:
        """One whose process is to be started, with a uid of its own.  Raises RuntimeFailure: no more can be."""
        if self.refusal:
            raise RuntimeFailure(
                f"can't start actor {options.name!r}: its nursery was {self.refusal}"
            )
        aid = Aid(options.name, mk_uuid())
        bound = None if options.bind_addrs is None else list(options.bind_addrs)
        return self.new_child(aid, options.recipe(self.actor, aid.uuid), bound)

    def new_child(
        self, aid: Aid, recipe: Recipe, bind_addrs: list[UnwrappedAddress] | None
    ) -> Child:
        """One whose process is to be started."""
        child = Child(self.actor, aid, bind_addrs)
        child.recipe = recipe
        child.block_over = self.block_over
        child.on_failure = partial(self._note_failure, child)
        child.start_ladder = partial(self.tn.start_soon, name=f"teardown of {aid.name}")
        child.respawn = partial(self._respawn, self, child)
        return child

    async def start_process(self, child: Child, nursery: trio.Nursery) -> Portal:
        """Start a child's process, and wait until it is connected and configured.

        Args:
            child: a new one.
            nursery: hosts the task that supervises it.

        Raises:
            ActorFailure, RemoteActorError, OSError, RuntimeFailure: as ``start_actor()``; then it is gone.
        """
        recipe = child.recipe
        assert recipe is not None
        self.living[child.uid] = child
        self.actor.children[child.uid] = child
        try:
            backend: SpawnBackend = (
                get_backend(selected_start_method())
                if recipe.place is None
                else backend_of(self.actor, recipe.place)
            )
            child.start_method = backend.key
            child.armed = recipe.armed
            child.claim = os.urandom(32)
            child.started = self.actor.next_start()
            req = msgspec.structs.replace(recipe.request, uuid=child.aid.uuid, claim=child.claim)
            began = time.monotonic()
            tell_starting(child)
            try:
                with named_shortage(backend.key, child.aid.name):
                    child.process = await backend.start(req, self.tn)
            except BaseException as exc:
                tell_gone(child, exc)
                raise
        except BaseException:
            self._forget(child)
            raise
        spawned = time.monotonic()
        self.spawned += 1
        log.runtime(
            "subactor %r was started: process %s, spawn backend %r",
            child.aid.name,
            child.process.pid,
            backend.key,
        )
        begun = trio.current_time()
        self.actor.recorder.note(
            "child_starting",
            child=child.aid.name,
            uuid=child.aid.uuid,
            pid=child.process.pid,
            backend=backend.key,
        )
        title = f"supervisor of {child.aid.name}"
        try:
            nursery.start_soon(self._supervise, child, name=title)
        except RuntimeError:
            # The nursery that was given is closed: the process must be reaped all the same.
            self.tn.start_soon(self._supervise, child, name=title)
            await self.take_down(child, hard_kill=False)
            raise
        if self.taking_down:
            self.tn.start_soon(child.take_down, False, name=f"teardown of {child.aid.name}")
        try:
            child.on_started()
            spec = msgspec.structs.replace(recipe.spec, started=child.started)
            if isinstance(child.process, RemoteProcess):
                spec = spec_of(spec, child.process, self.actor)
            portal = await self._configure(child, spec)
            self.actor.recorder.note(
                "child_ready",
                child=child.aid.name,
                pid=child.process.pid,
                seconds=trio.current_time() - begun,
            )
            tell_ready(child, began, spawned)
            return portal
        except BaseException:
            # Whatever kept it from being usable: it is not a child of this nursery's any more. One that was not told
            # what to run has nothing that it could tidy up, and nothing to be waited for.
            child.given_up = not child.is_told
            await self.take_down(child, hard_kill=child.given_up or child.boot_error is not None)
            raise

    async def take_down(self, child: Child, hard_kill: bool) -> None:
        """Have a child go, and wait for it, in a task of the user's.

        The ladder has a task of its own: a second ctrl-c would end it halfway if it ran in the main task.
        """
        if child.exited.is_set():
            # Then this nursery's block may be over, too, and take no more tasks.
            return
        title = f"teardown of {child.aid.name}"
        self.tn.start_soon(child.take_down, hard_kill, name=title)
        with trio.CancelScope(shield=True):
            await child.exited.wait()

    async def _configure(self, child: Child, spec: SpawnSpec) -> Portal:
        """Wait until the child has connected, send its configuration, wait until it serves."""
        server = self.actor.ipc_server
        starved: OSError | None = None
        async with collapse_eg(add_notes=False), trio.open_nursery() as race:

            async def connected() -> None:
                await child.connected.wait()
                race.cancel_scope.cancel()

            async def refused() -> None:
                nonlocal starved
                starved = await server.doorstep.wait_starved()
                race.cancel_scope.cancel()

            race.start_soon(connected)
            race.start_soon(refused)
            await child.exited.wait()
            race.cancel_scope.cancel()
        if starved is not None and child.chan is None and not child.exited.is_set():
            starved.add_note(f"the connection of {child.aid.reprol()} can't be accepted")
            raise starved
        if child.chan is not None:
            # At the handshake it did not know the limits of the tree.
            child.chan.set_room(wire_settings().limits.max_served)
            child.is_told = True
            try:
                await child.chan.send(spec)
            except TransportClosed as exc:
                log.transport("the configuration could not be sent to %s: %s", child.chan.peer, exc)
            await child.settled.wait()
        if child.ready and child.chan is not None and not child.exited.is_set():
            portal = Portal(child.chan, self.actor)
            child.portal = portal
            return portal
        if child.boot_error is None or child.chan is None:
            await child.exited.wait()
        raise self._failure_of(child)

    # -- supervision ----------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def _supervise(self, child: Child) -> None:
        """One child's task: reap its process and decide what its end means."""
        try:
            await child.reap(lambda: self._note_death(child))
        finally:
            self.reaped += 1
            if child.ladder is not None:
                self.escalations += len(child.ladder.escalations)
            self._forget(child)

    def _note_death(self, child: Child) -> None:
        """A child's process has ended, and what it had sent is delivered: was that a failure?"""
        failure = self._failure_of(child) if child.failed else None
        tell_gone(child, failure)
        self.actor.recorder.note(
            "child_gone",
            failure,
            child=child.aid.name,
            uuid=child.aid.uuid,
            pid=child.aid.pid,
            status=child.returncode,
            cause=child.life.cause.value,
            rung=child.rungs,
        )
        if child.portal is None or not child.failed:
            return
        if child.keeper is not None:
            child.keeper(self._failure_of(child))
            return
        self.gone[child.uid] = child
        self.fail(child.uid, self._failure_of(child))

    def _note_failure(self, child: Child) -> None:
        """A child's runtime has failed, as it says; its end is still to come, and may hang."""
        if child.keeper is not None:
            self.tn.start_soon(child.take_down, False, name=f"teardown of {child.aid.name}")
            return
        self.gone[child.uid] = child
        self.fail(child.uid, self._failure_of(child))

    def _failure_of(self, child: Child) -> BaseException:
        if child.boot_error is not None and child.chan is not None:
            # Its runtime has failed, and it could still say so.
            return boxed(child.boot_error, child.chan, self.actor)
        if isinstance(child.process, RemoteProcess) and child.process.lost is not None:
            return child.process.lost
        tail = child.process.stderr_tail() if child.process is not None else ""
        return ActorFailure(uid=child.uid, returncode=child.returncode, stderr_tail=tail)

    def _forget(self, child: Child) -> None:
        self.living.pop(child.uid, None)
        self.actor.children.pop(child.uid, None)
        self.changed.unpark_all()

    def fail(self, uid: Uid, exc: BaseException) -> None:
        """Note an actor's error and cancel everything else."""
        self.errors[uid] = exc
        note_losses(exc, self.living)
        log.cancel("the nursery is cancelled because of %s: %r", uid, exc)
        self.failing = True
        self._begin_teardown(hard_kill=False)
        self.cancel_body(self.block_scope)

    def cancel_body(self, scope: trio.CancelScope) -> None:
        """Cancel a block's body, in whose scope somebody may await the debugger's REPL, or be waited for there."""
        if self.actor.hooks.repl_busy():
            self.tn.start_soon(self._cancel_after_repl, scope, name="cancellation of the block")
        else:
            scope.cancel()

    async def _cancel_after_repl(self, scope: trio.CancelScope) -> None:
        with trio.CancelScope(shield=True):
            await self.actor.hooks.wait_for_repl()
        scope.cancel()

    def _begin_teardown(self, hard_kill: bool) -> None:
        """Start every child's ladder; all run in parallel, and none is interrupted."""
        self.taking_down = True
        self.gone.update(self.living)
        for child in list(self.living.values()):
            if child.process is not None:
                self.tn.start_soon(child.take_down, hard_kill, name=f"teardown of {child.aid.name}")

    async def tear_all_down(self, hard_kill: bool = False) -> None:
        """Take every child down, shielded, telling the parent meanwhile that this goes on."""
        with trio.CancelScope(shield=True):
            await self.actor.hooks.wait_for_repl()
            async with self.telling_progress():
                self._begin_teardown(hard_kill)
                await self.wait_all_gone(shield=True)

    async def wait_all_gone(self, shield: bool) -> None:
        with trio.CancelScope(shield=shield):
            while self.living or self.replacing or self.unsettled:
                await self.changed.park()
        await trio.lowlevel.cancel_shielded_checkpoint()

    @ki_protected_manager
    async def telling_progress(self) -> AsyncIterator[None]:
        """For the length of the block, in which children go: tell the parent that this goes on."""
        async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
            tn.start_soon(self._note_progress)
            yield
            tn.cancel_scope.cancel()

    async def _note_progress(self) -> None:
        """Tell the parent every 0.5 s that this actor still works down its own, and how far that is."""
        while True:
            children = list(self.actor.children.values())
            self.actor.note_to_parent(
                "_progress",
                left=sum(1 + len(child.descendants) for child in children),
                rung=sum(child.rung for child in children),
                needs=max([self.needs(), *(child.needs for child in children)]),
            )
            await trio.sleep(PROGRESS_INTERVAL)
