"""Endpoints with annotations, and functions whose names lead elsewhere."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

import msgspec
import numpy as np
import trio
from numpy.typing import NDArray

import tractor

if TYPE_CHECKING:
    from somewhere import Unknown  # type: ignore[import-not-found]  # pyright: ignore

T = TypeVar("T")


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@dataclasses.dataclass
class Picky:
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError("below zero")


class Job(msgspec.Struct):
    name: str
    where: Path
    points: list[Point] = []


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.StrEnum):
    INFO = "info"


class Options(TypedDict, total=False):
    depth: int
    tags: set[str]


class Own:
    """What msgspec knows nothing of."""


def kind_of(value: Any) -> str:
    """A value and its class, as text."""
    if isinstance(value, np.ndarray):
        return f"ndarray {value.dtype} {value.tolist()}"
    return f"{type(value).__name__} {value!r}"


async def takes(  # type: ignore[no-untyped-def]
    a_set: set[int] | None = None,
    pair: tuple[int, str] | None = None,
    points: list[Point] | None = None,
    job: Job | None = None,
    colour: Colour = Colour.RED,
    when: datetime.datetime | None = None,
    price: decimal.Decimal = decimal.Decimal(0),
    key: uuid.UUID | None = None,
    where: Path = Path(),
    text_or_path: str | Path = "",
    array: NDArray[np.float64] | None = None,
    options: Options | None = None,
    number: float = 0,
    implicit: int = None,  # type: ignore[assignment]  # noqa: RUF013
    anything: Any = None,
    unknown: Unknown = None,
    own: Own | None = None,
    generic: T | None = None,
    call_me: Callable[[], int] | None = None,
    bare=None,
    **rest: int,
) -> dict[str, str]:
    """The classes of all that is not a default."""
    given = locals()
    given |= given.pop("rest")
    defaults = dict(zip(takes.__code__.co_varnames, takes.__defaults__ or (), strict=False))
    return {name: kind_of(v) for name, v in given.items() if v is not defaults.get(name)}


async def named(**options: Unpack[Options]) -> dict[str, str]:
    return {name: kind_of(value) for name, value in options.items()}


async def gives_points(n: int) -> list[Point]:
    return [Point(i) for i in range(n)]


async def gives_path() -> Path:
    return Path("/tmp") / "x"


async def gives_array(n: int) -> NDArray[np.int64]:
    return np.arange(n)


async def of_subclasses(name: str, count: int, share: float) -> float:
    assert (type(name), type(count), type(share)) == (str, int, float)
    assert (name, count) == ("a", 3)
    return np.float64(share)


async def sums(numbers: list[float]) -> float:
    return np.float64(sum(numbers))


async def lies() -> int:
    return "no number"  # type: ignore[return-value]


async def picky(p: Picky) -> int:
    return p.n


async def fails(n: int = 0) -> None:
    raise ValueError(f"n is {n}")


async def greets(name: str, loglevel: str = "loud", hide_tb: str = "no") -> list[str]:
    return [name, loglevel, hide_tb]


async def relays(n: int) -> None:
    """Fail in an actor below this one."""
    async with tractor.open_nursery() as an:
        portal = await an.run_in_actor(fails, n, name="below")
        await portal.wait_for_result()


async def only_by_position(x: int, /) -> int:
    return x


async def any_number(*xs: int, key: int = 0) -> int:
    return len(xs) + key


def sync_points(points: list[Point], where: Path = Path()) -> list[Point]:
    assert isinstance(where, Path)
    return [Point(p.y, p.x) for p in points]


def sync_norm(p: Point) -> Point:
    return Point(p.x * p.x)


def sync_sum(array: NDArray[np.float64]) -> float:
    return float(array.sum())


def sync_lies(x: int) -> int:
    return str(x)  # type: ignore[return-value]


def sync_fails(x: int) -> int:
    raise ValueError(f"x is {x}")


async def async_points(points: list[Point]) -> list[Point]:
    return [Point(p.y, p.x) for p in points]


# -- contexts and one-way streams --


@tractor.context
async def context_with_points(ctx: tractor.Context, p: Point, by: set[int]) -> list[Point]:
    assert isinstance(by, set)
    await ctx.started(p.x)
    return [Point(p.x + d) for d in sorted(by)]


@tractor.context
async def context_unannotated(ctx, n: int = 1) -> int:  # type: ignore[no-untyped-def]
    await ctx.started(n)
    return n


@tractor.context(pld_spec=int | str)
async def context_of_spec(ctx: tractor.Context, n: int) -> str:
    await ctx.started(n)
    return n  # type: ignore[return-value]


@tractor.context
async def context_lies(ctx: tractor.Context) -> int:
    await ctx.started()
    return "no number"  # type: ignore[return-value]


@tractor.context
async def context_fails(ctx: tractor.Context, n: int) -> None:
    await ctx.started()
    raise ValueError(f"n is {n}")


@tractor.context
async def context_hide_tb(ctx: tractor.Context, hide_tb: str = "") -> str:
    await ctx.started()
    return hide_tb


async def points(first: Point, n: int) -> AsyncIterator[int]:
    for i in range(n):
        await trio.lowlevel.checkpoint()
        yield first.x + i


async def points_then_fails(n: int) -> AsyncIterator[int]:
    yield n
    raise ValueError(f"n is {n}")


@tractor.stream
async def legacy_points(stream: tractor.MsgStream[Any, Any], first: Point) -> None:
    await stream.send(first.x)


# -- decorated, rebound and others --


def passes_on(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    async def wrapper(**kwargs: Any) -> Any:
        return await fn(**kwargs)

    return wrapper


def adds_a_number(fn: Callable[..., Any]) -> Callable[..., Any]:
    """What it decorates has a parameter that no caller gives."""

    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await fn(*args, number=7, **kwargs)

    return wrapper


def without_wraps(fn: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(**kwargs: Any) -> Any:
        return await fn(**kwargs)

    return wrapper


@passes_on
async def decorated(x: int, by: set[int]) -> list[int]:
    return [x + d for d in sorted(by)]


@adds_a_number
async def supplied(x: int, number: int) -> int:
    return x + number


@without_wraps
async def nameless(x: int) -> int:
    return x


alias = passes_on(gives_points)


async def rebound() -> str:
    return "the old one"


old_rebound = rebound


async def rebound() -> str:  # type: ignore[no-redef]
    return "the new one"


class Holder:
    """A class with functions."""

    async def method(self) -> str:
        return "method"

    @staticmethod
    async def static(p: Point) -> str:
        return kind_of(p)

    @classmethod
    async def of_class(cls, p: Point) -> str:
        return f"{cls.__name__} {kind_of(p)}"


class Heir(Holder):
    """A class that inherits them."""
