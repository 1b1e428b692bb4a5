"""Running an async test as the root of an actor tree."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Awaitable, Callable
from typing import Any, overload

import trio

from tractor._root import open_root_actor
from tractor.testing.hangs._timeouts import fail_after_w_trace

WIRED = ("reg_addr", "loglevel", "start_method", "debug_mode", "tpt_proto")
"""The fixtures that decide how a test's root actor is booted."""

_MARK = "__tractor_test__"

AsyncTest = Callable[..., Awaitable[None]]
SyncTest = Callable[..., None]


@overload
def tractor_test(wrapped: AsyncTest, *, timeout: float = ..., hide_tb: bool = ...) -> SyncTest: ...
@overload
def tractor_test(
    wrapped: None = None, *, timeout: float = ..., hide_tb: bool = ...
) -> Callable[[AsyncTest], SyncTest]: ...
def tractor_test(
    wrapped: AsyncTest | None = None, *, timeout: float = 30, hide_tb: bool = True
) -> SyncTest | Callable[[AsyncTest], SyncTest]:
    """Run an async test inside a root actor, with a limit on its time.

    The root is booted by the fixtures `reg_addr`, `loglevel`, `start_method`, `debug_mode` and
    `tpt_proto`: those that the test takes, and with the plugin the others, too.  A test that takes
    too long leaves a snapshot as `fail_after_w_trace` does.  In debug mode there is no limit.

    Args:
        wrapped: the test; without it, the decorator for one.
        timeout: seconds for the test and its root actor.
        hide_tb: leave this function out of pytest's tracebacks.

    Returns:
        A function that takes the fixtures of the test, for pytest, or for a call by hand.

    Raises:
        TypeError: the test is not an async function.
        trio.TooSlowError: from the test; it took longer than ``timeout``.
    """
    if wrapped is None:
        return functools.partial(tractor_test, timeout=timeout, hide_tb=hide_tb)
    if not inspect.iscoroutinefunction(wrapped):
        raise TypeError(
            f"@tractor_test is for async functions, and {getattr(wrapped, '__name__', wrapped)!r} "
            "is none; define it with `async def`"
        )
    test = wrapped
    signature = inspect.signature(test)
    takes_request = "request" in signature.parameters

    @functools.wraps(test)
    def run_test(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = hide_tb
        request = kwargs.get("request") if takes_request else kwargs.pop("request", None)
        settings = _settings(request, signature.bind(*args, **kwargs).arguments)
        limit = math.inf if settings.get("debug_mode") else timeout

        async def main() -> None:
            __tracebackhide__ = hide_tb
            async with (
                fail_after_w_trace(limit, label=_label(request, test)),
                open_root_actor(**_root_arguments(settings)),
            ):
                await test(*args, **kwargs)

        trio.run(main)

    setattr(run_test, _MARK, True)
    if not takes_request:
        request = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY)
        parameters = [*signature.parameters.values(), request]
        # Nothing may come after `**kwargs`.
        parameters.sort(key=lambda parameter: parameter.kind)
        run_test.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run_test


def is_tractor_test(function: object) -> bool:
    """Whether `tractor_test` has made this function."""
    return getattr(function, _MARK, False) is True


def _settings(request: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The values of the wired fixtures that this test has, taken by it or not."""
    settings = {name: arguments[name] for name in WIRED if name in arguments}
    if request is not None:
        for name in WIRED:
            if name not in settings and name in request.fixturenames:
                settings[name] = request.getfixturevalue(name)
    return settings


def _root_arguments(settings: dict[str, Any]) -> dict[str, Any]:
    plain = ("loglevel", "start_method", "debug_mode")
    arguments = {name: settings[name] for name in plain if name in settings}
    if settings.get("reg_addr") is not None:
        arguments["registry_addrs"] = [settings["reg_addr"]]
    if settings.get("tpt_proto") is not None:
        arguments["enable_transports"] = [settings["tpt_proto"]]
    return arguments


def _label(request: Any, test: AsyncTest) -> str:
    return request.node.name if request is not None else getattr(test, "__name__", "test")
