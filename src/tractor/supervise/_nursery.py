"""The nursery whose tasks are processes."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
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
from tractor._util._groups import collapse_eg, get_collapsed_eg, is_multi_cancelled
from tractor._util._ki import ki_protected
from tractor._util._names import require_name
from tractor.ipc._addr import (
    Address,
    UnwrappedAddress,
    from_this_host,
    known_transports,
    mk_uuid,
    require_bindable,
    wrap_address,
    wrap_addresses,
)
from tractor.ipc._settings import wire_settings
from tractor.msg.types import Aid, SpawnSpec, Uid
from tractor.runtime._actor import Actor
from tractor.runtime._calls import PendingCall, boxed, put_start
from tractor.runtime._endpoints import canonical
from tractor.runtime._portal import Portal
from tractor.runtime._vars import runtime_vars
from tractor.spawn._contract import (
    SpawnRequest,
    get_backend,
    require_debug_support,
    selected_start_method,
)
from tractor.spawn._parent_main import get_parent_main_data
from tractor.supervise._child import Child, ChildInfo, Recipe, end_sentinel

__all__ = ["ActorNursery", "NurseryStatistics", "open_actor_nursery"]

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
class ActorNursery:
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
        self._replacing = 0
        self._spawned = 0
        self._reaped = 0
        self._escalations = 0

    # -- what it is -----------------------------------------------------------------------------------

    @property
    def cancel_called(self) -> bool:
        """Whether the cancellation of every actor of this nursery was asked for."""
        return self._cancel_called

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
        return self._cancel_called

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
        state = "closed" if self._closed else "cancelling" if self._cancel_called else "open"
        return f"<ActorNursery {state}: {len(self._children)} children>"

    __repr__ = pformat

    # -- starting -------------------------------------------------------------------------------------

    async def start_actor(
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
            RuntimeFailure: this nursery was closed or cancelled.
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
        child = self._new_child(name, bind_addrs, enable_transports)
        spec = SpawnSpec(
            _parent_main_data=get_parent_main_data(inherit_parent_main),
            _runtime_vars=self._child_vars(enable_transports, debug_mode, infect_asyncio),
            enable_modules=_module_files(enable_modules or ()),
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

    async def run_in_actor(
        self,
        fn: Callable[..., Awaitable[Any]],
        *,
        name: str | None = None,
        bind_addrs: Sequence[Addr] | None = None,
        enable_modules: Sequence[str] | None = None,
        loglevel: str | None = None,
        infect_asyncio: bool = False,
        inherit_parent_main: bool = True,
        proc_kwargs: Mapping[str, Any] | None = None,
        rpc_module_paths: Sequence[str] | None = None,
        **fn_kwargs: Any,
    ) -> Portal:
        """Start a one-shot: a subactor that runs ``fn(**fn_kwargs)`` as one task and is cancelled after its result.

        Args:
            fn: an async function; its module is enabled in the child.
            name: the actor's; default: ``fn``'s.
            bind_addrs, enable_modules, loglevel, infect_asyncio, inherit_parent_main, proc_kwargs: as for
                :meth:`start_actor`.
            fn_kwargs: the function's arguments.

        Returns:
            A portal whose ``wait_for_result()`` gives the function's value.

        Raises:
            TypeError: ``fn`` is not an async function; nothing was started.
            ActorFailure, RemoteActorError, RuntimeFailure, OSError: as :meth:`start_actor`.
        """
        if not inspect.iscoroutinefunction(fn):
            raise TypeError(f"{fn!r} must be an async function to be run in an actor of its own")
        ns = canonical(fn.__module__)
        portal = await self.start_actor(
            name or fn.__name__,
            bind_addrs=bind_addrs,
            enable_modules=[*(enable_modules or ()), ns],
            loglevel=loglevel,
            infect_asyncio=infect_asyncio,
            inherit_parent_main=inherit_parent_main,
            proc_kwargs=proc_kwargs,
            rpc_module_paths=rpc_module_paths,
        )
        assert portal.chan.aid is not None
        child = self._children.get(portal.chan.aid.uid)
        pending = PendingCall(portal.chan, f"{ns}:{fn.__qualname__}")
        try:
            if child is not None and child.recipe is not None:
                child.recipe.main = (ns, fn.__qualname__, fn_kwargs)
            put_start(portal.chan, pending.cid, ns, fn.__qualname__, fn_kwargs)
            portal.expect_main(pending)
            # The caller may go on to compute without ever yielding: the child must not wait for that.
            await portal.chan.transport.flush()
        except BaseException:
            # Without its one function it would be a daemon that nobody knows of.
            if child is not None:
                await self._take_down(child, hard_kill=False)
            raise
        if child is not None:
            self._tn.start_soon(self._await_main, child, portal)
        return portal

    def _new_child(
        self, name: str, bind_addrs: Sequence[Addr] | None, transports: Sequence[str] | None
    ) -> Child:
        if self._closed or self._cancel_called or self._failing:
            raise RuntimeFailure(
                f"can't start actor {name!r}: its nursery was "
                f"{'closed' if self._closed else 'cancelled'}"
            )
        require_name(name)
        addrs = wrap_addresses(bind_addrs, "bind_addrs")
        for addr in addrs:
            require_bindable(addr)
        keys = known_transports(transports) if transports is not None else None
        strays = [a.unwrap() for a in addrs if keys is not None and a.proto_key not in keys]
        if strays:
            raise ValueError(
                f"`bind_addrs` {strays} are of a transport that is not in enable_transports={keys}"
            )
        return Child(self._actor, Aid(name, mk_uuid()), [addr.unwrap() for addr in addrs] or None)

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
            child.process = await backend.start(req, self._tn)
        except BaseException:
            self._forget(child)
            raise
        self._spawned += 1
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
        async with collapse_eg(add_notes=False), trio.open_nursery() as race:

            async def connected() -> None:
                _, child.chan = await server.wait_for_peer(child.uid)
                race.cancel_scope.cancel()

            race.start_soon(connected)
            await child.exited.wait()
            race.cancel_scope.cancel()
        server.forget_arrival(child.uid)
        if child.chan is not None:
            try:
                await child.chan.send(spec)
            except TransportClosed as exc:
                log.transport("the configuration could not be sent to %s: %s", child.chan.peer, exc)
            await child.settled.wait()
        if child.ready and child.chan is not None and not child.exited.is_set():
            portal = Portal(child.chan, self._actor)
            portal.on_cancel_request = child.note_cancel_request
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
        new = Child(self._actor, Aid(old.aid.name, mk_uuid()), old.bind_addrs)
        new.recipe = recipe
        try:
            await old.take_down(hard_kill=False)
            req = msgspec.structs.replace(recipe.request, uuid=new.aid.uuid)
            fresh = await self._start(new, recipe.spec, req, self._tn)
            portal.chan = fresh.chan
            portal.on_cancel_request = new.note_cancel_request
            new.portal = portal
            if again and recipe.main is not None:
                ns, func, kwargs = recipe.main
                pending = PendingCall(portal.chan, f"{ns}:{func}")
                put_start(portal.chan, pending.cid, ns, func, kwargs)
                portal.expect_main(pending)
                self._tn.start_soon(self._await_main, new, portal)
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
        await child.reap(lambda: self._note_death(child))
        self._reaped += 1
        if child.ladder is not None:
            self._escalations += len(child.ladder.escalations)
        self._forget(child)

    def _note_death(self, child: Child) -> None:
        """A child's process has ended, and what it had sent is delivered: was that a failure?"""
        if child.portal is None or not child.failed:
            return
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

    @trio.lowlevel.enable_ki_protection
    async def _await_main(self, child: Child, portal: Portal) -> None:
        """A one-shot's result: keep it, note its error, then have the actor go."""
        with trio.CancelScope(shield=True):
            if not await portal.settle_main():
                # A fresh process runs the function now.
                return
        try:
            portal.main_result()
        except TransportClosed as exc:
            # How the process ended says more, and is this child's one entry.
            with trio.CancelScope(shield=True):
                await child.exited.wait()
            if child.failed and child.uid not in self._errors:
                self._fail(child.uid, exc)
            return
        except ContextCancelled as exc:
            if not self._is_ours(child, exc):
                self._fail(child.uid, exc)
        except BaseException as exc:
            self._fail(child.uid, exc)
        else:
            child.finished = True
        if not child.exited.is_set():
            await child.take_down(hard_kill=False)

    def _is_ours(self, child: Child, exc: ContextCancelled) -> bool:
        """Whether a one-shot's cancellation was asked for here, or by the child itself (a signal)."""
        return exc.canceller in (self._actor.aid.uid, child.uid)

    def _fail(self, uid: Uid, exc: BaseException) -> None:
        """Note an actor's error and cancel everything else."""
        self._errors[uid] = exc
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
            while self._children or self._replacing:
                await self._changed.park()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _note_progress(self) -> None:
        """Tell the parent every 0.5 s that this actor still works down its own."""
        while True:
            self._actor.note_to_parent("_progress")
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
        if body_exc is None and not self._failing:
            try:
                await self._wait_all_gone(shield=False)
            except BaseException as exc:
                body_exc = exc
        self._closed = True
        if self._children:
            await self._tear_all_down()
        self._raise_collected(body_exc)

    async def _tear_all_down(self, hard_kill: bool = False) -> None:
        """Take every child down, shielded, telling the parent meanwhile that this goes on."""
        with trio.CancelScope(shield=True):
            await self._actor.hooks.wait_for_repl()
            async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
                tn.start_soon(self._note_progress)
                self._begin_teardown(hard_kill)
                await self._wait_all_gone(shield=True)
                tn.cancel_scope.cancel()

    def _raise_collected(self, body_exc: BaseException | None) -> None:
        """Raise what was collected: nothing, one error bare, or a group with one entry for each actor."""
        errors = dict(self._errors)
        if body_exc is not None and is_multi_cancelled(body_exc):
            if not errors:
                raise body_exc
        elif body_exc is not None and not _is_among(body_exc, list(errors.values())):
            errors = {self._actor.aid.uid: body_exc, **errors}
        self._cancelled_caught = self._cancel_called and not errors
        if len(errors) == 1:
            raise next(iter(errors.values()))
        if errors:
            names = ", ".join(name for name, _ in errors)
            raise BaseExceptionGroup(f"errors of several actors: {names}", list(errors.values()))


PROGRESS_INTERVAL = 0.5
"""Seconds between the notes that an actor sends while it works down its subactors."""


def _is_among(exc: BaseException, known: list[BaseException]) -> bool:
    """Whether ``exc`` is one of the known errors, or a group of nothing else (cancellations apart)."""
    if isinstance(exc, BaseExceptionGroup):
        return all(isinstance(e, trio.Cancelled) or _is_among(e, known) for e in exc.exceptions)
    return any(exc is one for one in known)


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
        if not isinstance(name, str):
            raise TypeError(
                f"`enable_modules` holds {name!r}; it must be a list of module names (str)"
            )
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
        BaseException: the body's error or the one failed child's, bare; a ``BaseExceptionGroup`` of several.
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
            outcome = get_collapsed_eg(group) or group
        elif not is_multi_cancelled(group):
            log.error("the nursery's own tasks failed: %r", group)
    finally:
        end_sentinel(actor)
    if outcome is not None:
        raise outcome
