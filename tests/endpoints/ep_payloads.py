"""Endpoints with payload specs, which keep to them or break them as their opener says.

Imported by the tests and by the actors that they start, so both know the same types and values.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
import pytest
import trio
import trio.testing
from ep_peer import Notes

import tractor
from tractor import msg

T = TypeVar("T")


# -- payload types --


class Point(msgspec.Struct):
    """Without a tag: no other struct fits beside it."""

    x: int
    y: int


class Circle(msgspec.Struct, tag=True):
    radius: int


class Square(msgspec.Struct, tag=True):
    side: int


class Box(msgspec.Struct, Generic[T]):
    item: T


class Early(msgspec.Struct):
    """Its field's type is defined further down, below the endpoint that uses it."""

    later: Later
    next: Early | None = None


class Text:
    """What msgpack does not know."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Text) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def text_to_list(obj: Any) -> Any:
    if isinstance(obj, Text):
        return ["text", obj.text]
    raise NotImplementedError(f"no way to encode {obj!r}")


def list_to_text(kind: type, obj: Any) -> Any:
    match obj:
        case ["text", str(text)] if kind is Text:
            return Text(text)
    raise ValueError(f"no Text: {obj!r}")


@dataclass
class Sample:
    """A payload spec, how it is printed, a value that is of it and one that is not."""

    spec: Any
    text: str
    good: Any
    bad: Any
    hooks: dict[str, Any] = field(default_factory=dict)


SAMPLES = {
    "int": Sample(int | None, "int | None", 7, "seven"),
    "no_value": Sample(type(None), "None", None, 0),
    "no_none": Sample(int, "int", 7, None),
    "struct": Sample(Point | None, "Point | None", Point(1, 2), {"x": 1}),
    "tagged": Sample(Circle | Square | None, "Circle | Square | None", Square(2), Point(1, 2)),
    "containers": Sample(
        list[int] | dict[str, int], "list[int] | dict[str, int]", {"a": 1}, {"a": "b"}
    ),
    "generic": Sample(Box[int] | None, "Box[int] | None", Box(3), Box("three")),
    "constrained": Sample(
        Annotated[int, msgspec.Meta(ge=0)], "Annotated[int, msgspec.Meta(ge=0)]", 0, -1
    ),
    "literal": Sample(Literal["on", "off"], "Literal['on', 'off']", "on", "of"),
    "hooked": Sample(
        Text | None,
        "Text | None",
        Text("x"),
        ["text", 5],
        {"enc_hook": text_to_list, "dec_hook": list_to_text},
    ),
}


def value(name: str | None) -> Any:
    """The value that a step names: `'sample.good'`, `'sample.bad'`, `'none'`, or one of `OTHERS`."""
    if name is None or name == "none":
        return None
    sample, _, which = name.partition(".")
    return OTHERS[name] if not which else getattr(SAMPLES[sample], which)


OTHERS: dict[str, Any] = {
    "unencodable": object(),
    "huge_int": 2**70,
    "surrogate": "\ud800",
    "tuple": (1, 2),
    "list": [1, 2],
    "mark": {"x": 1},
    "text": Text("x"),
}


# -- a side of a dialog that does what it is told --


CONTEXTS: dict[str, tractor.Context] = {}
"""The contexts that were served here, by the key that the opener gave."""

RECORDS: dict[str, list[Any]] = {}
"""What their steps gave."""

SEEN = Notes()
"""Keys of the endpoints that have ended."""


def told(exc: BaseException | None) -> dict[str, Any] | None:
    """An error as plain data."""
    if exc is None:
        return None
    facts: dict[str, Any] = {"type": type(exc).__name__, "text": str(exc)}
    if isinstance(exc, tractor.RemoteActorError):
        facts |= {"boxed": exc.boxed_type_str, "message": exc.message}
    if isinstance(exc, tractor.MsgTypeError):
        expected = exc.expected_msg_type
        facts |= {
            "cid": exc.cid,
            "expected": None if expected is None else expected.__name__,
            "dict_keys": sorted(exc.bad_msg_as_dict or ()),
            "bad_msg": type(exc.bad_msg).__name__,
        }
    return facts


def shown(obj: Any) -> Any:
    """A value that was received, so that its type can be seen on the other side."""
    return f"{type(obj).__name__}: {obj.text if isinstance(obj, Text) else obj!r}"


async def step(
    ctx: tractor.Context, stream: tractor.MsgStream | None, verb: str, *args: Any
) -> Any:
    """Do one thing with a context or its stream."""
    assert stream is not None or verb in ("started", "sleep")
    match verb:
        case "started":
            options = args[1] if len(args) > 1 else {}
            await ctx.started(value(args[0]), **options)
            return "started"
        case "send":
            assert stream is not None
            await stream.send(value(args[0]))
            return "sent"
        case "receive":
            assert stream is not None
            return shown(await stream.receive())
        case "sleep":
            await trio.sleep_forever()
    raise AssertionError(verb)


async def perform(ctx: tractor.Context, steps: list[list[Any]], record: list[Any]) -> None:
    """Do the steps; one whose verb ends in ``?`` may fail with MsgTypeError, which is recorded.

    ``started`` steps come first; the others are done within the stream's block.
    """
    async with contextlib.AsyncExitStack() as stack:
        stream = None
        for verb, *args in steps:
            if stream is None and not verb.startswith("started"):
                stream = await stack.enter_async_context(ctx.open_stream())
            try:
                record.append(await step(ctx, stream, verb.rstrip("?"), *args))
            except tractor.MsgTypeError as exc:
                record.append(told(exc))
                if not verb.endswith("?"):
                    raise
            except BaseException as exc:
                record.append(told(exc))
                raise


def puppet(name: str, spec: Any, **hooks: Any) -> Callable[..., Any]:
    """An endpoint with that payload spec that does its opener's steps."""

    @tractor.context(pld_spec=spec, **hooks)
    async def does(
        ctx: tractor.Context, key: str, steps: list[list[Any]], result: str | None = None
    ) -> Any:
        CONTEXTS[key] = ctx
        record = RECORDS[key] = []
        try:
            await perform(ctx, steps, record)
        finally:
            SEEN[key] = True
        return value(result)

    does.__name__ = does.__qualname__ = name
    return does


PUPPETS = {name: puppet(f"does_{name}", s.spec, **s.hooks) for name, s in SAMPLES.items()}
PUPPETS["any"] = puppet("does_any", Any)
PUPPETS["list"] = puppet("does_list", list[int] | None)
globals().update((fn.__name__, fn) for fn in PUPPETS.values())


async def view(key: str) -> dict[str, Any]:
    """What an endpoint saw, once it has ended, and its context's status."""
    await SEEN.wait_for(key)
    ctx = CONTEXTS[key]
    while not ctx.has_outcome:
        await trio.lowlevel.checkpoint()
    return {
        "record": RECORDS[key],
        "state": str(ctx.state),
        "maybe_error": told(ctx.maybe_error),
        "outcome_is_error": ctx.outcome is ctx.maybe_error,
    }


def posing_as(
    patch: pytest.MonkeyPatch, target: Callable[..., Any], fn: Callable[..., Any]
) -> Callable[..., Any]:
    """``fn``, which has the place of ``target`` in this process: as if the peer had another version of the module."""
    fn.__module__, fn.__qualname__ = target.__module__, target.__qualname__
    patch.setattr(sys.modules[target.__module__], target.__qualname__, fn)
    return fn


def stand_in(
    patch: pytest.MonkeyPatch, target: Callable[..., Any], spec: Any, **hooks: Any
) -> Callable[..., Any]:
    """An opener's idea of ``target`` that has another payload spec."""

    @tractor.context(pld_spec=spec, **hooks)
    async def other(ctx: tractor.Context, **kwargs: Any) -> Any:
        raise AssertionError("never runs: it is only used to open the other")

    return posing_as(patch, target, other)


# -- specs that are not known, or no good, when the endpoint is defined --


@tractor.context(pld_spec=Early | None)
async def forward(ctx: tractor.Context) -> Early:
    await ctx.started(Early(Later(1)))
    async with ctx.open_stream() as stream:
        early: Early = await stream.receive()
    assert type(early.later) is Later
    return Early(Later(early.later.n + 1), early)


class Later(msgspec.Struct):
    n: int


@tractor.context(pld_spec=Point | Early)
async def undecodable(ctx: tractor.Context) -> None:
    raise AssertionError("never runs: msgspec can't tell two structs without tags apart")


# -- hooks that fail --


FAILURES: dict[str, type[Exception]] = {
    exc.__name__: exc
    for exc in (
        TypeError,
        ValueError,
        KeyError,
        RecursionError,
        OverflowError,
        NotImplementedError,
        OSError,
        ZeroDivisionError,
        StopIteration,
        tractor.MessagingError,
    )
}


def _failing(name: str, which: str) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise FAILURES[name](f"the hook {name} failed")

    hooks = {"enc_hook": text_to_list, "dec_hook": list_to_text, which: fail}
    return puppet(f"fails_{which}_{name}", Text | None, **hooks)


FAILING = {
    (name, which): _failing(name, which) for name in FAILURES for which in ("enc_hook", "dec_hook")
}
globals().update((fn.__name__, fn) for fn in FAILING.values())


# -- limits and codecs --


class OfLimit(msgspec.Struct):
    x: int


class OfInnerLimit(msgspec.Struct):
    x: int


class OfDialog(msgspec.Struct):
    x: int


class Declared(msgspec.Struct):
    x: int


class OfTask(msgspec.Struct):
    x: int


LEVELS = {"limit": OfLimit, "dialog": OfDialog, "declared": Declared, "task": OfTask}
"""What decodes `{'x': 1}` at each level, from the first to the last in precedence."""


@contextlib.contextmanager
def rules(ctx: tractor.Context, levels: list[str]) -> Any:
    """Have these levels of rules in force, but for what is declared."""
    with contextlib.ExitStack() as stack:
        # In an order that is not that of precedence.
        if "limit" in levels:
            stack.enter_context(msg.limit_plds(OfLimit))
        if "task" in levels:
            stack.enter_context(msg.apply_codec(msg.mk_codec(OfTask)))
        if "dialog" in levels:
            stack.enter_context(msg.apply_codec(msg.mk_codec(OfDialog), ctx))
        yield


def _name_of(level: str, obj: Any) -> str:
    return level


def encoders(levels: list[str]) -> dict[str, Any]:
    """Codecs whose hook for a `Text` tells which of them encoded it."""
    return {
        level: msg.mk_codec(enc_hook=functools.partial(_name_of, level), ext_types=[Text])
        for level in levels
    }


@contextlib.contextmanager
def encode_rules(ctx: tractor.Context, levels: list[str]) -> Any:
    """Have these encoders in force, but for what is declared."""
    codecs = encoders(levels)
    with contextlib.ExitStack() as stack:
        if "task" in levels:
            stack.enter_context(msg.apply_codec(codecs["task"]))
        if "dialog" in levels:
            stack.enter_context(msg.apply_codec(codecs["dialog"], ctx))
        yield


def _relay(name: str, **declared: Any) -> Any:
    mark: Callable[[Any], Any] = tractor.context(**declared)

    async def relay(ctx: tractor.Context, levels: list[str], encode: bool = False) -> None:
        """Tell what each message that came was decoded as; or send a `Text` for each."""
        await ctx.started(None)
        in_force = encode_rules(ctx, levels) if encode else rules(ctx, levels)
        async with ctx.open_stream() as stream:
            with in_force:
                got = await stream.receive()
                await stream.send(Text("x") if encode else type(got).__name__)
                # The rules hold until the other side is done.
                with contextlib.suppress(trio.EndOfChannel):
                    await stream.receive()

    relay.__name__ = relay.__qualname__ = name
    return mark(relay)


relay_declared = _relay("relay_declared", pld_spec=Declared | str | None)
relay_free = _relay("relay_free")
relay_enc_declared = _relay(
    "relay_enc_declared", enc_hook=lambda _: "declared", ext_types=[Text], pld_spec=Any
)


@tractor.context
async def echo(ctx: tractor.Context, first: Any = None) -> str:
    """Send back what comes."""
    await ctx.started(first)
    async with ctx.open_stream() as stream:
        async for got in stream:
            await stream.send(got)
    return "done"


@tractor.context
async def limits_child_side(ctx: tractor.Context) -> list[Any]:
    """What limits do on this side, where the payloads of `started()` are checked before sending."""
    seen: list[Any] = []
    with msg.limit_plds(Point):
        try:
            await ctx.started("no point")
        except tractor.MsgTypeError as exc:
            seen.append(exc.message.splitlines()[-2])
        await ctx.started({"x": 1, "y": 2})
    async with ctx.open_stream() as stream:
        with msg.limit_plds(Point) as outer:
            seen.append(type(await stream.receive()).__name__)
            with msg.limit_plds(dict[str, int]) as inner:
                seen.append(type(await stream.receive()).__name__)
                assert ctx.pld_rx.pld_dec is inner
            assert ctx.pld_rx.pld_dec is outer
            seen.append(type(await stream.receive()).__name__)
        seen.append(type(await stream.receive()).__name__)
    return seen


@tractor.context
async def limited_in_a_task(ctx: tractor.Context) -> str:
    """A task that the endpoint starts has the same current dialog."""
    await ctx.started()
    names: list[str] = []

    async def read(stream: tractor.MsgStream) -> None:
        with msg.limit_plds(Point):
            names.append(type(await stream.receive()).__name__)

    async with ctx.open_stream() as stream, trio.open_nursery() as tn:
        tn.start_soon(read, stream)
    return names[0]


@tractor.context
async def drains(ctx: tractor.Context) -> str:
    await ctx.started()
    try:
        await msg.drain_to_final_msg(ctx)
    except RuntimeError as exc:
        return str(exc)
    return "no error"


@tractor.context
async def sends_many(
    ctx: tractor.Context, key: str, n: int, backpressure: bool = False, then: str = "return"
) -> str:
    """Send the integers below ``n``, then end as told."""
    CONTEXTS[key] = ctx
    await ctx.started()
    async with ctx.open_stream(backpressure=backpressure) as stream:
        for i in range(n):
            await stream.send(i)
        if then == "wait":
            await trio.sleep_forever()
    if then == "raise":
        raise ValueError(key)
    return key


async def discarded(ctx: tractor.Context, n: int) -> None:
    """Return when so many messages have been discarded."""
    while ctx.statistics().discarded < n:
        await trio.testing.wait_all_tasks_blocked(0.001)


async def loses_what_it_drains() -> dict[str, Any]:
    """Kill a child while a context to it is drained; what the drain gave."""
    told: dict[str, Any] = {}
    ctx: tractor.Context | None = None

    async def lose(pid: int | None) -> None:
        assert ctx is not None
        assert pid is not None
        await discarded(ctx, 3)
        os.kill(pid, signal.SIGKILL)

    try:
        async with tractor.open_nursery() as an, trio.open_nursery() as tn:
            portal = await an.start_actor("other", enable_modules=[__name__])
            assert portal.chan.aid is not None
            async with portal.open_context(sends_many, key="x", n=3, then="wait") as (ctx, _):
                tn.start_soon(lose, portal.chan.aid.pid)
                final, drained = await msg.drain_to_final_msg(ctx)
                told["final"] = final
                told["drained"] = [msgspec.msgpack.decode(m.pld) for m in drained]
                told["maybe_error"] = type(ctx.maybe_error).__name__
    except* (tractor.ActorFailure, tractor.TransportClosed):
        pass
    return told


async def point() -> Any:
    return {"x": 1, "y": 2}


async def type_of(arg: Any) -> str:
    return type(arg).__name__


async def points(n: int, bad_from: int = 1000) -> AsyncIterator[Any]:
    """One-way: points as plain data; from some number on they are none."""
    SEEN.pop("points", None)
    try:
        for i in range(n):
            yield {"x": i, "y": i} if i < bad_from else i
    finally:
        SEEN["points"] = True


async def points_have_ended() -> bool:
    """Whether the last run of `points()` has ended."""
    return "points" in SEEN


async def texts(n: int) -> AsyncIterator[Text]:
    """One-way: what msgpack does not know."""
    for i in range(n):
        yield Text(str(i))
