"""Instruments that keep what they are told, and what actors are asked for while they are told."""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextvars import ContextVar
from types import FrameType
from typing import Any

import msgspec
import trio

import tractor
from tractor.devx import Instrument, events

label: ContextVar[str] = ContextVar("label", default="")
"""Set by the instrument where a call is served."""


class Keeper(Instrument):
    """Keeps every record; sends a header along with every dialog."""

    def __init__(self) -> None:
        self.kept: list[events.Event] = []

    def headers(
        self, record: events.CallStarted | events.ContextOpened
    ) -> Mapping[str, str] | None:
        return {"by": record.function.partition(":")[2]}

    def _keep(self, record: events.Event) -> None:
        self.kept.append(record)

    actor_started = _keep
    actor_ended = _keep
    child_starting = _keep
    child_ready = _keep
    child_gone = _keep
    rung = _keep
    call_ended = _keep
    context_opened = _keep
    context_started = _keep
    context_closed = _keep
    stream_opened = _keep
    stream_closed = _keep
    message_sent = _keep
    message_received = _keep
    credit_waited = _keep
    cancel_requested = _keep
    channel_opened = _keep
    channel_lost = _keep
    service_event = _keep
    crashed = _keep

    def call_started(self, record: events.CallStarted) -> None:
        self.kept.append(record)
        if record.side == "callee" and record.headers is not None:
            label.set(record.headers["by"])

    def of(self, cls: type[Any], /, **fields: Any) -> list[Any]:
        """The records of a class whose fields have these values."""
        return [
            one
            for one in self.kept
            if type(one) is cls and all(getattr(one, k) == v for k, v in fields.items())
        ]


keepers: list[Keeper] = []


def make() -> Keeper:
    """The factory: the last keeper is this actor's."""
    keepers.append(Keeper())
    return keepers[-1]


def make_none() -> None:
    """A factory of an actor that wants none."""


def make_wrong() -> Any:
    return "no instrument"


def make_badly() -> Any:
    raise LookupError("no settings for it")


async def kept() -> bytes:
    """What this actor's instrument has kept."""
    return msgspec.msgpack.encode(keepers[-1].kept)


def as_records(data: bytes) -> list[Any]:
    return msgspec.msgpack.decode(data, type=list[events.AnyEvent])


async def who_is_told() -> int:
    """How many instruments this actor has."""
    from tractor.runtime.seen._told import TOLD

    return len(TOLD.instruments)


async def in_context() -> str:
    """What the instrument has set for the task of a served call, as a task that it starts sees it."""
    found: list[str] = []

    async def look() -> None:
        found.append(label.get())

    async with trio.open_nursery() as tn:
        tn.start_soon(look)
    return found[0]


async def fails() -> None:
    raise ValueError("as asked")


async def waits() -> None:
    await trio.sleep_forever()


async def deeper() -> tuple[bytes, bytes]:
    """What an actor below this one has kept, and this one."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("leaf", enable_modules=[__name__])
        await portal.run(in_context)
        below = await portal.run(kept)
        await portal.cancel_actor()
    return below, await kept()


async def numbers(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


@tractor.context
async def echoes(ctx: tractor.Context) -> int:
    await ctx.started("begun")
    n = 0
    async with ctx.open_stream() as stream:
        async for value in stream:
            await stream.send(value)
            n += 1
    return n


@tractor.context
async def sinks(ctx: tractor.Context) -> tuple[int, int]:
    """Takes a stream; gives the bytecodes that a message has cost here, see :class:`HookCost`."""
    await ctx.started()
    n = 0
    async with ctx.open_stream() as stream:
        await stream.receive()
        with HookCost() as cost:
            async for _ in stream:
                n += 1
    return cost.hooks, n


# -- what an actor pays that nobody looks at --

_HOOK = re.compile(r"\btold\b|\bTOLD\b|\btell_\w+|\bheaders\b")
_PASSES_ON = re.compile(r"\b(put_start|Start|start)\(")
_HOMES = re.compile(r"tractor/runtime/(seen/_(told|lives|instrument|events)|dialog/_telling)\.py$")


ARGUMENTS = 8
"""Bytecodes that passing on what is told takes at most, on one side of a call: four times an argument and its check."""


class HookCost:
    """Counts the bytecodes of the lines that tell instruments, in this thread, while its block runs.

    A line counts as a whole if it has anything to do with them, and every line of the modules that are there for them;
    but not a call that was needed anyway and passes one argument more: see :data:`ARGUMENTS`.

    Attributes:
        hooks: of those lines.
        all: of the package's lines.
    """

    def __init__(self) -> None:
        self.hooks = 0
        self.all = 0
        self._lines: dict[tuple[str, int], bool] = {}

    def __enter__(self) -> HookCost:
        self._before = sys.gettrace()
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_exc: object) -> None:
        sys.settrace(self._before)

    def _enter(self, frame: FrameType, _event: str, _arg: object) -> Any:
        # Who looks at this actor from outside is no part of a call.
        if "/tractor/" not in frame.f_code.co_filename or "/control/" in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._count

    def _count(self, frame: FrameType, event: str, _arg: object) -> Any:
        if event == "opcode":
            self.all += 1
            # What the compiler has put in by itself has no line.
            key = (frame.f_code.co_filename, frame.f_lineno or 0)
            if key not in self._lines:
                line = linecache.getline(*key)
                self._lines[key] = bool(
                    _HOMES.search(key[0]) or (_HOOK.search(line) and not _PASSES_ON.search(line))
                )
            self.hooks += self._lines[key]
        return self._count


costs: list[HookCost] = []


async def count() -> None:
    """Count from now on what calls cost here."""
    costs.append(HookCost())
    costs[-1].__enter__()


async def counted() -> tuple[int, int]:
    """What they have cost, hooks and all."""
    cost = costs.pop()
    cost.__exit__()
    return cost.hooks, cost.all


async def add(a: int, b: int) -> int:
    return a + b


@tractor.context
async def serves(ctx: tractor.Context) -> None:
    """The endpoint of a service."""
    await ctx.started()
    await trio.sleep_forever()
