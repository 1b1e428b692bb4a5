"""Handles for calling into one other actor."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

import msgspec
import trio

from tractor import log as _log
from tractor._errors import ActorTooSlowError, NoResult, RuntimeFailure, TransportClosed
from tractor._util._caller import find_caller
from tractor._util._names import plain_text
from tractor.ipc._chan import Channel
from tractor.ipc._server import Server
from tractor.msg.types import Uid
from tractor.runtime._records import ChildRecord
from tractor.runtime.dialog._caller import (
    OneWayReceiver,
    call,
    request,
)
from tractor.runtime.dialog._context import Context, MsgStream, OpenContext
from tractor.runtime.dialog._endpoints import Kind
from tractor.runtime.dialog._host import Host
from tractor.runtime.dialog._targets import plain_function, refuse_swallowed, target_of
from tractor.runtime.seen._lives import tell_cancel, uuid_at
from tractor.trionics._ki import ki_protected, ki_protected_manager

log = _log.get_logger()

P = ParamSpec("P")
ValueT = TypeVar("ValueT")
# Without defaults, unlike those of `Context`: with them mypy takes the overloads for ambiguous.
_FirstT = TypeVar("_FirstT")
_SendT = TypeVar("_SendT")
_RecvT = TypeVar("_RecvT")
_ResultT = TypeVar("_ResultT")
_GivenT = TypeVar("_GivenT", covariant=True)


class _ContextFunction(Protocol[_FirstT, _SendT, _RecvT, P, _GivenT]):
    """An endpoint whose first parameter is ``ctx``; mypy matches one with ``**kwargs`` in this way only."""

    def __call__(
        self, ctx: Context[_FirstT, _SendT, _RecvT, Any], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, _GivenT]: ...


class PortalHost(Host, Protocol):
    """What a portal needs of the actor that has it."""

    children: dict[Uid, ChildRecord]

    @property
    def ipc_server(self) -> Server:
        """The server that knows its peers."""


class PortalStatistics(msgspec.Struct, frozen=True):
    """Counters of a portal's channel."""

    connected: bool
    dialogs: int
    sent: int
    received: int


@ki_protected
class Portal:
    """A handle for calling into one other actor over one channel.

    Not built by users: ``ActorNursery.start_actor()``, ``find_actor()`` and others give them.
    """

    cancel_timeout: float = 0.5
    """Seconds that ``cancel_actor()`` waits for the acknowledgment unless told otherwise."""

    def __init__(self, chan: Channel, actor: PortalHost) -> None:
        self.chan = chan
        self._actor = actor
        # Gives the result of a one-shot; `None`: the peer is a daemon.
        self.wait_main: Callable[[], Awaitable[Any]] | None = None

    @property
    def channel(self) -> Channel:
        """The outdated name of :attr:`chan`."""
        warnings.warn("`Portal.channel` is outdated; use `chan`", DeprecationWarning, stacklevel=2)
        return self.chan

    @property
    def actor(self) -> PortalHost:
        """The actor of this process."""
        return self._actor

    # -- calls ----------------------------------------------------------------------------------------

    @overload
    async def run(
        self, fn: Callable[P, Coroutine[Any, Any, ValueT]], /, *args: P.args, **kwargs: P.kwargs
    ) -> ValueT: ...
    @overload
    async def run(self, fn: str, name: str = "", /, **kwargs: Any) -> Any: ...
    async def run(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run an async function in the peer and return its value.

        Arguments, and the value, arrive as what the function is annotated with: sets, dataclasses, enums and others
        as such.  What is not annotated, or with a type that msgspec does not know, arrives as plain data.

        Args:
            fn: an async function of a module that the peer has enabled, or a ``functools.partial`` of one, whose
                keywords are merged in.
            args, kwargs: its arguments, by position or keyword; they travel by keyword.

        Raises:
            TypeError: ``fn`` is not an async function, or is a streaming one, or is not what its module and name
                lead to; the arguments do not fit it.  Nothing was sent.
            RemoteActorError: it raised, or could not be found or called.
            ContextCancelled: somebody else cancelled the remote task.
            TransportClosed: the peer is gone; whether the function ran is unknown.
            MsgTypeError: an argument can't be sent, or an argument or the value is not what its annotation says.
            MessagingError: the arguments are larger than a frame may be.
        """
        if isinstance(fn, str):
            return await self._run_by_name(fn, *args, **kwargs)
        if isinstance(fn, functools.partial):
            fn, merged = plain_function(fn)
            kwargs = {**merged, **kwargs}
        target = target_of(fn, Kind.CALL)
        kwargs = target.arguments(args, kwargs)
        return await call(self.chan, self._actor, target.ns, target.name, kwargs, target.endpoint)

    async def _run_by_name(self, ns: str, name: str = "", /, **kwargs: Any) -> Any:
        warnings.warn(
            "`Portal.run('mod.path', 'fn_name')` is outdated; pass the function, or use `run_from_ns()`",
            DeprecationWarning,
            stacklevel=3,
        )
        ns, name = plain_text(ns, _NAMED), plain_text(name, _NAMED)
        return await call(self.chan, self._actor, ns, name, kwargs)

    async def run_from_ns(self, namespace_path: str, function_name: str, **kwargs: Any) -> Any:
        """Run the function that is found by module and name in the peer, and return its value.

        Args:
            namespace_path: module name; ``'self'`` for a runtime request.
            function_name: name in that module.
            kwargs: its arguments.

        Raises:
            TypeError: a name is not text.
            RemoteActorError: it raised, or could not be found or called.
            TransportClosed: the peer is gone; whether the function ran is unknown.
        """
        ns, name = plain_text(namespace_path, _NAMED), plain_text(function_name, _NAMED)
        return await call(self.chan, self._actor, ns, name, kwargs)

    @overload
    def open_stream_from(
        self, agen_fn: Callable[P, AsyncIterator[ValueT]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AbstractAsyncContextManager[MsgStream[Any, ValueT]]: ...
    @overload
    def open_stream_from(
        self,
        agen_fn: Callable[Concatenate[Any, P], Coroutine[Any, Any, Any]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> AbstractAsyncContextManager[MsgStream]: ...
    @ki_protected_manager
    async def open_stream_from(
        self, agen_fn: Any, /, *args: Any, **kwargs: Any
    ) -> AsyncIterator[MsgStream]:
        """Open a one-way stream from an async generator function (or ``@stream`` function) of the peer.

        The peer's generator waits while this side is behind.  Leaving the block cancels it and waits, at most
        0.616 s, for its end.

        Args:
            agen_fn: the function, or a ``functools.partial`` of it with keywords.
            args, kwargs: its arguments, by position or keyword, without the parameter that it sends with.

        Raises:
            TypeError: ``agen_fn`` is of another kind, or is not what its module and name lead to; the arguments do
                not fit it.
            RemoteActorError: it could not be found or called, or it raised (from ``receive()``).
            TransportClosed: the peer is gone.
        """
        plain, merged = plain_function(agen_fn)
        target = target_of(plain, Kind.ASYNCGEN)
        kwargs = target.arguments(args, {**merged, **kwargs})
        receiver = OneWayReceiver(self.chan, self._actor, target.endpoint.name, find_caller(1))
        await receiver.begin(target.ns, target.name, kwargs, target.endpoint)
        port = receiver.port

        stream: MsgStream[Any, Any] = MsgStream(port, receiver.bad_yield, port.close)
        try:
            await receiver.acked.wait()
            if not port.buffer and port.error is not None:
                raise port.error
            # The end of the stream that nobody caught is the normal end of the block.
            with contextlib.suppress(trio.EndOfChannel):
                yield stream
        finally:
            port.close()
            try:
                await receiver.stop()
            finally:
                self.chan.note_closed()
                receiver.tell_end()

    @overload
    def open_context(
        self,
        fn: Callable[
            Concatenate[Context[_FirstT, _SendT, _RecvT, Any], ...], Coroutine[Any, Any, _ResultT]
        ],
        /,
        *args: Any,
        allow_overruns: bool | None,
        **kwargs: Any,
    ) -> OpenContext[_FirstT, _RecvT, _SendT, _ResultT]: ...
    @overload
    def open_context(
        self,
        fn: Callable[
            Concatenate[Context[_FirstT, _SendT, _RecvT, Any], ...], Coroutine[Any, Any, _ResultT]
        ],
        /,
        *args: Any,
        hide_tb: bool,
        **kwargs: Any,
    ) -> OpenContext[_FirstT, _RecvT, _SendT, _ResultT]: ...
    @overload
    def open_context(
        self,
        fn: Callable[
            Concatenate[Context[_FirstT, _SendT, _RecvT, Any], P], Coroutine[Any, Any, _ResultT]
        ],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> OpenContext[_FirstT, _RecvT, _SendT, _ResultT]: ...
    @overload
    def open_context(
        self,
        fn: _ContextFunction[_FirstT, _SendT, _RecvT, P, _ResultT],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> OpenContext[_FirstT, _RecvT, _SendT, _ResultT]: ...
    def open_context(  # type: ignore[misc]
        self,
        fn: Any,
        /,
        *args: Any,
        allow_overruns: bool | None = None,
        hide_tb: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Open a context: run an endpoint in the peer as the other half of this block.

        As an ``async with`` block it yields ``(ctx, first)`` once the endpoint has called ``started(first)``, and it
        is not left before the endpoint's task has ended (or was given up, 0.616 s after the block itself was
        cancelled or failed).

        Args:
            fn: a function decorated with ``@tractor.context``, or a ``functools.partial`` of one, whose keywords
                are merged in.
            args, kwargs: the endpoint's arguments, by position or keyword, without its context parameter.
            allow_overruns: given, the strict mode of streams; see :meth:`Context.open_stream`.
            hide_tb: accepted for compatibility of callers that want to see runtime frames.

        Raises:
            TypeError: ``fn`` is not decorated, a partial of one with arguments by position, or not what its module
                and name lead to; the arguments do not fit it, or one is called as a keyword of this method's own.
            RuntimeError: the peer is this very actor ("Invalid Operation").
            RemoteActorError: the endpoint could not be found or called, or raised.
            ContextCancelled: the endpoint's task was cancelled by somebody else than this side.
            MsgTypeError: the first value, or the result, is not of the payload spec; an argument, or the result
                of an endpoint without a payload spec, is not what its annotation says.
            TransportClosed: the peer is gone.
        """
        plain, merged = plain_function(fn)
        target = target_of(plain, Kind.CONTEXT)
        kwargs = {**merged, **kwargs}
        own = {"allow_overruns": allow_overruns is not None, "hide_tb": hide_tb is not True}
        refuse_swallowed(target, own, args, kwargs, "open_context()")
        kwargs = target.arguments(args, kwargs)
        return OpenContext(self._actor, self.chan, target, kwargs, allow_overruns, self)

    # -- the peer's end -------------------------------------------------------------------------------

    async def wait_for_result(self, hide_tb: bool = True) -> Any:
        """The result of a one-shot actor, which is cached.

        Returns:
            Its function's value; on a daemon's portal, which has none, ``NoResult`` (and a warning is logged).

        Raises:
            RemoteActorError: the function raised.
            ContextCancelled: it was cancelled.
            TransportClosed: the actor is gone.
        """
        if self.wait_main is None:
            log.warning("%s is a daemon: its portal has no main result", self.chan.peer)
            await trio.lowlevel.checkpoint()
            return NoResult
        return await self.wait_main()

    async def result(self, hide_tb: bool = True) -> Any:
        """The outdated name of :meth:`wait_for_result`."""
        warnings.warn(
            "`Portal.result()` is outdated; use `wait_for_result()`",
            DeprecationWarning,
            stacklevel=2,
        )
        return await self.wait_for_result(hide_tb)

    async def cancel_actor(
        self, timeout: float | None = None, raise_on_timeout: bool = False
    ) -> bool:
        """Cancel the peer's whole runtime, and its subtree.  Shielded.

        It returns at the acknowledgment, not at the end; see :meth:`wait_closed`.  A subactor of this actor is then
        taken down like one of a cancelled nursery: neither a computation nor what it leaves behind, a thread or a
        forked process, keeps it.  It is asked by SIGTERM where it did not acknowledge in time (0.5 s), or has not
        ended 1.6 s after it did, and killed 0.5 s later.

        Args:
            timeout: seconds to wait for the acknowledgment; ``None``: :attr:`cancel_timeout`.
            raise_on_timeout: raise instead of returning ``False`` when none comes in time.

        Returns:
            ``True`` when the peer acknowledged; ``False`` when it was disconnected already, or did not in time.

        Raises:
            ActorTooSlowError: no acknowledgment in time, with ``raise_on_timeout``.
        """
        child = self._actor.children.get(self.chan.aid.uid) if self.chan.aid else None
        if child is not None:
            child.note_cancel_request()
        bound = self.cancel_timeout if timeout is None else timeout
        self.chan.cancel_called = True
        acked = await self._request_cancel(bound)
        if child is not None:
            child.on_portal_cancel(bool(acked), bound if acked is None else 0.0)
        if acked is not None:
            return acked
        text = f"{self.chan.peer} did not acknowledge its cancellation within {bound} s"
        log.warning("%s", text)
        if raise_on_timeout:
            raise ActorTooSlowError(text)
        return False

    async def _request_cancel(self, bound: float) -> bool | None:
        """Ask, and wait for the acknowledgment; ``False``: disconnected, ``None``: none came in time."""
        try:
            if not self.chan.connected():
                raise TransportClosed("disconnected already")
            tell_cancel("actor", uuid_at(self.chan), self.chan.local_uid)
            pending = request(self.chan, "cancel")
        except TransportClosed:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return False
        with trio.CancelScope(shield=True, deadline=trio.current_time() + bound):
            reply = await pending.wait()
            return not isinstance(reply, BaseException)
        self.chan.forget(pending.cid)
        return None

    async def wait_closed(self) -> None:
        """Wait until the peer has ended.

        Of a subactor of this very actor that is the end of its process: it is reaped, and what it left behind is
        cleaned up.  Of any other it is the end of the channel.  Nothing is asked of the peer: see
        :meth:`cancel_actor`.

        Raises:
            RuntimeError: it is a one-shot, inside its nursery's block, and nobody has called ``cancel_actor()``: it
                lives until that block is left.
        """
        child = self._actor.children.get(self.chan.aid.uid) if self.chan.aid else None
        if child is not None:
            await child.wait_gone()
        else:
            await self._actor.ipc_server.wait_for_departure(self.chan)

    async def aclose(self) -> None:
        """Nothing to free: a portal's channel lives as long as what gave the portal."""
        await trio.lowlevel.checkpoint()

    def statistics(self) -> PortalStatistics:
        """A frozen record of plain values."""
        s = self.chan.statistics()
        return PortalStatistics(self.chan.connected(), s.dialogs, s.sent, s.received)

    def pformat(self) -> str:
        """One line for people."""
        return f"<Portal to {self.chan.peer}>"

    __repr__ = pformat


_NAMED = "a function is found by the names of module and function"


@ki_protected
class LocalPortal:
    """What a registrar uses to make registry requests to itself, as a :class:`Portal` would to another.

    Args:
        actor: the own actor.
        channel: where the peer would be; unused.
    """

    def __init__(self, actor: Any, channel: Channel | None = None) -> None:
        self.actor = actor
        self._chan = channel

    @property
    def chan(self) -> Channel | None:
        """The channel that it was made with; an actor has none to itself."""
        return self._chan

    @property
    def channel(self) -> Channel | None:
        """The same as :attr:`chan`."""
        return self._chan

    async def run_from_ns(self, namespace_path: str, function_name: str, **kwargs: Any) -> Any:
        """Run a method of the own actor.

        Raises:
            ValueError: ``namespace_path`` is not ``'self'``.
            AttributeError: no such request.
            RuntimeFailure: the actor is not a registrar, or no longer.
        """
        if namespace_path != "self":
            raise ValueError(
                f"a local portal reaches the namespace 'self' alone, not {namespace_path!r}"
            )
        # One that is a registrar by `tractor.registrar()` has these requests apart, as long as it is one.
        target = self.actor if hasattr(self.actor, function_name) else self.actor.registry
        if target is None:
            raise RuntimeFailure(f"{self.actor.aid.reprol()} is not a registrar")
        return await getattr(target, function_name)(**kwargs)

    def pformat(self) -> str:
        """One line for people."""
        return f"<LocalPortal to {self.actor.aid.reprol()}>"

    __repr__ = pformat
