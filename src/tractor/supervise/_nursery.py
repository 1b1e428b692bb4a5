"""The nursery whose tasks are processes."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import trio

from tractor import log as _log
from tractor._errors import (
    ActorFailure,
    ContextCancelled,
    RuntimeFailure,
    TransportClosed,
)
from tractor._proto.deadlines import PROGRESS_INTERVAL
from tractor._util._caller import Caller
from tractor._util._names import plain_text, require_name
from tractor._util._plain import printable
from tractor.address._policy import from_this_host, require_bindable
from tractor.address._types import Address, UnwrappedAddress, mk_uuid
from tractor.msg.types import Aid, SpawnSpec, Uid
from tractor.runtime._actor import Actor
from tractor.runtime._portal import Portal
from tractor.runtime._vars import runtime_vars
from tractor.runtime.dialog._caller import PendingCall, boxed, put_start
from tractor.runtime.dialog._endpoints import canonical
from tractor.runtime.dialog._targets import Target
from tractor.spawn._contract import (
    SpawnRequest,
    get_backend,
    require_debug_support,
    selected_start_method,
)
from tractor.spawn._parent_main import get_parent_main_data
from tractor.spawn._shortage import named_shortage
from tractor.supervise._child import Child, ChildInfo, Recipe, end_sentinel
from tractor.supervise._one_shot import OneShots
from tractor.supervise._outcome import Collected, note_losses
from tractor.transport._addresses import wrap_address, wrap_addresses
from tractor.transport._settings import wire_settings
from tractor.transport._table import known_transports
from tractor.trionics._groups import (
    collapse_eg,
    is_multi_cancelled,
    raise_as_it_was,
    the_one_error,
)
from tractor.trionics._ki import ki_protected

log = _log.get_logger()

Addr = UnwrappedAddress | Address | str


class NurseryStatistics(msgspec.Struct, frozen=True):
    """Counters of a nursery.

    Attributes:
        children: how many are in each state.
        spawned, reaped: processes, so far.
        escalations: limits of the teardown ladder that passed, so far.
    """

    children: dict[str, int]
    spawned: int
    reaped: int
    escalations: int


@ki_protected
class ActorNursery(OneShots):
    """Starts subactors and supervises them: one errs, all are cancelled; none outlives the block.

    Not built by users: see :func:`tractor.open_nursery`.
    """

    def __init__(self, actor: Actor, tn: trio.Nursery) -> None:
        self._actor = actor
        self._tn = tn
        self._children: dict[Uid, Child] = {}
        self._errors: dict[Uid, BaseException] = {}
        self._body_scope = trio.CancelScope()
        self._changed = trio.lowlevel.ParkingLot()
        self._cancel_called = False
        self._cancelled_caught = False
        self._failing = False
        # A child whose process is being started then is taken down as soon as there is one.
        self._tearing_down = False
        self._closed = False
        # The block has ended: one-shots that have given their results go.
        self._body_over = trio.Event()
        # Those that failed or were taken down, for what the block's errors tell of them.
        self._gone: dict[Uid, Child] = {}
        self._unsettled = 0
        self._replacing = 0
        self._spawned = 0
        self._reaped = 0
        self._escalations = 0

    # -- what it is -----------------------------------------------------------------------------------

    @property
    def cancel_called(self) -> bool:
        """Whether its actors are being cancelled, or were: by :meth:`cancel`, an error, or from outside."""
        # The scope knows of a cancellation from outside before any task has been told.
        status = self._tn.cancel_scope._cancel_status
        outside = status is not None and status.effectively_cancelled
        return self._cancel_called or self._tearing_down or outside

    @property
    def cancelled_caught(self) -> bool:
        """Whether the block ended through this nursery's own cancellation, which absorbed every child's end."""
        return self._cancelled_caught

    @property
    def cancelled(self) -> bool:
        """The outdated name of :attr:`cancel_called`."""
        warnings.warn(
            "`ActorNursery.cancelled` is outdated; use `cancel_called`",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.cancel_called

    @property
    def children(self) -> Mapping[Uid, ChildInfo]:
        """The subactors that live, by uid."""
        return {uid: child.info() for uid, child in self._children.items()}

    def statistics(self) -> NurseryStatistics:
        """A frozen record of plain values."""
        states: dict[str, int] = {}
        for child in self._children.values():
            states[child.state] = states.get(child.state, 0) + 1
        return NurseryStatistics(states, self._spawned, self._reaped, self._escalations)

    def pformat(self) -> str:
        """One line for people."""
        state = "closed" if self._closed else "cancelling" if self.cancel_called else "open"
        return f"<ActorNursery {state}: {len(self._children)} children>"

    __repr__ = pformat

    # -- starting -------------------------------------------------------------------------------------

    async def start_actor(  # type: ignore[override]
        self,
        name: str,
        *,
        bind_addrs: Sequence[Addr] | None = None,
        enable_transports: Sequence[str] | None = None,
        enable_modules: Sequence[str] | None = None,
        loglevel: str | None = None,
        debug_mode: bool | None = None,
        infect_asyncio: bool = False,
        inherit_parent_main: bool = True,
        nursery: trio.Nursery | None = None,
        proc_kwargs: Mapping[str, Any] | None = None,
        rpc_module_paths: Sequence[str] | None = None,
    ) -> Portal:
        """Start a daemon: a subactor that serves until it is cancelled.

        Args:
            name: need not be unique.
            bind_addrs: where it listens; default: a random address for each transport.
            enable_transports: transports that it listens on; ``None``: this actor's.
            enable_modules: names of the modules that peers may call into.
            loglevel: its log level; ``None``: this actor's.
            debug_mode: arm the debugger in it; ``None``: as this actor.
            infect_asyncio: run its trio as a guest of an asyncio loop.
            inherit_parent_main: replay this program's ``__main__`` there, so that functions of a script can be
                endpoints.
            nursery: hosts the task that supervises it; default: this nursery's own.
            proc_kwargs: further arguments for the backend (``subprocess.Popen`` for ``'trio'``).

        Returns:
            A portal, once the child is connected and configured.

        Raises:
            ActorFailure: it died first; tells the exit status and the tail of its stderr.
            ModuleNotFoundError: an enabled module does not exist.
            RemoteActorError: an enabled module can't be imported there.
            RuntimeFailure: this nursery was closed or cancelled; ``__main__`` is enabled, but is in no file that
                another process could load; a frozen program has not called :func:`tractor.freeze_support`; no thread
                can be started for the start, or the process that was to make it has ended.
            OSError: the process could not be started.
            TypeError, ValueError: an argument that can't be used.
        """
        if rpc_module_paths is not None:
            warnings.warn(
                "`rpc_module_paths` is outdated; use `enable_modules`",
                DeprecationWarning,
                stacklevel=2,
            )
            enable_modules = [*(enable_modules or ()), *rpc_module_paths]
        if loglevel is not None:
            loglevel = plain_text(loglevel, "`loglevel` is the name of a level")
        child = self._new_child(name, bind_addrs, enable_transports)
        modules = _module_files(enable_modules or ())
        spec = SpawnSpec(
            _parent_main_data=get_parent_main_data(inherit_parent_main, modules),
            _runtime_vars=self._child_vars(enable_transports, debug_mode, infect_asyncio),
            # The files are for people: names that are no UTF-8 can't be carried.
            enable_modules={name: file and printable(file) for name, file in modules.items()},
            reg_addrs=list(self._actor.reg_addrs),
            bind_addrs=None if child.bind_addrs is None else [*child.bind_addrs],
        )
        req = SpawnRequest(
            name=child.aid.name,
            uuid=child.aid.uuid,
            parent_addr=self._address_for_child(enable_transports),
            loglevel=loglevel or self._actor.loglevel,
            infect_asyncio=infect_asyncio,
            authkey=wire_settings().authkey,
            key_is_explicit=wire_settings().key_is_explicit,
            tls=wire_settings().tls,
            proc_kwargs=dict(proc_kwargs or {}),
        )
        child.recipe = Recipe(spec, req, nursery or self._tn)
        return await self._start(child, spec, req, nursery or self._tn)

    async def _run_main(
        self, portal: Portal, target: Target, kwargs: dict[str, Any], caller: Caller | None
    ) -> None:
        """Have a fresh subactor run the one function that it was started for."""
        assert portal.chan.aid is not None
        child = self._children.get(portal.chan.aid.uid)
        pending = PendingCall(portal.chan, target.endpoint.name)
        try:
            if child is not None and child.recipe is not None:
                child.recipe.main = (target.ns, target.name, kwargs)
            put_start(
                portal.chan,
                pending.cid,
                target.ns,
                target.name,
                kwargs,
                endpoint=target.endpoint,
            )
            portal.expect_main(pending, target.endpoint, caller)
            # The caller may go on to compute without ever yielding: the child must not wait for that.
            await portal.chan.transport.flush()
        except BaseException:
            # Without its one function it would be a daemon that nobody knows of.
            if child is not None:
                await self._take_down(child, hard_kill=False)
            raise
        if child is not None:
            self._start_awaiting_main(child, portal)

    def _new_child(
        self, name: str, bind_addrs: Sequence[Addr] | None, transports: Sequence[str] | None
    ) -> Child:
        if self._closed or self._cancel_called or self._failing:
            raise RuntimeFailure(
                f"can't start actor {name!r}: its nursery was "
                f"{'closed' if self._closed else 'cancelled'}"
            )
        name = require_name(name)
        if bind_addrs is not None and not bind_addrs:
            raise RuntimeError(
                f"`bind_addrs=[]` leaves actor {name!r} without an address to listen on: give one, or leave it out"
            )
        addrs = wrap_addresses(bind_addrs, "bind_addrs")
        for addr in addrs:
            require_bindable(addr)
        keys = known_transports(transports) if transports is not None else None
        strays = [a.unwrap() for a in addrs if keys is not None and a.proto_key not in keys]
        if strays:
            raise ValueError(
                f"`bind_addrs` {strays} are of a transport that is not in enable_transports={keys}"
            )
        bound = [addr.unwrap() for addr in addrs] or None
        return self._make_child(Aid(name, mk_uuid()), bound)

    def _make_child(self, aid: Aid, bind_addrs: list[UnwrappedAddress] | None) -> Child:
        child = Child(self._actor, aid, bind_addrs)
        child.block_over = self._body_over
        child.start_ladder = partial(self._tn.start_soon, name=f"teardown of {aid.name}")
        return child

    def _child_vars(
        self, transports: Sequence[str] | None, debug_mode: bool | None, infect: bool
    ) -> dict[str, Any]:
        handed = runtime_vars().for_child()
        if transports is not None:
            handed["_enable_tpts"] = known_transports(transports)
        if debug_mode and not handed["_debug_mode"]:
            # The first that is armed: what an armed root does.
            handed["_debug_mode"] = handed["use_greenback"] = True
        if handed["_debug_mode"]:
            require_debug_support(selected_start_method())
        handed["_is_infected_aio"] = infect
        return handed

    def _address_for_child(self, transports: Sequence[str] | None) -> UnwrappedAddress:
        """One of this actor's addresses, of a transport that the child uses where there is one."""
        wrapped = [from_this_host(wrap_address(a)) for a in self._actor.accept_addrs]
        if not wrapped:
            raise RuntimeFailure(
                f"{self._actor.aid.reprol()} listens nowhere; a child could not connect to it"
            )
        if transports is None:
            transports = runtime_vars()._enable_tpts
        wanted = known_transports(transports)
        usable = [a for a in wrapped if a.proto_key in wanted] or wrapped
        usable.sort(key=lambda a: a.proto_key != "uds")
        return usable[0].unwrap()

    async def _start(
        self, child: Child, spec: SpawnSpec, req: SpawnRequest, nursery: trio.Nursery
    ) -> Portal:
        child.respawn = partial(self._respawn, child)
        self._children[child.uid] = child
        self._actor.children[child.uid] = child
        try:
            backend = get_backend(selected_start_method())
            child.start_method = backend.key
            child.armed = spec._runtime_vars["_debug_mode"]
            child.claim = os.urandom(32)
            req = msgspec.structs.replace(req, claim=child.claim)
            with named_shortage(backend.key, child.aid.name):
                child.process = await backend.start(req, self._tn)
        except BaseException:
            self._forget(child)
            raise
        self._spawned += 1
        log.runtime(
            "subactor %r was started: process %s, spawn backend %r",
            child.aid.name,
            child.process.pid,
            backend.key,
        )
        title = f"supervisor of {child.aid.name}"
        try:
            nursery.start_soon(self._supervise, child, name=title)
        except RuntimeError:
            # The nursery that was given is closed: the process must be reaped all the same.
            self._tn.start_soon(self._supervise, child, name=title)
            await self._take_down(child, hard_kill=False)
            raise
        if self._tearing_down:
            self._tn.start_soon(child.take_down, False, name=f"teardown of {child.aid.name}")
        try:
            child.on_started()
            return await self._configure(child, spec)
        except BaseException:
            # Whatever kept it from being usable: it is no child of this nursery's any more.
            await self._take_down(child, hard_kill=child.boot_error is not None)
            raise

    async def _take_down(self, child: Child, hard_kill: bool) -> None:
        """Have a child go, and wait for it, in a task of the user's.

        The ladder has a task of its own: a second ctrl-c would end it halfway if it ran in the main task.
        """
        if child.exited.is_set():
            # Then this nursery's block may be over, too, and take no more tasks.
            return
        title = f"teardown of {child.aid.name}"
        self._tn.start_soon(child.take_down, hard_kill, name=title)
        with trio.CancelScope(shield=True):
            await child.exited.wait()

    async def _configure(self, child: Child, spec: SpawnSpec) -> Portal:
        """Wait until the child has connected, send its configuration, wait until it serves."""
        server = self._actor.ipc_server
        starved: OSError | None = None
        async with collapse_eg(add_notes=False), trio.open_nursery() as race:

            async def connected() -> None:
                await child.connected.wait()
                race.cancel_scope.cancel()

            async def refused() -> None:
                nonlocal starved
                starved = await server.wait_starved()
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
            try:
                await child.chan.send(spec)
            except TransportClosed as exc:
                log.transport("the configuration could not be sent to %s: %s", child.chan.peer, exc)
            await child.settled.wait()
        if child.ready and child.chan is not None and not child.exited.is_set():
            portal = Portal(child.chan, self._actor)
            child.portal = portal
            return portal
        if child.boot_error is not None and child.chan is not None:
            raise boxed(child.boot_error, child.chan, self._actor)
        await child.exited.wait()
        raise self._failure_of(child)

    # -- replacing ------------------------------------------------------------------------------------

    def _respawn(self, child: Child) -> bool:
        """Have a fresh process take a subactor's place: same name, modules and settings, and a uuid of its own.

        Its portal leads to the new one afterwards, and a one-shot whose function has not ended runs it again.  What
        goes wrong with the new one is an error of this nursery's, as with any subactor.

        Returns:
            Whether its function is run again.

        Raises:
            RuntimeFailure: it can't be replaced; says why.
        """
        portal, method = child.portal, selected_start_method()
        why = ""
        if self._closed or self._cancel_called or self._failing:
            why = "its nursery is at its end, and takes all of its actors down"
        elif child.recipe is None or portal is None or child.state != "running":
            why = f"it is {child.state}"
        elif "fork" in method:
            why = f"the backend {method!r} would fork it off this process, where the code is the old one"
        if why:
            raise RuntimeFailure(f"{child.aid.reprol()} can't be respawned: {why}")
        assert portal is not None
        again = portal.give_up_main()
        self._replacing += 1
        self._tn.start_soon(
            self._replace, child, portal, again, name=f"respawn of {child.aid.name}"
        )
        return again

    async def _replace(self, old: Child, portal: Portal, again: bool) -> None:
        recipe = old.recipe
        assert recipe is not None
        new = self._make_child(Aid(old.aid.name, mk_uuid()), old.bind_addrs)
        new.recipe = recipe
        try:
            await old.take_down(hard_kill=False)
            req = msgspec.structs.replace(recipe.request, uuid=new.aid.uuid)
            fresh = await self._start(new, recipe.spec, req, self._tn)
            portal.chan = fresh.chan
            new.portal = portal
            if again and recipe.main is not None:
                ns, func, kwargs = recipe.main
                pending = PendingCall(portal.chan, f"{ns}:{func}")
                put_start(portal.chan, pending.cid, ns, func, kwargs)
                portal.expect_main(pending)
                self._start_awaiting_main(new, portal)
            log.devx("%s has taken the place of %s", new.aid.reprol(), old.aid.reprol())
        except trio.Cancelled:
            raise
        except Exception as exc:
            self._fail(new.uid, exc)
        finally:
            self._replacing -= 1
            self._changed.unpark_all()

    # -- supervision ----------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def _supervise(self, child: Child) -> None:
        """One child's task: reap its process and decide what its end means."""
        try:
            await child.reap(lambda: self._note_death(child))
        finally:
            self._reaped += 1
            if child.ladder is not None:
                self._escalations += len(child.ladder.escalations)
            self._forget(child)

    def _note_death(self, child: Child) -> None:
        """A child's process has ended, and what it had sent is delivered: was that a failure?"""
        if child.portal is None or not child.failed:
            return
        self._gone[child.uid] = child
        if child.boot_error is not None and child.chan is not None:
            # Its runtime has failed, and it could still say so.
            self._fail(child.uid, boxed(child.boot_error, child.chan, self._actor))
        else:
            self._fail(child.uid, self._failure_of(child))

    def _failure_of(self, child: Child) -> ActorFailure:
        tail = child.process.stderr_tail() if child.process is not None else ""
        return ActorFailure(uid=child.uid, returncode=child.returncode, stderr_tail=tail)

    def _forget(self, child: Child) -> None:
        self._children.pop(child.uid, None)
        self._actor.children.pop(child.uid, None)
        self._changed.unpark_all()

    def _start_awaiting_main(self, child: Child, portal: Portal) -> None:
        self._unsettled += 1
        self._tn.start_soon(self._await_main, child, portal)

    @trio.lowlevel.enable_ki_protection
    async def _await_main(self, child: Child, portal: Portal) -> None:
        """A one-shot's result: keep it, note its error; after both it and the block have ended have the actor go."""
        with trio.CancelScope(shield=True):
            try:
                is_current = await portal.settle_main()
                if is_current:
                    await self._note_main(child, portal)
            finally:
                self._unsettled -= 1
                self._changed.unpark_all()
            if not is_current:
                # A fresh process runs the function now.
                return
            await self._body_over.wait()
            if not child.exited.is_set():
                await child.take_down(hard_kill=False)

    async def _note_main(self, child: Child, portal: Portal) -> None:
        try:
            portal.main_result()
        except TransportClosed as exc:
            # How the process ended says more, and is this child's one entry.
            await child.exited.wait()
            if child.failed and child.uid not in self._errors:
                self._fail(child.uid, exc)
        except ContextCancelled as exc:
            if not self._is_ours(child, exc):
                self._fail(child.uid, exc)
        except BaseException as exc:
            self._fail(child.uid, exc)
        else:
            child.finished = True

    def _is_ours(self, child: Child, exc: ContextCancelled) -> bool:
        """Whether a one-shot's cancellation was asked for here, or by the child itself (a signal)."""
        return exc.canceller in (self._actor.aid.uid, child.uid)

    def _fail(self, uid: Uid, exc: BaseException) -> None:
        """Note an actor's error and cancel everything else."""
        self._errors[uid] = exc
        note_losses(exc, self._children)
        log.cancel("the nursery is cancelled because of %s: %r", uid, exc)
        self._failing = True
        self._begin_teardown(hard_kill=False)
        if self._actor.hooks.repl_busy():
            self._tn.start_soon(self._cancel_body_after_repl, name="cancellation of the block")
        else:
            self._body_scope.cancel()

    async def _cancel_body_after_repl(self) -> None:
        """The block may be what awaits the debugger's REPL, or what is waited for there."""
        with trio.CancelScope(shield=True):
            await self._actor.hooks.wait_for_repl()
        self._body_scope.cancel()

    def _begin_teardown(self, hard_kill: bool) -> None:
        """Start every child's ladder; all run in parallel, and none is interrupted."""
        self._tearing_down = True
        self._gone.update(self._children)
        for child in list(self._children.values()):
            if child.process is not None:
                self._tn.start_soon(
                    child.take_down, hard_kill, name=f"teardown of {child.aid.name}"
                )

    async def cancel(self, hard_kill: bool = False) -> None:
        """Cancel every actor of this nursery and wait until all are gone.  Shielded.

        Args:
            hard_kill: start at the signals instead of asking first.
        """
        self._cancel_called = True
        await self._tear_all_down(hard_kill)

    async def _wait_all_gone(self, shield: bool) -> None:
        with trio.CancelScope(shield=shield):
            while self._children or self._replacing or self._unsettled:
                await self._changed.park()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _note_progress(self) -> None:
        """Tell the parent every 0.5 s that this actor still works down its own, and how far that is."""
        while True:
            children = list(self._actor.children.values())
            self._actor.note_to_parent(
                "_progress",
                left=sum(1 + len(child.descendants) for child in children),
                rung=sum(child.rung for child in children),
            )
            await trio.sleep(PROGRESS_INTERVAL)

    # -- the block's end ------------------------------------------------------------------------------

    async def finish(self, body_exc: BaseException | None) -> None:
        """The body has ended: wait for the children, or take them down; what is true afterwards: none lives."""
        self._actor.hooks.note_leaving(True)
        try:
            await self._finish(body_exc)
        finally:
            self._actor.hooks.note_leaving(False)

    async def _finish(self, body_exc: BaseException | None) -> None:
        taking_down = self._tearing_down
        self._body_over.set()
        if body_exc is None and not self._failing:
            try:
                await self._wait_all_gone(shield=False)
            except BaseException as exc:
                body_exc = exc
        self._closed = True
        if body_exc is not None:
            note_losses(body_exc, self._children)
        if self._children or self._unsettled:
            await self._tear_all_down()
        found = Collected(self._actor.aid.uid, self._errors, self._gone, taking_down)
        errors, goes_on = found.resolve(body_exc)
        self._cancelled_caught = self._cancel_called and not errors
        if goes_on:
            assert body_exc is not None
            raise_as_it_was(body_exc)
        if len(errors) == 1:
            raise_as_it_was(errors[0])
        if errors:
            names = ", ".join(name for name, _ in {self._actor.aid.uid: None, **self._errors})
            raise BaseExceptionGroup(f"errors of several actors: {names}", errors)

    async def _tear_all_down(self, hard_kill: bool = False) -> None:
        """Take every child down, shielded, telling the parent meanwhile that this goes on."""
        with trio.CancelScope(shield=True):
            await self._actor.hooks.wait_for_repl()
            async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
                tn.start_soon(self._note_progress)
                self._begin_teardown(hard_kill)
                await self._wait_all_gone(shield=True)
                tn.cancel_scope.cancel()


def _module_files(names: Sequence[str]) -> dict[str, str | None]:
    """The modules to enable, by name, with the file that each was found in.

    Raises:
        TypeError: a single string was given instead of a list of them.
        ModuleNotFoundError: there is no such module.
    """
    if isinstance(names, str):
        raise TypeError(
            f"`enable_modules` must be a list of module names, not the string {names!r}"
        )
    found: dict[str, str | None] = {}
    for name in names:
        name = plain_text(name, "`enable_modules` must be a list of module names (str)")
        module = sys.modules.get(name)
        if module is not None or canonical(name) == "__main__":
            found[canonical(name)] = getattr(module, "__file__", None)
            continue
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r} to enable in an actor", name=name)
        found[name] = spec.origin
    return found


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_actor_nursery(actor: Actor) -> AsyncIterator[ActorNursery]:
    """A nursery for subactors of ``actor``, for the length of the block.

    Raises:
        BaseException: the body's error or the one failed child's, bare; a ``BaseExceptionGroup`` of several.  Which
            are told, and which only tell of others, is the table of :mod:`tractor._proto.outcome`.
    """
    outcome: BaseException | None = None
    try:
        async with trio.open_nursery() as tn:
            an = ActorNursery(actor, tn)
            body_exc: BaseException | None = None
            try:
                with an._body_scope:
                    yield an
            except BaseException as exc:
                body_exc = exc
            actor.end_if_copy(body_exc)
            try:
                await an.finish(body_exc)
            except BaseException as exc:
                outcome = exc
                if isinstance(exc, KeyboardInterrupt):
                    # It may have hit the wait itself; the children go down all the same.
                    await an._tear_all_down()
    except BaseExceptionGroup as group:
        if outcome is None:
            # A ctrl-c that has hit the wait for this nursery's own tasks.
            outcome = the_one_error(group)
        elif is_multi_cancelled(group):
            pass
        elif is_multi_cancelled(outcome):
            # One of this nursery's own tasks has failed, and that is what has cancelled the rest.
            outcome = the_one_error(group)
        else:
            log.error("the nursery's own tasks failed: %r", group)
    finally:
        end_sentinel(actor)
    if outcome is not None:
        raise_as_it_was(outcome)
