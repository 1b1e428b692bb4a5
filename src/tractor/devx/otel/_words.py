"""What things are called in spans and metrics: the names of OpenTelemetry's conventions, and ours where it has none."""

from __future__ import annotations

import signal
from typing import Final

SYSTEM: Final = "tractor"
"""Our ``rpc.system.name``, and the name of the tracer and the meter."""

OTHER: Final = "_OTHER"
"""The ``rpc.method`` of a function that the callee does not have."""

_TRANSPORTS: Final = {"uds": "unix"}
"""The conventions' name of a transport, where it is not ours."""

_NOT_EXPOSED: Final = "ModuleNotExposed"


def method_of(function: str) -> str:
    """``rpc.method`` of an endpoint: ``pkg.module/function`` of ``pkg.module:function``."""
    return function.replace(":", "/", 1)


def transport_of(key: str) -> str:
    """``network.transport`` of a transport's key."""
    return _TRANSPORTS.get(key, key)


def error_type_of(error: str) -> str:
    """``error.type`` of an error's type: ``pkg.module.Name``, and ``Name`` alone of a built-in one."""
    return error.removeprefix("builtins:").replace(":", ".", 1)


def is_unknown_function(function: str, error: str | None, traceback: str | None) -> bool:
    """Whether an error says that the callee has no such endpoint, or gives nobody that one.

    A module that is not exposed has an error type of its own.  For a name that the module lacks, or that leads to
    something else, the type is one that the function itself may raise; but the callee's runtime has raised it, whose
    frames are in no traceback, with the function's name in front.

    Args:
        function: that was called, as ``module:name``.
        error: the error's type, as ``module:name``.
        traceback: the boxed one.
    """
    if error is None:
        return False
    name = error.rpartition(":")[2].rpartition(".")[2]
    if name == _NOT_EXPOSED:
        return True
    told = (f"AttributeError: {function}: ", f"TypeError: {function} must be an async function")
    return (
        name in ("AttributeError", "TypeError")
        and traceback is not None
        and traceback.startswith(told)
    )


def end_of(status: int | None) -> str:
    """How a process has ended, in words."""
    if status is None:
        return "its exit status is unknown"
    if status < 0:
        try:
            return f"killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"killed by signal {-status}"
    return f"exit status {status}"
