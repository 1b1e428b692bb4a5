"""Errors, values and functions that no well-behaved program has.

Imported by the tests and by the actors that they start.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import trio

import tractor


class EvilMeta(type):
    """Of classes that can't be named or shown."""

    def __repr__(cls) -> str:
        raise RuntimeError("no text for this class")

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__name__", "__qualname__", "__module__"):
            raise RuntimeError(f"no {name}")
        return super().__getattribute__(name)


class Nameless(Exception, metaclass=EvilMeta):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class ExitsInStr(Exception):
    def __str__(self) -> str:
        raise SystemExit(4)

    __repr__ = __str__


class OddMessage(tractor.RemoteActorError):
    @property
    def message(self) -> Any:
        return 5


class BadDerive(ExceptionGroup[Exception]):
    def derive(self, excs: Any) -> Any:
        raise RuntimeError("no splitting")


class EvilValue(metaclass=EvilMeta):
    def __repr__(self) -> str:
        raise RuntimeError("no text")


def deep_group(depth: int) -> Exception:
    exc: Exception = ValueError("inmost")
    for _ in range(depth):
        exc = ExceptionGroup("g", [exc])
    return exc


def cyclic() -> Exception:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    return one


def noted(notes: Any) -> Exception:
    exc = ValueError("noted")
    exc.__notes__ = notes
    return exc


def remote(**fields: Any) -> Exception:
    return tractor.RemoteActorError("made up", **fields)


ERRORS: dict[str, Callable[[], BaseException]] = {
    "nameless": Nameless,
    "exits in str": ExitsInStr,
    "odd message": lambda: OddMessage("x"),
    "odd ipc_msg": lambda: remote(ipc_msg=object()),
    "canceller is text": lambda: remote(canceller="foo"),
    "canceller is an object": lambda: remote(canceller=object()),
    "sender is a number": lambda: remote(sender=5),
    "canceller of numbers": lambda: tractor.ContextCancelled("x", canceller=(1, 2)),
    "bad_msg keys": lambda: tractor.MsgTypeError("x", bad_msg_as_dict={1: 2}),
    "bad_msg no dict": lambda: tractor.MsgTypeError("x", bad_msg_as_dict=5),
    "bad_msg huge": lambda: tractor.MsgTypeError("x", bad_msg_as_dict={"a": 2**70}),
    "bad_msg evil": lambda: tractor.MsgTypeError("x", bad_msg=EvilValue(), cid=1),
    "deep group": lambda: deep_group(5000),
    "bad group": lambda: BadDerive("g", [ValueError("x")]),
    "mixed group": lambda: BaseExceptionGroup("g", [SystemExit(2), ValueError("x")]),
    "cyclic": cyclic,
    "notes number": lambda: noted(5),
    "notes evil": lambda: noted([EvilValue()]),
    "huge text": lambda: ValueError("x" * 1_000_000),
    "huge name": lambda: type("X" * 1_000_000, (Exception,), {})("x"),
    "surrogate": lambda: ValueError("\ud800"),
    "generator exit": GeneratorExit,
    "of the transport": lambda: tractor.TransportClosed("made up"),
}


async def raises(name: str) -> None:
    raise ERRORS[name]()


async def yields_then_raises(name: str) -> AsyncIterator[int]:
    yield 1
    raise ERRORS[name]()


@tractor.context
async def context_raises(ctx: tractor.Context, name: str, when: str) -> None:
    if when == "unstarted":
        raise ERRORS[name]()
    await ctx.started()
    if when == "started":
        raise ERRORS[name]()
    try:
        await trio.sleep_forever()
    finally:
        raise ERRORS[name]()


@dataclasses.dataclass(frozen=True)
class Key:
    n: int


class StructKey(msgspec.Struct, frozen=True):
    n: int


def deep(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


VALUES: dict[str, Callable[[], Any]] = {
    "evil": EvilValue,
    "evil class": lambda: EvilValue,
    "dataclass key": lambda: {Key(1): 2},
    "struct key": lambda: {StructKey(1): 2},
    "key in a key": lambda: {(Key(1),): 2},
    "bad time stamp": lambda: msgspec.msgpack.Ext(-1, b"x"),
    "raw garbage": lambda: msgspec.Raw(b"\xc1"),
    "raw nothing": lambda: msgspec.Raw(b""),
    "raw two values": lambda: msgspec.Raw(b"\x01\x02"),
    "raw no text": lambda: msgspec.Raw(b"\xa1\xff"),
    "raw map key": lambda: msgspec.Raw(b"\x81\x80\x01"),
    **{f"deep {n}": functools.partial(deep, n) for n in range(955, 1000, 3)},
}
"""Values that can't be sent, or that can and then can't be decoded by who declared nothing."""


async def takes(value: Any = None, **_: Any) -> None:
    pass


async def gives(name: str) -> Any:
    return VALUES[name]()


async def yields(name: str) -> AsyncIterator[Any]:
    yield VALUES[name]()


@tractor.context
async def context_gives(ctx: tractor.Context, name: str, where: str, value: Any = None) -> Any:
    await ctx.started(VALUES[name]() if where == "started" else None)
    async with ctx.open_stream() as stream:
        if where == "yield":
            await stream.send(VALUES[name]())
        if where == "send":
            await stream.receive()
    return VALUES[name]() if where == "return" else None


A_LIST = [1]


@tractor.context(pld_spec=int | None)
async def reads_on(ctx: tractor.Context) -> None:
    """Take a bad message as if nothing had happened."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        try:
            await stream.receive()
        except tractor.MsgTypeError as exc:
            SEEN.append(ctx.maybe_error is exc and ctx.outcome is exc)
        for use in (stream.receive, lambda: stream.send(1)):
            try:
                # The opener's answer may have come already.
                with trio.CancelScope(shield=True):
                    await use()
            except tractor.MsgTypeError:
                SEEN.append(True)
            except BaseException as exc:
                SEEN.append(repr(exc))
                raise


SEEN: list[Any] = []


async def seen() -> list[Any]:
    return SEEN


@tractor.context
async def is_left_alone(ctx: tractor.Context) -> None:
    await ctx.started(["text", "x"])
    RUNNING.append(1)
    try:
        await trio.sleep_forever()
    finally:
        RUNNING.pop()


RUNNING: list[int] = []


async def running() -> int:
    return len(RUNNING)


@tractor.context
async def collects(ctx: tractor.Context) -> list[Any]:
    """Give back all that comes, in its order."""
    await ctx.started()
    values = []
    async with ctx.open_stream() as stream:
        async for value in stream:
            values.append(value)
    return values
