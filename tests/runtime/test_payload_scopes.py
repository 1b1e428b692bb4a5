"""Which rule decides on a payload: limits, codecs of dialogs and of tasks, and what was declared."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import ep_payloads as ep
import ep_peer
import pytest
import trio
from ep_payloads import PUPPETS, Point, Text
from ep_tree import Tree, in_tree, module_tree

import tractor
from tractor import msg
from tractor.msg.types import Return, Yield

# The fixture `tree`.
_ = module_tree


def spec_of(ctx: tractor.Context) -> Any:
    """The payload type in force, for this task."""
    return ctx.pld_rx.spec


# -- limits --


@in_tree
async def test_limits_on_the_endpoints_side(tree: Tree) -> None:
    async with tree.portal.open_context(ep.limits_child_side) as (ctx, first):
        assert first == {"x": 1, "y": 2}
        async with ctx.open_stream() as stream:
            for _ in range(4):
                await stream.send({"x": 1, "y": 2})
        assert await ctx.wait_for_result() == [
            "does not match type-spec `Started.pld: Point`",
            "Point",
            "dict",
            "Point",
            "dict",
        ]


def test_nested_limits_on_the_openers_side(tree: Tree) -> None:
    data = {"x": 1, "y": 2}

    async def test(tree: Tree) -> None:
        async with (
            tree.portal.open_context(ep.echo) as (ctx, _),
            ctx.open_stream() as stream,
        ):

            async def echoed() -> Any:
                await stream.send(data)
                return await stream.receive()

            with msg.limit_plds(Point) as outer:
                assert spec_of(ctx) is Point
                assert await echoed() == Point(1, 2)
                with msg.limit_plds(dict[str, int]) as inner:
                    assert ctx.pld_rx.pld_dec is inner
                    assert await echoed() == data
                assert ctx.pld_rx.pld_dec is outer
                assert await echoed() == Point(1, 2)
                with pytest.raises(ZeroDivisionError), msg.limit_plds(str):
                    raise ZeroDivisionError
                assert await echoed() == Point(1, 2)
            assert await echoed() == data
            assert spec_of(ctx) is Any

    tree.run(lambda: test(tree))


@in_tree
async def test_a_limit_takes_hooks(tree: Tree) -> None:
    async with tree.portal.open_context(ep.echo) as (ctx, _), ctx.open_stream() as stream:
        with msg.limit_plds(None, dec_hook=ep.list_to_text, ext_types=[Text]):
            await stream.send(["text", "a"])
            assert await stream.receive() == Text("a")
            await stream.send(None)
            assert await stream.receive() is None
        for misuse in (
            {"dec_hook": ep.list_to_text},
            {"spec": None},
            {"spec": Point | ep.Early},
        ):
            with pytest.raises(TypeError), msg.limit_plds(**{"spec": Text, **misuse}):
                raise AssertionError("the block must not be entered")
        assert spec_of(ctx) is Any


@in_tree
async def test_limits_of_two_tasks_overlap(tree: Tree) -> None:
    """Who reads does not matter: a limit holds for the dialog, and the last one that was made and still holds."""
    async with tree.portal.open_context(ep.echo) as (ctx, _), ctx.open_stream() as stream:
        first_in, second_in, first_out = trio.Event(), trio.Event(), trio.Event()

        async def kind() -> str:
            await stream.send({"x": 1})
            return type(await stream.receive()).__name__

        async def first() -> None:
            with msg.limit_plds(ep.OfLimit):
                first_in.set()
                await second_in.wait()
                assert await kind() == "OfInnerLimit"
            first_out.set()

        async def second() -> None:
            await first_in.wait()
            assert await kind() == "OfLimit"
            with msg.limit_plds(ep.OfInnerLimit):
                second_in.set()
                await first_out.wait()
                assert await kind() == "OfInnerLimit"
            assert await kind() == "dict"

        async with trio.open_nursery() as tn:
            tn.start_soon(first)
            tn.start_soon(second)


@in_tree
async def test_a_task_that_an_endpoint_starts_has_its_dialog(tree: Tree) -> None:
    async with tree.portal.open_context(ep.limited_in_a_task) as (ctx, _):
        async with ctx.open_stream() as stream:
            await stream.send({"x": 1, "y": 2})
        assert await ctx.wait_for_result() == "Point"


@in_tree
async def test_a_limit_is_for_the_innermost_context(tree: Tree) -> None:
    async with tree.portal.open_context(ep.echo) as (outer, _):
        async with tree.portal.open_context(ep.echo) as (inner, _):
            with msg.limit_plds(Point):
                assert spec_of(inner) is Point
                assert spec_of(outer) is Any
            async with inner.open_stream():
                pass
        with msg.limit_plds(str):
            assert spec_of(inner) is Any
            assert spec_of(outer) is str
        async with outer.open_stream():
            pass
    with pytest.raises(RuntimeError, match="active context"), msg.limit_plds(str):
        raise AssertionError("the block must not be entered")


def test_no_limit_without_a_context() -> None:
    with (
        pytest.raises(RuntimeError, match=r"limit_plds\(.*Point.*active context"),
        msg.limit_plds(Point),
    ):
        raise AssertionError("the block must not be entered")


@pytest.mark.parametrize(
    ("kwargs", "spec_str"),
    [
        ({}, None),
        ({"spec": None}, None),
        ({"ext_types": []}, None),
        ({"spec": Point}, "Point"),
        ({"dec_hook": ep.list_to_text, "ext_types": [Text]}, "Text | None"),
        ({"spec": int, "dec_hook": ep.list_to_text, "ext_types": [Text]}, "int | Text"),
    ],
)
@in_tree
async def test_maybe_limit(tree: Tree, kwargs: dict[str, Any], spec_str: str | None) -> None:
    async with tree.portal.open_context(ep.echo) as (ctx, _):
        async with msg.maybe_limit_plds(ctx, **kwargs) as decoder:
            if spec_str is None:
                assert decoder is None
                assert spec_of(ctx) is Any
            else:
                assert ctx.pld_rx.pld_dec is decoder
                assert set(decoder.spec_str.split(" | ")) == set(spec_str.split(" | "))
        assert spec_of(ctx) is Any
        async with ctx.open_stream():
            pass


@in_tree
async def test_maybe_limit_with_a_hook_that_has_nothing_to_do(tree: Tree) -> None:
    async with tree.portal.open_context(ep.echo) as (ctx, _):
        with pytest.raises(TypeError, match="ext_types"):
            async with msg.maybe_limit_plds(ctx, dec_hook=ep.list_to_text):
                raise AssertionError("the block must not be entered")
        async with ctx.open_stream():
            pass


# -- which rule decides --


COMBINATIONS = [
    [level for level, given in zip(ep.LEVELS, bits, strict=True) if given]
    for bits in itertools.product([False, True], repeat=len(ep.LEVELS))
]


def decides(levels: list[str], kinds: dict[str, str], without: str) -> str:
    return kinds[levels[0]] if levels else without


@pytest.mark.parametrize("side", ["parent", "child"])
@pytest.mark.parametrize("levels", COMBINATIONS, ids=lambda levels: "+".join(levels) or "none")
def test_which_level_decodes(
    tree: Tree, levels: list[str], side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = decides(levels, {level: t.__name__ for level, t in ep.LEVELS.items()}, "dict")

    async def read_by_the_child(tree: Tree) -> None:
        fn = ep.relay_declared if "declared" in levels else ep.relay_free
        async with (
            tree.portal.open_context(fn, levels=levels) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            await stream.send({"x": 1})
            assert await stream.receive() == expected

    async def read_here(tree: Tree) -> None:
        fn: Any = ep.echo
        if "declared" in levels:
            fn = ep.stand_in(monkeypatch, fn, ep.Declared | str | None)
        async with tree.portal.open_context(fn) as (ctx, _), ctx.open_stream() as stream:
            with ep.rules(ctx, levels):
                await stream.send({"x": 1})
                assert type(await stream.receive()).__name__ == expected
                assert spec_of(ctx) is Any or expected in ctx.pld_rx.pld_dec.spec_str

    test = read_by_the_child if side == "child" else read_here
    tree.run(lambda: test(tree))


ENCODERS = [
    [level for level, given in zip(("dialog", "declared", "task"), bits, strict=True) if given]
    for bits in itertools.product([False, True], repeat=3)
]


@pytest.mark.parametrize("side", ["parent", "child"])
@pytest.mark.parametrize("levels", ENCODERS, ids=lambda levels: "+".join(levels) or "none")
@in_tree
async def test_which_level_encodes(
    tree: Tree, levels: list[str], side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fn = ep.relay_enc_declared if "declared" in levels else ep.relay_free
    if side == "child":
        expected: Any = (
            contextlib.nullcontext()
            if levels
            else pytest.raises(tractor.MsgTypeError, match="enc_hook")
        )
        with expected:
            async with (
                tree.portal.open_context(fn, levels=levels, encode=True) as (ctx, _),
                ctx.open_stream() as stream,
            ):
                await stream.send(None)
                assert await stream.receive() == levels[0]
        return
    other: Any = ep.echo
    if "declared" in levels:
        hooks: dict[str, Any] = {"enc_hook": lambda _: "declared", "ext_types": [Text]}
        other = ep.stand_in(monkeypatch, ep.echo, Any, **hooks)
    async with tree.portal.open_context(other) as (ctx, _), ctx.open_stream() as stream:
        with ep.encode_rules(ctx, levels):
            if not levels:
                with pytest.raises(tractor.MsgTypeError, match="enc_hook"):
                    await stream.send(Text("x"))
                return
            await stream.send(Text("x"))
        assert await stream.receive() == levels[0]


@in_tree
async def test_a_dialogs_codec_without_a_type_or_a_hook_leaves_these_to_the_endpoint(
    tree: Tree,
) -> None:
    key = tree.key()
    steps = [["started", "none"], ["receive"], ["send", "text"]]
    async with (
        tree.portal.open_context(PUPPETS["hooked"], key=key, steps=steps) as (ctx, _),
        ctx.open_stream() as stream,
    ):
        with msg.apply_codec(msg.mk_codec(), ctx):
            await stream.send(Text("x"))
            assert await stream.receive() == Text("x")


# -- codecs by scope --


@in_tree
async def test_a_codec_is_for_the_task_and_those_that_it_starts(tree: Tree) -> None:
    async with tree.portal.open_context(ep.echo) as (ctx, _), ctx.open_stream() as stream:

        async def kind() -> str:
            await stream.send({"x": 1})
            return type(await stream.receive()).__name__

        async def in_a_task(expected: str) -> None:
            assert await kind() == expected
            with msg.apply_codec(msg.mk_codec(ep.OfLimit)):
                assert await kind() == "OfLimit"
            assert await kind() == expected

        async with trio.open_nursery() as before:
            with msg.limit_msg_spec(ep.OfTask) as codec:
                assert msg.current_codec() is codec
                async with trio.open_nursery() as tn:
                    tn.start_soon(in_a_task, "OfTask")
                assert await kind() == "OfTask"
            before.start_soon(in_a_task, "dict")
        assert await kind() == "dict"


@in_tree
async def test_a_codec_of_one_dialog_is_for_no_other(tree: Tree) -> None:
    async with (
        tree.portal.open_context(ep.echo) as (one, _),
        one.open_stream() as stream,
        tree.portal.open_context(ep.echo) as (other, _),
        other.open_stream() as other_stream,
    ):
        with msg.apply_codec(msg.mk_codec(ep.OfDialog), one):
            for to, name in ((stream, "OfDialog"), (other_stream, "dict")):
                await to.send({"x": 1})
                assert type(await to.receive()).__name__ == name
            assert await tree.portal.run(ep.point) == {"x": 1, "y": 2}
            with msg.apply_codec(msg.mk_codec(Point), one):
                assert spec_of(one) is Point
            assert spec_of(one) is ep.OfDialog
        assert spec_of(one) is Any


@in_tree
async def test_calls_under_a_codec(tree: Tree) -> None:
    with msg.limit_msg_spec(Point):
        assert await tree.portal.run(ep.point) == Point(1, 2)
        with pytest.raises(tractor.MsgTypeError) as caught:
            await tree.portal.run(ep_peer.ping)
        exc = caught.value
        assert "invalid `Return` msg payload\n  'pong'" in exc.message
        assert "does not match type-spec `Return.pld: Point`" in exc.message
        assert exc.expected_msg_type is Return
        assert isinstance(exc.cid, int)
        # What the runtime asks for by itself is not business of the task's codec.
        async with tree.portal.open_stream_from(ep.points, n=10) as stream:
            assert await stream.receive() == Point(0, 0)
    codec = msg.mk_codec(enc_hook=ep.text_to_list, ext_types=[Text])
    with msg.apply_codec(codec):
        assert await tree.portal.run(ep.type_of, arg=Text("x")) == "list"


@in_tree
async def test_one_way_streams_under_a_codec(tree: Tree) -> None:
    with msg.limit_msg_spec(Point):
        async with tree.portal.open_stream_from(ep.points, n=3) as stream:
            assert [p async for p in stream] == [Point(i, i) for i in range(3)]
        with pytest.raises(tractor.MsgTypeError) as caught:  # noqa: PT012
            async with tree.portal.open_stream_from(ep.points, n=1000, bad_from=2) as stream:
                assert await stream.receive() == Point(0, 0)
                assert await stream.receive() == Point(1, 1)
                await stream.receive()
    # The block was not left before the generator had ended.
    assert await tree.portal.run(ep.points_have_ended)
    exc = caught.value
    assert "invalid `Yield` msg payload\n  2\n" in exc.message
    assert "does not match type-spec `Yield.pld: Point`" in exc.message
    assert exc.expected_msg_type is Yield
    assert isinstance(exc.cid, int)
