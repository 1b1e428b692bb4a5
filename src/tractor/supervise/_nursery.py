"""The nursery whose tasks are processes."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
import trio

from tractor import log as _log
from tractor.address._types import Addr
from tractor.hosts._place import HostLike
from tractor.msg.types import Uid
from tractor.runtime._actor import Actor
from tractor.runtime._life import Lifespan
from tractor.runtime._portal import Portal
from tractor.runtime.seen._lives import tell_cancel
from tractor.supervise._arguments import StartOptions
from tractor.supervise._child import ChildInfo
from tractor.supervise._children import Children
from tractor.supervise._leftovers import end_sentinel
from tractor.supervise._one_shot import OneShots
from tractor.supervise._outcome import Collected, note_losses
from tractor.supervise._respawn import respawn
from tractor.trionics._groups import is_multi_cancelled, raise_as_it_was, the_one_error
from tractor.trionics._ki import ki_protected, ki_protected_manager

log = _log.get_logger()

FORGOTTEN_AFTER = 5.0
"""Seconds that a block waits for nothing but daemons before it says so."""


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

    # -- what it is -----------------------------------------------------------------------------------

    @property
    def cancel_called(self) -> bool:
        """Whether its actors are being cancelled, or were: by :meth:`cancel`, an error, or from outside."""
        # The scope knows of a cancellation from outside before any task has been told.
        status = self._children.tn.cancel_scope._cancel_status
        outside = status is not None and status.effectively_cancelled
        return self._children.cancel_called or self._children.taking_down or outside

    @property
    def cancelled_caught(self) -> bool:
        """Whether the block ended through this nursery's own cancellation, which absorbed every child's end."""
        return self._children.cancelled_caught

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
        return {uid: child.info() for uid, child in self._children.living.items()}

    def statistics(self) -> NurseryStatistics:
        """A frozen record of plain values."""
        own, states = self._children, Counter(c.state for c in self._children.living.values())
        return NurseryStatistics(dict(states), own.spawned, own.reaped, own.escalations)

    def pformat(self) -> str:
        """One line for people."""
        own = self._children
        state = "closed" if own.closed else "cancelling" if self.cancel_called else "open"
        return f"<ActorNursery {state}: {len(own.living)} children>"

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
        lifespan: Lifespan | str | None = None,
        logconfig: Mapping[str, Any] | None = None,
        drain: float = 0.0,
        host: HostLike | None = None,
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
            lifespan: a function without arguments that makes an async context manager, or its ``'module:name'``: around
                the actor's life.  Entered before it serves; left on every way out, when all that it served and its
                background tasks have ended.  What it yields is :func:`tractor.actor_state` there; what it raises is
                the actor's failure.
            logconfig: for ``logging.config.dictConfig()`` there, before any module of the program is imported.  The
                runtime's own loggers stay enabled.
            drain: seconds that it leaves to running requests when it gets a SIGTERM, alone; see :meth:`Actor.drain`.
                A second one ends it at once.
            host: another host, by a URL (``"ssh://bob@gpu1"``), a name of the hosts table, or a handle of
                :func:`tractor.hosts.open_host`; see :mod:`tractor.hosts`.  ``None``: here.

        Returns:
            A portal, once the child is connected and configured.

        Raises:
            ActorFailure: it died first; tells the exit status and the tail of its stderr.
            ModuleNotFoundError: an enabled module does not exist.
            RemoteActorError: an enabled module can't be imported there; its lifespan has failed, or ``logconfig`` is
                none.
            RuntimeFailure: this nursery was closed or cancelled; ``__main__`` is enabled, but is in no file that
                another process could load; a frozen program has not called :func:`tractor.freeze_support`; no thread
                can be started for the start, or the process that was to make it has ended.
            HostUnavailable: the other host can't be reached, or can't run it, within its ``start_timeout``.
            HostLost: that host was lost before it was ready.
            OSError: the process could not be started.
            TypeError, ValueError: an argument that can't be used.
        """
        options = StartOptions.checked(
            name,
            bind_addrs=bind_addrs,
            enable_transports=enable_transports,
            enable_modules=enable_modules,
            loglevel=loglevel,
            debug_mode=debug_mode,
            infect_asyncio=infect_asyncio,
            inherit_parent_main=inherit_parent_main,
            proc_kwargs=proc_kwargs,
            lifespan=lifespan,
            logconfig=logconfig,
            drain=drain,
            host=host,
            rpc_module_paths=rpc_module_paths,
        )
        _, portal = await self._children.start(options, nursery)
        return portal

    async def cancel(self, hard_kill: bool = False) -> None:
        """Cancel every actor of this nursery and wait until all are gone.  Shielded.

        Args:
            hard_kill: start at the signals instead of asking first.
        """
        self._children.cancel_called = True
        own = self._children.actor.aid
        tell_cancel("nursery", own.uuid, own.uid)
        await self._children.tear_all_down(hard_kill)


async def _finish(own: Children, body_exc: BaseException | None) -> None:
    """The body has ended: wait for the children, or take them down; what is true afterwards: none lives."""
    own.actor.hooks.note_leaving(True)
    try:
        taking_down = own.taking_down
        own.block_over.set()
        if body_exc is None and not own.failing:
            try:
                await _wait_for_children(own)
            except BaseException as exc:
                body_exc = exc
        own.closed = True
        if body_exc is not None:
            note_losses(body_exc, own.living)
        if own.living or own.unsettled:
            await own.tear_all_down()
        _raise_outcome(own, body_exc, taking_down)
    finally:
        own.actor.hooks.note_leaving(False)


async def _wait_for_children(own: Children) -> None:
    """Wait until none lives; says so once if nothing but daemons is waited for, which may well be for ever."""
    told = False
    while not told:
        with trio.move_on_after(FORGOTTEN_AFTER):
            await own.wait_all_gone(shield=False)
            return
        told = _tell_of_daemons(own)
    await own.wait_all_gone(shield=False)


def _tell_of_daemons(own: Children) -> bool:
    """Whether that was to be told: no child has a function that ends, or is on its way down, and nobody debugs."""
    living = [*own.living.values()]
    if not living or own.actor.hooks.repl_busy():
        return False
    if any(child.main or child.keeper or child.ladder is not None for child in living):
        return False
    names = ", ".join(repr(child.aid.name) for child in living[:5]) + ", ..." * (len(living) > 5)
    what = "daemon" if len(living) == 1 else f"{len(living)} daemons"
    log.error(
        "a nursery's block is over, and has waited %g s for %s %s: a daemon serves until it is cancelled. "
        "Was `await portal.cancel_actor()` forgotten, or `await an.cancel()` at the end of the block?",
        FORGOTTEN_AFTER,
        what,
        names,
    )
    return True


def _raise_outcome(own: Children, body_exc: BaseException | None, taking_down: bool) -> None:
    found = Collected(own.actor.aid.uid, own.errors, own.gone, taking_down)
    errors, goes_on = found.resolve(body_exc)
    own.cancelled_caught = own.cancel_called and not errors
    if goes_on:
        assert body_exc is not None
        raise_as_it_was(body_exc)
    if len(errors) == 1:
        raise_as_it_was(errors[0])
    if errors:
        names = ", ".join(name for name, _ in {own.actor.aid.uid: None, **own.errors})
        raise BaseExceptionGroup(f"errors of several actors: {names}", errors)


@ki_protected_manager
async def open_actor_nursery(actor: Actor) -> AsyncIterator[ActorNursery]:
    """A nursery for subactors of ``actor``, for the length of the block.  Raises as :func:`open_children`."""
    async with open_children(actor) as children:
        yield ActorNursery(children)


@ki_protected_manager
async def open_children(actor: Actor) -> AsyncIterator[Children]:
    """Subactors of ``actor``, for the length of the block; none outlives it.

    Raises:
        BaseException: the body's error or the one failed child's, bare; a ``BaseExceptionGroup`` of several.  Which
            are told, and which only tell of others, is the table of :mod:`tractor._proto.children.outcome`.
    """
    outcome: BaseException | None = None
    try:
        async with trio.open_nursery() as tn:
            children = Children(actor, tn, respawn)
            body_exc: BaseException | None = None
            try:
                with children.block_scope:
                    yield children
            except BaseException as exc:
                body_exc = exc
            actor.end_if_copy(body_exc)
            try:
                await _finish(children, body_exc)
            except BaseException as exc:
                outcome = exc
                if isinstance(exc, KeyboardInterrupt):
                    # It may have hit the wait itself; the children go down all the same.
                    await children.tear_all_down()
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
