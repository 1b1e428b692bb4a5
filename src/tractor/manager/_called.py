"""In a service's process: what `call` names in the file is looked up there, anew in each incarnation, and run."""

from __future__ import annotations

import importlib
import inspect
from typing import Any, Final

import msgspec

from tractor.runtime._portal import Portal
from tractor.runtime.dialog._context import Context
from tractor.runtime.dialog._endpoints import Endpoint, Kind, context, describe
from tractor.services._work import Ready

TASK: Final = "tractor.manager: a task has begun"
"""What an incarnation gives ``started()`` for an async function, which gives nothing itself."""


def find_call(call: str) -> Endpoint:
    """The function that a service runs.

    Args:
        call: ``module:function``.

    Raises:
        AttributeError: the module has no such function.
        TypeError: that is neither an async function nor a ``@context`` endpoint.
        BaseException: whatever the module raises when it is imported.
    """
    module, _, path = call.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    endpoint = describe(found, call)
    if endpoint is None or endpoint.kind not in (Kind.CALL, Kind.CONTEXT):
        raise TypeError(
            f"call = {call!r} can't be a service: it must be an async function, or decorated with `@tractor.context`,"
            f" and is {found!r}"
        )
    return endpoint


def arguments_of(endpoint: Endpoint, args: dict[str, Any]) -> dict[str, Any]:
    """What it is called with, as its annotations ask for it.

    Raises:
        MsgTypeError: an argument is not what its parameter is annotated with.
        TypeError: there is no such parameter, or one without an argument.
    """
    values = endpoint.arguments(msgspec.Raw(msgspec.msgpack.encode(args)), 0)
    given = dict(values)
    if endpoint.param is not None:
        given[endpoint.param] = None
    try:
        inspect.signature(endpoint.fn).bind(**given)
    except TypeError as exc:
        raise TypeError(f"args of {endpoint.name}: {exc}") from None
    return values


class Calling:
    """What each incarnation of a service does that has a ``call``; see :class:`tractor.services._work.Work`.

    Args:
        call: ``module:function``.
        args: its keyword arguments.
        ends_first: what comes after it is to wait for its end, if it turns out to be a task: it is never ready.
    """

    modules: tuple[str, ...] = (__name__,)
    returns = True
    serves_by_ending = False

    def __init__(self, call: str, args: dict[str, Any], ends_first: bool) -> None:
        self._call = call
        # The same for each incarnation.
        self._args = msgspec.Raw(msgspec.msgpack.encode(args))
        self._ends_first = ends_first

    async def serve(self, portal: Portal, child: object, ready: Ready) -> Any:
        """A dialog is ready with its ``started()``, a task once it has begun."""
        endpoint: Any = run_call
        async with portal.open_context(endpoint, call=self._call, args=self._args) as (ctx, first):
            if first != TASK:
                ready(first, ctx.cid)
            elif not self._ends_first:
                ready(None, ctx.cid)
            # A dialog is ready before it can end.
            self.serves_by_ending = first == TASK and self._ends_first
            return await ctx.wait_for_result()


@context
async def run_call(ctx: Context, call: str, args: dict[str, Any]) -> Any:
    """The endpoint that a service of a file runs.

    A task is ready once it has begun, a dialog by its own ``started()``.

    Args:
        call: ``module:function``, of the file.
        args: its keyword arguments.
    """
    endpoint = find_call(call)
    values = arguments_of(endpoint, args)
    if endpoint.param is not None:
        return await endpoint.fn(**{endpoint.param: ctx, **values})
    await ctx.started(TASK)
    return await endpoint.fn(**values)
