"""What an incarnation of a service does: serve, run a function, or run an endpoint."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from msgspec import Raw

from tractor._util._caller import Caller
from tractor.msg._codec import codec_in_force
from tractor.msg._payload import unencodable_error
from tractor.runtime._portal import Portal
from tractor.runtime.dialog._endpoints import Endpoint, Kind, kind_of
from tractor.runtime.dialog._targets import Target, plain_function, target_of
from tractor.supervise._child import Child
from tractor.supervise._main_call import MainCall
from tractor.trionics._ki import ki_protected

Ready: TypeAlias = Callable[[Any, int | None], None]
"""Called once, with what the incarnation gave when it was ready, and the id of the dialog that it is."""


@runtime_checkable
class Work(Protocol):
    """What each incarnation does.

    Attributes:
        modules: those that its actor must have enabled.
        returns: whether it has an end of its own; else its process does.
        serves_by_ending: it is never ready: what comes after it waits for its end.
    """

    modules: tuple[str, ...]
    returns: bool
    serves_by_ending: bool

    async def serve(self, portal: Portal, child: Child, ready: Ready) -> Any:
        """Have the actor at ``portal`` do it; returns, or raises, what comes of it."""


@ki_protected
class Serving:
    """A daemon: it serves its modules until its process ends."""

    modules: tuple[str, ...] = ()
    returns = False
    serves_by_ending = False

    async def serve(self, portal: Portal, child: Child, ready: Ready) -> Any:
        """It is ready as it is."""
        ready(None, None)
        await child.exited.wait()


@ki_protected
class Running:
    """A task: an async function in an actor of its own."""

    returns = True
    serves_by_ending = False

    def __init__(self, target: Target, kwargs: Mapping[str, Raw], caller: Caller | None) -> None:
        self.modules: tuple[str, ...] = (target.ns,)
        self._target = target
        self._kwargs = dict(kwargs)
        self._caller = caller

    async def serve(self, portal: Portal, child: Child, ready: Ready) -> Any:
        """It is ready once it has begun."""
        main = MainCall(self._target, dict(self._kwargs), self._caller)
        run = main.begin(portal)
        await portal.chan.transport.flush()
        ready(None, run.cid)
        await main.settle(run)
        return main.result()


@ki_protected
class Talking:
    """A dialog: a ``@context`` endpoint."""

    returns = True
    serves_by_ending = False

    def __init__(self, fn: Any, target: Target, kwargs: Mapping[str, Raw]) -> None:
        self.modules: tuple[str, ...] = (target.ns,)
        self._fn = functools.partial(fn, **kwargs)

    async def serve(self, portal: Portal, child: Child, ready: Ready) -> Any:
        """It is ready with ``started()``."""
        async with portal.open_context(self._fn) as (ctx, first):
            ready(first, ctx.cid)
            return await ctx.wait_for_result()


def work_of(fn: Any, kwargs: dict[str, Any], caller: Caller | None) -> Work:
    """What each incarnation of a service does.

    Args:
        fn: an async function, a ``@context`` endpoint, a partial of one with keywords, or ``None``; or such work that
            was made elsewhere.
        kwargs: its keywords, which are encoded now: every incarnation gets the same.
        caller: the code that starts the service.

    Raises:
        TypeError: it is none of these, or a peer could not find it by its name; the keywords don't fit it.
        MsgTypeError: one of them can't be sent.
    """
    if fn is None:
        if kwargs:
            raise TypeError(f"a service without a function takes no arguments: {sorted(kwargs)}")
        return Serving()
    if isinstance(fn, Work) and not kwargs:
        return fn
    plain, merged = plain_function(fn)
    kind = kind_of(plain)
    if kind not in (Kind.CALL, Kind.CONTEXT):
        raise TypeError(
            f"{fn!r} can't be a service: it must be an async function, or decorated with `@tractor.context`"
        )
    target = target_of(plain, kind)
    named = target.arguments((), {**merged, **kwargs})
    encoded = _encoded(named, target.endpoint)
    if kind is Kind.CALL:
        return Running(target, encoded, caller)
    return Talking(plain, target, encoded)


def _encoded(kwargs: dict[str, Any], endpoint: Endpoint) -> dict[str, Raw]:
    """Each argument as the bytes that it is on the wire."""
    codec = codec_in_force()
    try:
        return {name: Raw(codec.enc.encode(value)) for name, value in kwargs.items()}
    except TypeError as exc:
        plain = endpoint.conversions.pack_plainly(kwargs, codec)
        if plain is None:
            raise unencodable_error(kwargs, "Start", exc) from exc
        return {name: Raw(codec.enc.encode(value)) for name, value in plain.items()}
