"""One value of every kind that is promised to travel, and endpoints that hand them on.

Imported by the tests and by the actors that they start.  numpy is optional.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib.util
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import attrs
import msgspec

import tractor
from tractor.msg import NamespacePath, hooks
from tractor.spawn._contract import selected_start_method

HAS_NUMPY = (
    importlib.util.find_spec("numpy") is not None
    # Which loads in one interpreter of a process only.
    and selected_start_method() != "subint"
)

INDIA = timezone(timedelta(hours=5, minutes=30))


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 9


class Shape(enum.StrEnum):
    ROUND = "round"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Visit:
    day: date
    guests: frozenset[str]


@attrs.define
class Room:
    number: int
    beds: tuple[int, ...] = ()


class Pair(NamedTuple):
    left: int
    right: str


class Options(TypedDict, total=False):
    depth: int


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag=True, frozen=True):
    side: Decimal


class Row(msgspec.Struct, array_like=True):
    at: datetime
    shape: Circle | Square


@dataclasses.dataclass
class Sample:
    """A value, its type, and what it is to a reader who declares no type."""

    type: Any
    value: Any
    plain: Any


REFUSED = object()
"""What a reader without a type gets is an error."""

NATIVE: dict[str, Sample] = {
    "int": Sample(int, -(2**63), -(2**63)),
    "uint": Sample(int, 2**64 - 1, 2**64 - 1),
    "nan": Sample(float, math.nan, math.nan),
    "inf": Sample(float, -math.inf, -math.inf),
    "str": Sample(str, "grüß \0 🙂", "grüß \0 🙂"),
    "none": Sample(type(None), None, None),
    "bytes": Sample(bytes, b"\0\xff", b"\0\xff"),
    "bytearray": Sample(bytearray, bytearray(b"ab"), b"ab"),
    "memoryview": Sample(memoryview, memoryview(b"abcd")[1:3], b"bc"),
    "list": Sample(list[int | str], [1, "a"], [1, "a"]),
    "tuple": Sample(tuple[int, ...], (1, 2), [1, 2]),
    "fixed_tuple": Sample(tuple[int, str], (1, "a"), [1, "a"]),
    "set": Sample(set[int], {1}, [1]),
    "frozenset": Sample(frozenset[str], frozenset({"a"}), ["a"]),
    "dict": Sample(dict[int, list[float]], {1: [0.5]}, {1: [0.5]}),
    "tuple_keys": Sample(dict[tuple[int, int], str], {(1, 2): "a"}, REFUSED),
    "datetime": Sample(datetime, datetime(2024, 2, 29, 1, 2, 3, 4), "2024-02-29T01:02:03.000004"),
    "aware_datetime": Sample(
        datetime,
        datetime(2024, 2, 29, 1, 2, 3, 4, INDIA),
        datetime(2024, 2, 28, 19, 32, 3, 4, UTC),
    ),
    "date": Sample(date, date(2024, 2, 29), "2024-02-29"),
    "time": Sample(time, time(1, 2, 3, 4), "01:02:03.000004"),
    "aware_time": Sample(time, time(1, 2, 3, tzinfo=INDIA), "01:02:03+05:30"),
    "timedelta": Sample(timedelta, timedelta(days=-1, seconds=5), "-PT86395S"),
    "decimal": Sample(Decimal, Decimal("1.10"), "1.10"),
    "uuid": Sample(UUID, UUID(int=5), str(UUID(int=5))),
    "enum": Sample(Colour, Colour.BLUE, "blue"),
    "int_enum": Sample(Level, Level.HIGH, 9),
    "str_enum": Sample(Shape, Shape.ROUND, "round"),
    "flag": Sample(Rights, Rights.READ | Rights.WRITE, 3),
    "dataclass": Sample(
        Visit, Visit(date(2024, 1, 2), frozenset("a")), {"day": "2024-01-02", "guests": ["a"]}
    ),
    "attrs": Sample(Room, Room(7, (1, 2)), {"number": 7, "beds": [1, 2]}),
    "namedtuple": Sample(Pair, Pair(1, "b"), [1, "b"]),
    "typeddict": Sample(Options, Options(depth=3), {"depth": 3}),
    "tagged_union": Sample(
        Circle | Square, Square(Decimal("2.5")), {"type": "Square", "side": "2.5"}
    ),
    "array_like": Sample(
        Row,
        Row(datetime(2024, 1, 1, tzinfo=UTC), Circle(0.5)),
        [datetime(2024, 1, 1, tzinfo=UTC), {"type": "Circle", "radius": 0.5}],
    ),
}
"""What msgspec knows by itself."""

HOOKED: dict[str, Sample] = {
    "path": Sample(Path, Path("/tmp", "a b"), None),
    "posix_path": Sample(PurePosixPath, PurePosixPath("a/b"), None),
    "windows_path": Sample(PurePath, PureWindowsPath("c:/a"), None),
    "odd_path": Sample(PurePosixPath, PurePosixPath("not-\udcff-utf8"), None),
    "nspath": Sample(NamespacePath, NamespacePath("json:dumps"), None),
}
"""What needs the ready hooks."""

HOOKS: dict[str, hooks.Hooks] = {
    "path": hooks.path_hooks(Path),
    "posix_path": hooks.path_hooks(PurePosixPath),
    "windows_path": hooks.path_hooks(),
    "odd_path": hooks.path_hooks(),
    "nspath": hooks.nspath_hooks(),
}


class Parcel(msgspec.Struct):
    """Hooked types as fields, side by side."""

    label: str
    source: PurePath
    run: NamespacePath | None = None
    others: dict[str, list[PurePath]] = {}


PARCEL = Parcel(
    "mine",
    Path("/data"),
    NamespacePath("json:dumps"),
    {"x": [PurePosixPath("x"), PureWindowsPath("y")]},
)
HOOKED["parcel"] = Sample(Parcel, PARCEL, None)
HOOKS["parcel"] = hooks.combine(hooks.path_hooks(), hooks.nspath_hooks())

if HAS_NUMPY:
    import numpy as np

    class Batch(msgspec.Struct):
        """Arrays as fields, beside a path."""

        source: PurePath
        values: np.ndarray[Any, np.dtype[np.float64]]
        mask: np.ndarray[Any, Any] | None = None

    HOOKED["array"] = Sample(np.ndarray, np.arange(6, dtype="<i4").reshape(2, 3), None)
    HOOKS["array"] = hooks.ndarray_hooks()
    HOOKED["readonly_array"] = Sample(np.ndarray, np.arange(6.0)[::2], None)
    HOOKS["readonly_array"] = hooks.ndarray_hooks(readonly=True)
    HOOKED["batch"] = Sample(
        Batch, Batch(PurePosixPath("a"), np.eye(3), np.array([True, False])), None
    )
    HOOKS["batch"] = hooks.combine(hooks.path_hooks(), hooks.ndarray_hooks())

SAMPLES = {**NATIVE, **HOOKED}


def same(a: Any, b: Any) -> bool:
    """Whether two values are of one type and equal, in depth; every NaN is the same."""
    if type(a) is not type(b):
        return False
    if HAS_NUMPY and isinstance(a, np.ndarray):
        return bool(a.dtype == b.dtype) and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, Decimal):
        return str(a) == str(b)
    if isinstance(a, msgspec.Struct):
        return same(msgspec.structs.astuple(a), msgspec.structs.astuple(b))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b) or (a != a and b != b)


def _relay(name: str) -> Any:
    """An endpoint that starts with the sample of that name, takes and sends it, and returns it."""
    sample = SAMPLES[name]
    kwargs = HOOKS[name].as_kwargs() if name in HOOKS else {}

    @tractor.context(pld_spec=sample.type, **kwargs)
    async def relay(ctx: tractor.Context) -> Any:
        await ctx.started(sample.value)
        async with ctx.open_stream() as stream:
            async for value in stream:
                assert same(value, sample.value), value
                await stream.send(value)
        return sample.value

    relay.__name__ = relay.__qualname__ = f"relay_{name}"
    return relay


RELAYS = {name: _relay(name) for name in SAMPLES}
globals().update((relay.__name__, relay) for relay in RELAYS.values())


async def give(name: str) -> Any:
    """The sample of that name, as the result of a plain call."""
    return SAMPLES[name].value


async def is_plain(name: str, value: Any) -> bool:
    """Whether a plain call's argument arrived as a reader without a type gets it."""
    return same(value, SAMPLES[name].plain)


# -- what is refused --


def false_enc_hook(obj: Any) -> Any:
    """What a peer that lies sends for a path."""
    return [hooks.PATH_TAG, "PosixPath", 5]


@tractor.context(
    pld_spec=PurePath | None,
    enc_hook=false_enc_hook,
    dec_hook=hooks.path_hooks().dec_hook,
    ext_types=[PurePath],
)
async def false_paths(ctx: tractor.Context, side: str) -> str:
    """The one ``side`` sends what is not a path; the other tells of its error."""
    await ctx.started(None)
    async with ctx.open_stream() as stream:
        if side == "child":
            await stream.send(PurePath("x"))
            await stream.receive()
            return "nothing refused"
        await stream.receive()
    return "nothing refused"


@tractor.context(pld_spec=str | None)
async def bad_text(ctx: tractor.Context, phase: str) -> str | None:
    """In one phase a text comes that is not a UTF-8; only a peer that lies can send one."""
    bad: Any = msgspec.Raw(b"\xa1\x80")
    await ctx.started(bad if phase == "started" else None, validate_pld_spec=False)
    async with ctx.open_stream() as stream:
        if phase == "yield":
            await stream.send(bad)
        elif phase == "up":
            await stream.receive()
        else:
            await stream.send(None)
    return None


async def bad_text_in_a_result() -> Any:
    """The same as the result of a plain call."""
    return msgspec.Raw(b"\xa1\x80")
