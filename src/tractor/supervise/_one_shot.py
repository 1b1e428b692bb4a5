"""One-shots: subactors that run one function."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeAlias, overload

import trio

from tractor._errors import ContextCancelled, TransportClosed
from tractor._util._caller import calling_code
from tractor.address._types import Addr
from tractor.runtime._portal import Portal
from tractor.runtime.dialog._caller import PendingCall
from tractor.runtime.dialog._endpoints import Kind
from tractor.runtime.dialog._targets import plain_function, refuse_swallowed, target_of
from tractor.supervise._arguments import StartOptions, module_names
from tractor.supervise._child import Child
from tractor.supervise._children import Children
from tractor.supervise._main_call import MainCall
from tractor.trionics._ki import ki_protected

P = ParamSpec("P")

_Fn: TypeAlias = Callable[..., Awaitable[Any]]


async def run_main(children: Children, child: Child, portal: Portal, main: MainCall) -> None:
    """Have a fresh subactor run the one function that it was started for.

    Raises:
        MsgTypeError and others: it could not be sent; the subactor is gone.
    """
    child.main = main
    try:
        run = main.begin(portal)
        # The caller may go on to compute without ever yielding: the child must not wait for that.
        await portal.chan.transport.flush()
    except BaseException:
        # Without its one function it would be a daemon that nobody knows of.
        await children.take_down(child, hard_kill=False)
        raise
    start_awaiting(children, child, main, run)


def start_awaiting(children: Children, child: Child, main: MainCall, run: PendingCall) -> None:
    """Have the nursery wait for a one-shot's outcome, too."""
    children.unsettled += 1
    children.tn.start_soon(_await_main, children, child, main, run)


@trio.lowlevel.enable_ki_protection
async def _await_main(children: Children, child: Child, main: MainCall, run: PendingCall) -> None:
    """A one-shot's result: keep it, note its error; after both it and the block have ended have the actor go."""
    with trio.CancelScope(shield=True):
        try:
            is_current = await main.settle(run)
            if is_current:
                await _note_main(children, child, main)
        finally:
            children.unsettled -= 1
            children.changed.unpark_all()
        if not is_current:
            # A fresh process runs the function now.
            return
        await children.block_over.wait()
        if not child.exited.is_set():
            await child.take_down(hard_kill=False)


async def _note_main(children: Children, child: Child, main: MainCall) -> None:
    try:
        main.result()
    except TransportClosed as exc:
        # How the process ended says more, and is this child's one entry.
        await child.exited.wait()
        if child.failed and child.uid not in children.errors:
            children.fail(child.uid, exc)
    except ContextCancelled as exc:
        # Not where that was asked for here, or by the child itself (a signal).
        if exc.canceller not in (children.actor.aid.uid, child.uid):
            children.fail(child.uid, exc)
    except BaseException as exc:
        children.fail(child.uid, exc)


@ki_protected
class OneShots:
    """The part of a nursery that starts one-shots."""

    def __init__(self, children: Children) -> None:
        self._children = children

    # Type checkers hold the arguments against the function, unless one of this method's own keywords is among them.
    @overload
    async def run_in_actor(
        self, fn: _Fn, /, *fn_args: Any, name: str | None, **others: Any
    ) -> Portal: ...
    @overload
    async def run_in_actor(
        self, fn: _Fn, /, *fn_args: Any, bind_addrs: Sequence[Addr] | None, **others: Any
    ) -> Portal: ...
    @overload
    async def run_in_actor(
        self, fn: _Fn, /, *fn_args: Any, enable_modules: Sequence[str] | None, **others: Any
    ) -> Portal: ...
    @overload
    async def run_in_actor(
        self, fn: _Fn, /, *fn_args: Any, loglevel: str | None, **others: Any
    ) -> Portal: ...
    @overload
    async def run_in_actor(
        self, fn: _Fn, /, *fn_args: Any, infect_asyncio: bool, **others: Any
    ) -> Portal: ...
    @overload
    async def run_in_actor(
        self, fn: _Fn, /, *fn_args: Any, inherit_parent_main: bool, **others: Any
    ) -> Portal: ...
    @overload
    async def run_in_actor(
        self, fn: _Fn, /, *fn_args: Any, proc_kwargs: Mapping[str, Any] | None, **others: Any
    ) -> Portal: ...
    @overload
    async def run_in_actor(
        self, fn: _Fn, /, *fn_args: Any, rpc_module_paths: Sequence[str] | None, **others: Any
    ) -> Portal: ...
    @overload
    async def run_in_actor(
        self, fn: Callable[P, Awaitable[Any]], /, *fn_args: P.args, **fn_kwargs: P.kwargs
    ) -> Portal: ...
    async def run_in_actor(  # type: ignore[misc]
        self,
        fn: _Fn,
        /,
        *fn_args: Any,
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
        """Start a one-shot: a subactor that runs ``fn(*fn_args, **fn_kwargs)`` as one task.

        It lives until the block's exit, also after its result; then it is cancelled.

        Args:
            fn: an async function, or a ``functools.partial`` of one with keywords; its module is enabled in the child.
            fn_args, fn_kwargs: the function's arguments; they and its value travel as of :meth:`Portal.run`.
            name: the actor's; default: ``fn``'s.
            bind_addrs, enable_modules, loglevel, infect_asyncio, inherit_parent_main, proc_kwargs: as for
                :meth:`start_actor`.  A function that has a parameter of one of these names gets it by position, or
                in a ``functools.partial``.

        Returns:
            A portal whose ``wait_for_result()`` gives the function's value.

        Raises:
            TypeError: ``fn`` is not an async function, or is not what its module and name lead to; the arguments do
                not fit it, or one is called as a keyword of this method's own.  Nothing was started.
            MsgTypeError: an argument can't be sent; nothing was started, or what was is gone.
            ActorFailure, RemoteActorError, RuntimeFailure, OSError: as :meth:`start_actor`.
        """
        plain, merged = plain_function(fn)
        if not inspect.iscoroutinefunction(plain):
            raise TypeError(f"{fn!r} must be an async function to be run in an actor of its own")
        target = target_of(plain, Kind.CALL)
        fn_kwargs = {**merged, **fn_kwargs}
        own = {
            "name": name is not None,
            "bind_addrs": bind_addrs is not None,
            "enable_modules": enable_modules is not None,
            "loglevel": loglevel is not None,
            "infect_asyncio": infect_asyncio is not False,
            "inherit_parent_main": inherit_parent_main is not True,
            "proc_kwargs": proc_kwargs is not None,
            "rpc_module_paths": rpc_module_paths is not None,
        }
        refuse_swallowed(target, own, fn_args, fn_kwargs, "run_in_actor()")
        kwargs = target.arguments(fn_args, fn_kwargs)
        main = MainCall(target, kwargs, calling_code())
        options = StartOptions.checked(
            name or plain.__name__,
            bind_addrs=bind_addrs,
            enable_modules=[*module_names(enable_modules or ()), target.ns],
            loglevel=loglevel,
            infect_asyncio=infect_asyncio,
            inherit_parent_main=inherit_parent_main,
            proc_kwargs=proc_kwargs,
            rpc_module_paths=rpc_module_paths,
        )
        child, portal = await self._children.start(options)
        await run_main(self._children, child, portal, main)
        return portal
