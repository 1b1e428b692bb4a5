"""In a service's process: what `call` names in the file is looked up there, anew in each incarnation, and run."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import msgspec

from tractor.runtime.dialog._context import Context
from tractor.runtime.dialog._endpoints import Endpoint, Kind, context, describe


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
    await ctx.started()
    return await endpoint.fn(**values)
