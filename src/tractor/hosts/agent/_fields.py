"""What a frame's fields have to be."""

from __future__ import annotations

from typing import Any, TypeAlias

from tractor.hosts._frames import FrameError, to_bytes
from tractor.hosts.agent._children import Order
from tractor.hosts.agent._store import CodeStore

MAX_TIME = 1e9
"""Seconds: what is longer was meant to be without end."""

Ident: TypeAlias = str | int
"""What the other side calls a child: any string or whole number."""


def ident(frame: dict[str, Any]) -> Ident:
    """The child that a frame is about.  Raises FrameError, as all below do."""
    found = frame.get("id")
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise _wrong(frame, "id", "a string or a whole number")
    return found


def text(frame: dict[str, Any], key: str) -> str:
    """A string."""
    found = frame.get(key)
    if not isinstance(found, str):
        raise _wrong(frame, key, "a string")
    return found


def number(frame: dict[str, Any], key: str) -> int:
    """A whole number."""
    found = frame.get(key)
    if isinstance(found, bool) or not isinstance(found, int):
        raise _wrong(frame, key, "a whole number")
    return found


def seconds(frame: dict[str, Any], key: str) -> float:
    """A time above 0."""
    found = frame.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found <= MAX_TIME:
        raise _wrong(frame, key, f"a number of seconds above 0, up to {MAX_TIME:g}")
    return float(found)


def items(frame: dict[str, Any], key: str) -> list[Any]:
    """A list; none is an empty one."""
    found = frame.get(key) or []
    if not isinstance(found, list):
        raise _wrong(frame, key, "a list")
    return found


def order(frame: dict[str, Any], store: CodeStore) -> Order:
    """What a ``spawn`` wants started.

    Raises:
        FrameError, ValueError: a field is wrong, or its path needs code that was not shipped.
    """
    argv, path = items(frame, "argv"), items(frame, "path")
    if not argv or not all(isinstance(arg, str) for arg in argv):
        raise _wrong(frame, "argv", "a list of strings, at least one")
    if not all(isinstance(entry, str) for entry in path):
        raise _wrong(frame, "path", "a list of strings")
    env = frame.get("env") or {}
    if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
        raise _wrong(frame, "env", "strings by name")
    boot = frame.get("boot")
    return Order(
        argv=argv,
        env=env,
        cwd=None if frame.get("cwd") is None else text(frame, "cwd"),
        path=[store.resolve(entry) for entry in path],
        boot=b"" if boot is None else to_bytes(boot),
    )


def _wrong(frame: dict[str, Any], key: str, wanted: str) -> FrameError:
    found = repr(frame.get(key))
    return FrameError(f"{key!r} of a frame {frame['t']!r} must be {wanted}, not {found[:120]}")


def address(frame: dict[str, Any]) -> tuple[str, int]:
    """The frame's ``addr``: a host and a port.  Raises ValueError."""
    addr = frame.get("addr")
    if (
        isinstance(addr, list)
        and len(addr) == 2
        and isinstance(addr[0], str)
        and type(addr[1]) is int
        and 0 < addr[1] < 65536
    ):
        return addr[0], addr[1]
    raise ValueError(f"'addr' is a host and a port, not {addr!r}")
