"""Nothing that a user raises, returns, sends or asks for may cost more than its own dialog."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import ep_hostile as ep
import ep_peer
import pytest
import trio
from ep_tree import Tree, in_tree

import tractor
from tractor import msg
from tractor.runtime.dialog._caller import request_cancel
from tractor.testing import get_rando_addr


@pytest.fixture(scope="module")
def tree(private_dir: Any) -> Iterator[Tree]:
    """One actor for all: whoever takes it down fails the tests behind, and `Tree` looks after each."""
    with Tree(get_rando_addr("tcp"), "ep_hostile").opened() as opened:
        yield opened


# -- errors --


async def in_a_call(portal: tractor.Portal, name: str) -> None:
    await portal.run(ep.raises, name=name)


async def in_a_generator(portal: tractor.Portal, name: str) -> None:
    async with portal.open_stream_from(ep.yields_then_raises, name=name) as stream:
        assert await stream.receive() == 1
        await stream.receive()


async def in_a_context(portal: tractor.Portal, name: str, when: str) -> None:
    async with portal.open_context(ep.context_raises, name=name, when=when) as (ctx, _):
        if when == "cancelled":
            await ctx.cancel()
        await ctx.wait_for_result()


RAISE: dict[str, Any] = {
    "call": in_a_call,
    "generator": in_a_generator,
    **{
        when: functools.partial(in_a_context, when=when)
        for when in ("unstarted", "started", "cancelled")
    },
}


@pytest.mark.parametrize("where", RAISE)
@pytest.mark.parametrize("name", ep.ERRORS)
@in_tree
async def test_any_error_is_relayed(tree: Tree, name: str, where: str) -> None:
    if (name, where) == ("canceller of numbers", "cancelled"):
        pytest.skip("a ctxc of a task that was cancelled is its cancellation")
    with pytest.raises(tractor.RemoteActorError) as caught:
        await RAISE[where](tree.portal, name)
    exc = caught.value
    assert exc.src_uid == ep_peer.peer_uid(tree.portal)
    assert exc.src_type_str
    assert str(exc)
    assert repr(exc)


# -- values --


async def value_sent(portal: tractor.Portal, value: Any) -> None:
    async with (
        portal.open_context(ep.context_gives, name="evil", where="send") as (ctx, _),
        ctx.open_stream() as stream,
    ):
        await stream.send(value)
        await ctx.wait_for_result()


async def value_yielded(portal: tractor.Portal, name: str) -> None:
    async with portal.open_stream_from(ep.yields, name=name) as stream:
        await stream.receive()


async def value_in_a_context(portal: tractor.Portal, name: str, where: str) -> None:
    async with portal.open_context(ep.context_gives, name=name, where=where) as (ctx, _):
        async with ctx.open_stream() as stream:
            if where == "yield":
                await stream.receive()
        await ctx.wait_for_result()


async def value_as_context_argument(portal: tractor.Portal, value: Any) -> None:
    async with portal.open_context(ep.context_gives, name="evil", where="", value=value) as (c, _):
        await c.wait_for_result()


GIVE: dict[str, Any] = {
    "argument": lambda portal, name: portal.run(ep.takes, value=ep.VALUES[name]()),
    "context argument": lambda p, name: value_as_context_argument(p, ep.VALUES[name]()),
    "result": lambda portal, name: portal.run(ep.gives, name=name),
    "generator": value_yielded,
    "send": lambda portal, name: value_sent(portal, ep.VALUES[name]()),
    **{
        where: functools.partial(value_in_a_context, where=where)
        for where in ("started", "yield", "return")
    },
}


@pytest.mark.parametrize("where", GIVE)
@pytest.mark.parametrize("name", ep.VALUES)
@in_tree
async def test_any_value_arrives_or_is_refused(tree: Tree, name: str, where: str) -> None:
    # How deep is too deep depends on both stacks.
    maybe = contextlib.suppress(tractor.MsgTypeError)
    surely = pytest.raises(tractor.MsgTypeError, match="msg payload")
    with maybe if name.startswith("deep ") else surely:
        await GIVE[where](tree.portal, name)


@in_tree
async def test_the_text_about_arguments_that_cannot_be_decoded(tree: Tree) -> None:
    with pytest.raises(tractor.MsgTypeError) as caught:
        await tree.portal.run(ep.takes, value={ep.Key(1): 2})
    exc = caught.value
    for part in ("`Start`", "ep_hostile:takes", "map keys must be hashable", "dicts whose keys"):
        assert part in exc.message
    assert exc.src_uid == ep_peer.peer_uid(tree.portal)
    assert exc.cid


# -- requests --


@pytest.mark.parametrize("names", [("ep_hostile", 5), (None, "takes"), ("ep_hostile", b"takes")])
@in_tree
async def test_names_that_are_no_text(tree: Tree, names: Any) -> None:
    with pytest.raises(TypeError, match="names of module and function"):
        await tree.portal.run_from_ns(*names)
    with (
        pytest.warns(DeprecationWarning, match="outdated"),
        pytest.raises(TypeError, match="names of module and function"),
    ):
        await tree.portal.run("ep_hostile", 5)  # type: ignore[call-overload]


@in_tree
async def test_functions_that_have_no_name_or_arguments_by_position(tree: Tree) -> None:
    async def nowhere() -> None: ...

    nowhere.__module__ = None  # type: ignore[assignment]
    with pytest.raises(TypeError, match="no module and name"):
        await tree.portal.run(nowhere)
    await tree.portal.run(functools.partial(ep.takes, value=1))
    with pytest.raises(TypeError, match=r"by keyword.*\('evil',\)"):
        tree.portal.open_context(functools.partial(ep.context_gives, "evil"), where="")  # type: ignore[arg-type, call-overload]


@in_tree
async def test_an_attribute_that_cannot_be_hashed_is_no_endpoint(tree: Tree) -> None:
    with pytest.raises(tractor.RemoteActorError, match="must be an async function") as caught:
        await tree.portal.run_from_ns("ep_hostile", "A_LIST")
    assert caught.value.boxed_type is TypeError


# -- what a violation leaves behind --


@in_tree
async def test_an_endpoint_that_catches_a_violation_sees_its_dialog_as_over(tree: Tree) -> None:
    with pytest.raises(tractor.MsgTypeError):  # noqa: PT012
        async with (
            tree.portal.open_context(ep.reads_on) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            await stream.send("no number")
            await trio.sleep_forever()
    assert await tree.portal.run(ep.seen) == [True, True, True]


@in_tree
async def test_a_hook_that_exits_does_not_leave_the_endpoint_alone(tree: Tree) -> None:
    def exits(_kind: type, _value: Any) -> Any:
        raise SystemExit(3)

    codec = msg.mk_codec(PurePath, ext_types=[PurePath], ext_dec=exits)
    with pytest.raises(SystemExit), msg.apply_codec(codec):
        async with tree.portal.open_context(ep.is_left_alone):
            raise AssertionError("entered")
    assert await tree.portal.run(ep.running) == 0


@in_tree
async def test_showing_a_context_reads_nothing(tree: Tree) -> None:
    async with tree.portal.open_context(ep.context_gives, name="evil", where="") as (ctx, _):
        async with ctx.open_stream():
            pass
        while str(ctx.state) != "result-returned":
            await trio.lowlevel.checkpoint()
        with msg.limit_plds(int):
            assert "result of 1 bytes, not read" in repr(ctx)
            assert ctx.maybe_error is None
        assert await ctx.wait_for_result() is None
        assert ctx.repr_outcome() == "None"


@in_tree
async def test_codecs_of_one_dialog_that_overlap(tree: Tree) -> None:
    async with tree.portal.open_context(ep.context_gives, name="evil", where="") as (ctx, _):
        blocks = [msg.apply_codec(msg.mk_codec(spec), ctx) for spec in (int, str, bytes)]
        for block in blocks:
            block.__enter__()
        specs = [ctx.pld_rx.spec]
        for block in (blocks[1], blocks[0], blocks[2]):
            block.__exit__(None, None, None)
            specs.append(ctx.pld_rx.spec)
        assert specs == [bytes, bytes, bytes, Any]
        assert ctx.pld_rx.codec is None
        async with ctx.open_stream():
            pass


@in_tree
async def test_a_hook_that_sends_on_the_same_channel(tree: Tree) -> None:
    chan = tree.portal.chan

    def sends(path: Any) -> list[Any]:
        for _ in range(50):
            # As `ctx.cancel()` does first, here for a task that has ended.
            request_cancel(chan, 1)
        return ["path", str(path)]

    async with tree.portal.open_context(ep.collects) as (ctx, _):
        async with ctx.open_stream() as stream:
            with msg.apply_codec(msg.mk_codec(enc_hook=sends, ext_types=[PurePath])):
                await stream.send([1, PurePath("x"), "y" * 2000])
            await stream.send(2)
        assert await ctx.wait_for_result() == [[1, ["path", "x"], "y" * 2000], 2]


# -- misuse of decorators and codecs --


def test_a_context_parameter_that_cannot_be_given_by_name() -> None:
    async def by_position(ctx: tractor.Context, /) -> None: ...
    async def many(*ctx: tractor.Context) -> None: ...

    for fn in (by_position, many):
        with pytest.raises(TypeError, match=r"'ctx'.*given by name"):
            tractor.context(fn)


@pytest.mark.parametrize("exts", [PurePath, "PurePath", 5, ["PurePath"]])
def test_ext_types_that_are_no_list_of_types(exts: Any) -> None:
    async def endpoint(ctx: tractor.Context) -> None: ...

    def hook(*_: Any) -> Any: ...

    for make in (
        lambda: msg.mk_codec(int, ext_types=exts, ext_dec=hook),
        lambda: msg.mk_dec(int, hook, exts),
        lambda: tractor.context(ext_types=exts, dec_hook=hook)(endpoint),
    ):
        with pytest.raises(
            TypeError, match=r"ext_types.*PurePath|PurePath.*ext_types|ext_types.* 5"
        ):
            make()


def test_hooks_that_are_no_functions() -> None:
    async def endpoint(ctx: tractor.Context) -> None: ...

    for which in ("enc_hook", "dec_hook"):
        with pytest.raises(TypeError, match=f"{which}.*not 'x'"):
            tractor.context(**{which: "x"}, ext_types=[PurePath])(endpoint)  # type: ignore[call-overload]
