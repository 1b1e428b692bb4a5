"""One-shots: subactors that run one function."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeAlias, overload

from tractor._util._caller import Caller, calling_code
from tractor.address._types import Address, UnwrappedAddress
from tractor.runtime._portal import Portal
from tractor.runtime.dialog._endpoints import Kind
from tractor.runtime.dialog._targets import Target, plain_function, refuse_swallowed, target_of
from tractor.trionics._ki import ki_protected

P = ParamSpec("P")

Addr: TypeAlias = UnwrappedAddress | Address | str

_Fn: TypeAlias = Callable[..., Awaitable[Any]]


@ki_protected
class OneShots:
    """The part of a nursery that checks what a one-shot is to run."""

    async def start_actor(self, name: str, **options: Any) -> Portal:
        """The nursery's own."""
        raise NotImplementedError

    async def _run_main(
        self, portal: Portal, target: Target, kwargs: dict[str, Any], caller: Caller | None
    ) -> None:
        raise NotImplementedError

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
        caller = calling_code()
        portal = await self.start_actor(
            name or plain.__name__,
            bind_addrs=bind_addrs,
            enable_modules=[*(enable_modules or ()), target.ns],
            loglevel=loglevel,
            infect_asyncio=infect_asyncio,
            inherit_parent_main=inherit_parent_main,
            proc_kwargs=proc_kwargs,
            rpc_module_paths=rpc_module_paths,
        )
        await self._run_main(portal, target, kwargs, caller)
        return portal
