"""What pools run with values that have no annotation, or one that says little."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import msgspec

try:
    import numpy as np
except ImportError:
    np = None  # type: ignore[assignment]


@dataclasses.dataclass
class Point:
    x: int
    where: Path | None = None


class Cloud(msgspec.Struct):
    points: list[Point]
    heights: Any = None


def same(value):  # type: ignore[no-untyped-def]
    """Annotated with nothing."""
    return value


async def asame(value):  # type: ignore[no-untyped-def]
    return value


def typed_same(value: Cloud) -> Cloud:
    return value


def kinds(value):  # type: ignore[no-untyped-def]
    """The class of what came, and of what is in it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [type(value).__name__, *(type(one).__name__ for one in inner)]


def double(array, by=2):  # type: ignore[no-untyped-def]
    """In place: the array is this call's own."""
    array *= by
    return array


def is_mapped(array: Any) -> bool:
    """Whether its memory is mapped, not copied."""
    base = array
    while getattr(base, "base", None) is not None:
        base = base.base
    name = type(base).__name__
    return name == "mmap" or name.startswith("c_ubyte_Array")


def typed_double(array: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, Any]:
    return array * 2


def keep(array):  # type: ignore[no-untyped-def]
    kept.append(array)
    return [float(one.sum()) for one in kept]


kept: list[Any] = []


def die_with(array):  # type: ignore[no-untyped-def]
    os.kill(os.getpid(), signal.SIGKILL)


def unsendable(array):  # type: ignore[no-untyped-def]
    return [array, object()]


def descriptors(x: int = 0) -> list[str]:
    """What is open in this process by now, of memory that is lent."""
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return [
        os.readlink(link) for link in links if os.path.islink(link) and "lent" in os.readlink(link)
    ]


def describe_frame(frame):  # type: ignore[no-untyped-def]
    """Give a frame back with one more column."""
    if hasattr(frame, "with_columns"):
        return frame.with_columns(total=frame["a"] + 1)
    frame["total"] = frame["a"] + 1
    return frame
