"""What things are called in spans and metrics: the names of OpenTelemetry's conventions, and ours where it has none."""

from __future__ import annotations

import re
import signal
from typing import Final

SYSTEM: Final = "tractor"
"""Our ``rpc.system.name``, and the name of the tracer and the meter."""

OTHER: Final = "_OTHER"
"""The ``rpc.method`` of a function that the callee does not have."""

_TRANSPORTS: Final = {"uds": "unix"}
"""The conventions' name of a transport, where it is not ours."""

_NOT_EXPOSED: Final = "ModuleNotExposed"
_LOOK_UP: Final = "find_endpoint"
_NO_SUCH: Final = ("builtins:AttributeError", "AttributeError")
_LAST_FRAME: Final = re.compile(r'^\s*File "[^"]*", line \d+, in (\S+)', re.MULTILINE)


def method_of(function: str) -> str:
    """``rpc.method`` of an endpoint: ``pkg.module/function`` of ``pkg.module:function``."""
    return function.replace(":", "/", 1)


def transport_of(key: str) -> str:
    """``network.transport`` of a transport's key."""
    return _TRANSPORTS.get(key, key)


def error_type_of(error: str) -> str:
    """``error.type`` of an error's type: ``pkg.module.Name``, and ``Name`` alone of a built-in one."""
    return error.removeprefix("builtins:").replace(":", ".", 1)


def is_unknown_function(error: str | None, traceback: str | None) -> bool:
    """Whether an error says that the callee has no such function, or gives nobody that one.

    A module that is not exposed has an error type of its own.  A name that the module lacks is an ``AttributeError``,
    as the function itself may raise one: what tells them apart is where it was raised.
    """
    if error is None:
        return False
    if error.endswith(_NOT_EXPOSED):
        return True
    if error not in _NO_SUCH or not traceback:
        return False
    frames = _LAST_FRAME.findall(traceback)
    return bool(frames) and frames[-1] == _LOOK_UP


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
