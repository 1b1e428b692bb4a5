"""Calls as people write them, between processes: by position, of annotated types, with errors that say where."""

from __future__ import annotations

import datetime
import decimal
import functools
import inspect
import os
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import ep_typed
import numpy as np
import pytest
import trio
from ep_peer import open_peer, run
from ep_typed import Colour, Job, Point

import tractor

HERE = Path(__file__).name

pytestmark = pytest.mark.usefixtures("either_backend")

NOT_ENCODABLE = object()


class Name(str):
    def __str__(self) -> str:
        return "another text"


class Count(int):
    pass


def line_of(text: str) -> int:
    """The first line of this file that has this text and does not search for it."""
    lines = Path(__file__).read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if text in line and "line_of" not in line)


def test_calls_and_streams_of_each_kind(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_typed", reg_addr=reg_addr) as portal:
            await calls(portal)
            await contexts(portal)
            await streams(portal)
            await refused_here(portal)
            await misfits(portal)
            await callers(portal)
            await names(portal)

    run(main, limit=60)


async def calls(portal: tractor.Portal) -> None:
    when = datetime.datetime(2026, 11, 30, tzinfo=datetime.UTC)
    takes: Any = ep_typed.takes
    found = await portal.run(
        takes,
        {1},
        (1, "a"),
        [Point(1)],
        Job("a", Path("/tmp"), [Point(2)]),
        Colour.BLUE,
        when,
        decimal.Decimal("1.5"),
        uuid.UUID(int=1),
        where=Path("/x"),
        text_or_path=Path("y"),
        array=np.ones(2),
        options={"depth": 1, "tags": {"t"}},
        number=1,
        anything=[1],
        bare={"a": 1},
        more=5,
    )
    assert found == {
        "a_set": "set {1}",
        "pair": "tuple (1, 'a')",
        "points": "list [Point(x=1, y=0)]",
        "job": "Job Job(name='a', where=PosixPath('/tmp'), points=[Point(x=2, y=0)])",
        "colour": "Colour <Colour.BLUE: 'blue'>",
        "when": f"datetime {when!r}",
        "price": "Decimal Decimal('1.5')",
        "key": f"UUID {uuid.UUID(int=1)!r}",
        "where": "PosixPath PosixPath('/x')",
        "text_or_path": "PosixPath PosixPath('y')",
        "array": "ndarray float64 [1.0, 1.0]",
        "options": "dict {'depth': 1, 'tags': {'t'}}",
        "number": "float 1.0",
        "anything": "list [1]",
        "bare": "dict {'a': 1}",
        "more": "int 5",
    }
    # What only the other side knows is converted there, too.
    plain = await portal.run_from_ns("ep_typed", "takes", a_set=[1], points=[{"x": 1}], where="/x")
    assert plain["a_set"] == "set {1}"
    assert plain["points"] == "list [Point(x=1, y=0)]"
    assert plain["where"] == "PosixPath PosixPath('/x')"
    assert await portal.run(ep_typed.gives_points, 2) == [Point(0), Point(1)]
    assert await portal.run_from_ns("ep_typed", "gives_points", n=1) == [{"x": 0, "y": 0}]
    assert await portal.run(ep_typed.gives_path) == Path("/tmp/x")
    assert (await portal.run(ep_typed.gives_array, 3)).tolist() == [0, 1, 2]
    assert await portal.run(functools.partial(ep_typed.gives_points, n=1)) == [Point(0)]
    assert await portal.run(ep_typed.decorated, 1, {2}) == [3]
    assert await portal.run(ep_typed.supplied, x=1) == 8
    assert await portal.run(ep_typed.Holder.static, Point(1)) == "Point Point(x=1, y=0)"
    assert await portal.run(ep_typed.Heir.of_class, Point(1)) == "Heir Point Point(x=1, y=0)"
    assert await portal.run(ep_typed.rebound) == "the new one"
    # Objects of subclasses are what they are a subclass of.
    assert await portal.run(ep_typed.of_subclasses, Name("a"), Count(3), np.float64(1.5)) == 1.5
    assert await portal.run(ep_typed.sums, [np.float64(1), np.float64(2)]) == 3.0
    with pytest.raises(tractor.MsgTypeError, match="cannot be encoded"):
        await portal.run(ep_typed.takes, bare=Name("a"))
    # A codec of the task's that says what payloads are wins over the annotation.
    with tractor.msg.limit_msg_spec(list[dict[str, int]]):
        plain = await portal.run_from_ns("ep_typed", "gives_points", n=1)
        untyped: Any = ep_typed.gives_points
        assert await portal.run(untyped, 1) == plain == [{"x": 0, "y": 0}]


async def contexts(portal: tractor.Portal) -> None:
    async with portal.open_context(ep_typed.context_with_points, Point(5), by={1, 2}) as (ctx, n):
        assert n == 5
        assert await ctx.wait_for_result() == [Point(6), Point(7)]
        assert ctx.outcome == [Point(6), Point(7)]
    async with portal.open_context(ep_typed.context_unannotated, 3) as (ctx, n):
        assert (n, await ctx.wait_for_result()) == (3, 3)
    partial = functools.partial(ep_typed.context_hide_tb, hide_tb="mine")
    async with portal.open_context(partial, hide_tb=False) as (ctx, _):
        assert await ctx.wait_for_result() == "mine"
    # The payload spec of a context has the last word on its payloads.
    of_spec: Any = ep_typed.context_of_spec
    async with portal.open_context(of_spec, 3) as (ctx, n):
        assert await ctx.wait_for_result() == 3


async def streams(portal: tractor.Portal) -> None:
    async with portal.open_stream_from(ep_typed.points, Point(5), 2) as stream:
        assert [n async for n in stream] == [5, 6]
    async with portal.open_stream_from(ep_typed.legacy_points, Point(7)) as stream:
        assert [n async for n in stream] == [7]


async def refused_here(portal: tractor.Portal) -> None:
    before = portal.statistics().sent
    calls: list[tuple[Any, tuple[Any, ...]]] = [
        (ep_typed.alias, (1,)),
        (ep_typed.old_rebound, ()),
        (ep_typed.nameless, (1,)),
        (ep_typed.Holder().method, ()),
        (functools.partial(ep_typed.gives_points, 1), ()),
        (ep_typed.gives_points, ()),
        (ep_typed.gives_points, (1, 2)),
        (ep_typed.only_by_position, (1,)),
        (ep_typed.any_number, (1,)),
    ]
    for fn, args in calls:
        with pytest.raises(TypeError):
            await portal.run(fn, *args)
    misfitting: list[dict[str, Any]] = [{}, {"p": Point(1)}, {"p": Point(1), "by": {1}, "ctx": 1}]
    for kwargs in misfitting:
        with pytest.raises(TypeError):
            portal.open_context(ep_typed.context_with_points, **kwargs)
    with pytest.raises(TypeError, match=r"functools.partial\(context_hide_tb, hide_tb=...\)"):
        portal.open_context(ep_typed.context_hide_tb, hide_tb=False)
    with pytest.raises(TypeError, match="missing a required argument: 'n'"):
        async with portal.open_stream_from(ep_typed.points, Point(1)):  # type: ignore[call-overload]
            pytest.fail("it opened")
    takes: Any = ep_typed.takes
    with pytest.raises(tractor.MsgTypeError, match="cannot be encoded"):
        await portal.run(takes, where=NOT_ENCODABLE)
    assert portal.statistics().sent == before


async def misfits(portal: tractor.Portal) -> None:
    calls: list[tuple[Any, dict[str, Any], str]] = [
        (ep_typed.takes, {"a_set": {"a"}}, "a_set"),
        (ep_typed.takes, {"more": "a"}, "more"),
        (ep_typed.picky, {"p": {"n": -1}}, "p"),
    ]
    for fn, kwargs, name in calls:
        with pytest.raises(tractor.MsgTypeError, match=f"the argument '{name}' of ep_typed:"):
            await portal.run(fn, **kwargs)
    with pytest.raises(tractor.MsgTypeError, match="the result of ep_typed:lies"):
        await portal.run(ep_typed.lies)
    with pytest.raises(tractor.MsgTypeError, match="the argument 'by' of ep_typed:context"):
        async with portal.open_context(ep_typed.context_with_points, Point(1), 7):  # type: ignore[call-overload]
            pytest.fail("it opened")
    with pytest.raises(tractor.MsgTypeError, match="the result of ep_typed:context_lies") as lied:
        async with portal.open_context(ep_typed.context_lies) as (ctx, _):
            pass
    assert ctx.maybe_error is ctx.outcome is lied.value
    with pytest.raises(tractor.MsgTypeError, match="the argument 'first' of ep_typed:points"):
        async with portal.open_stream_from(ep_typed.points, 1, 1) as stream:  # type: ignore[call-overload]
            await stream.receive()
    # A value that does not fit costs that request alone.
    assert await portal.run(ep_typed.gives_points, 0) == []


async def helper(portal: tractor.Portal) -> None:
    await portal.run(ep_typed.fails, n=1)  # (a call)


async def callers(portal: tractor.Portal) -> None:
    """The text of each failure names the line of this file that has made the call."""

    async def context() -> None:
        async with portal.open_context(ep_typed.context_fails, 1):  # (a context)
            await trio.sleep_forever()

    async def stream() -> None:
        async with portal.open_stream_from(ep_typed.points_then_fails, 1) as received:  # (a stream)
            async for _ in received:
                pass

    async def by_name() -> None:
        await portal.run_from_ns("ep_typed", "fails", n=1)  # (by name)

    async def in_a_task() -> None:
        async with trio.open_nursery() as tn:
            tn.start_soon(portal.run, ep_typed.fails)
            await trio.sleep_forever()  # (a task)

    failing: list[tuple[Callable[[], Awaitable[None]], str, str]] = [
        (functools.partial(helper, portal), "helper", "(a call)"),
        (context, "context", "(a context)"),
        (stream, "stream", "(a stream)"),
        (by_name, "by_name", "(by name)"),
        (in_a_task, "in_a_task", "(a task)"),
    ]
    for fails, function, line in failing:
        error: BaseException | None = None
        try:
            await fails()
        except ExceptionGroup as group:
            (error,) = group.exceptions
        except tractor.RemoteActorError as exc:
            error = exc
        assert isinstance(error, tractor.RemoteActorError)
        where = f"{function}() at {__file__}:{line_of(line)}"
        assert where in error.caller
        assert f"called by {error.caller}" in str(error)
        assert error.caller in error.pformat()


async def names(portal: tractor.Portal) -> None:
    """Names are taken as any kind of text."""
    assert await portal.run_from_ns(Name("ep_typed"), Name("rebound")) == "the new one"
    with pytest.raises(TypeError, match="names of module and function, not 7"):
        await portal.run_from_ns("ep_typed", 7)  # type: ignore[arg-type]


# -- one-shots --


def test_one_shots(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(
            name=Name("top"), registry_addrs=[reg_addr], loglevel=ep_typed.Level.INFO
        ) as an:
            assert tractor.current_actor().name == "top"
            points = await an.run_in_actor(ep_typed.gives_points, 2, name=Name("points"))
            assert points.chan.aid is not None
            assert points.chan.aid.name == "points"
            greets = functools.partial(ep_typed.greets, name="Ann")
            ann = await an.run_in_actor(greets, name="greeter", infect_asyncio=False)
            bob = await an.run_in_actor(ep_typed.greets, "Bob", name="bob")
            assert await points.wait_for_result() == [Point(0), Point(1)]
            assert await ann.wait_for_result() == ["Ann", "loud", "no"]
            assert await bob.wait_for_result() == ["Bob", "loud", "no"]
            before = an.statistics().spawned
            misfits: list[tuple[dict[str, Any], str]] = [
                ({"name": "Bob"}, r"functools.partial\(greets, name=...\)"),
                ({"loglevel": "info"}, r"functools.partial\(greets, loglevel=...\)"),
                ({}, "missing a required argument: 'name'"),
                ({"more": 1}, "unexpected keyword argument 'more'"),
            ]
            for kwargs, text in misfits:
                with pytest.raises(TypeError, match=text):
                    await an.run_in_actor(ep_typed.greets, **kwargs)
            for fn in (ep_typed.alias, ep_typed.nameless, ep_typed.Holder().method):
                with pytest.raises(TypeError):
                    await an.run_in_actor(fn)
            assert an.statistics().spawned == before

    run(main, limit=60)


def test_the_report_of_a_failed_one_shot_names_each_caller_on_its_way() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            await an.run_in_actor(ep_typed.relays, 7)  # (a one-shot)

    with pytest.raises(tractor.RemoteActorError) as caught:
        run(main, limit=60)
    error = caught.value
    assert error.src_type is ValueError
    assert f"main() at {__file__}:{line_of('(a one-shot)')}" in error.caller
    _, first = inspect.getsourcelines(ep_typed.relays)
    # The actor between says where it had called the one below it.
    text = str(error)
    assert f"called by relays() at {ep_typed.__file__}:{first + 3} in relays@" in text
    assert f"called by {error.caller} in root@{os.getpid()}\n" in text


def test_a_one_shot_whose_result_does_not_fit_is_a_failure() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            await an.run_in_actor(ep_typed.lies)

    with pytest.raises(tractor.MsgTypeError, match="the result of ep_typed:lies"):
        run(main, limit=60)
