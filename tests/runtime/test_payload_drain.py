"""Discarding what the peer streams until the final message of a dialog."""

from __future__ import annotations

import ep_payloads as ep
import ep_peer
import msgspec
import pytest
import trio
import trio.testing
from ep_marks import gets_signals
from ep_payloads import PUPPETS
from ep_tree import Tree, in_tree, module_tree

import tractor
from tractor import msg
from tractor.msg.types import Return, Yield

# The fixture `tree`.
_ = module_tree


@pytest.mark.parametrize("n", [0, 3, 64])
@pytest.mark.parametrize("limit", [0, 2, 6, 1000])
@pytest.mark.parametrize("buffered_first", [False, True])
@in_tree
async def test_drain(tree: Tree, n: int, limit: int, buffered_first: bool) -> None:
    key = tree.key()
    async with tree.portal.open_context(ep.sends_many, key=key, n=n) as (ctx, _):
        if buffered_first:
            while ctx.statistics().buffered < n:
                await trio.testing.wait_all_tasks_blocked(0.001)
        final, drained = await msg.drain_to_final_msg(ctx, msg_limit=limit)
        assert isinstance(final, Return)
        assert msgspec.msgpack.decode(final.pld) == key
        assert [msgspec.msgpack.decode(m.pld) for m in drained] == list(range(min(n, limit)))
        assert {(type(m), m.cid) for m in drained} <= {(Yield, ctx.cid)}
        assert await ctx.wait_for_result() == key
        # Once more, after the end: the same, with nothing left to discard.
        assert await msg.drain_to_final_msg(ctx) == (final, [])
        assert ctx.statistics().buffered == 0


@in_tree
async def test_drain_default_limit(tree: Tree) -> None:
    async with tree.portal.open_context(ep.sends_many, key=tree.key(), n=20) as (ctx, _):
        _, drained = await msg.drain_to_final_msg(ctx)
        assert len(drained) == 6
        with pytest.raises(ValueError, match="-1"):
            await msg.drain_to_final_msg(ctx, msg_limit=-1)


@in_tree
async def test_senders_under_back_pressure_go_on_while_drained(tree: Tree) -> None:
    key = tree.key()
    async with tree.portal.open_context(ep.sends_many, key=key, n=1000, backpressure=True) as (
        ctx,
        _,
    ):
        async with ctx.open_stream(backpressure=True) as stream:
            assert await stream.receive() == 0
            final, drained = await msg.drain_to_final_msg(ctx, msg_limit=2000)
        assert isinstance(final, Return)
        assert [msgspec.msgpack.decode(m.pld) for m in drained] == list(range(1, 1000))


@in_tree
async def test_drain_to_an_error(tree: Tree) -> None:
    key = tree.key()
    with pytest.raises(tractor.RemoteActorError) as caught:  # noqa: PT012
        async with tree.portal.open_context(ep.sends_many, key=key, n=3, then="raise") as (
            ctx,
            _,
        ):
            final, drained = await msg.drain_to_final_msg(ctx)
            assert isinstance(final, msg.Error)
            assert (final.boxed_type_str, final.message) == ("ValueError", key)
            assert len(drained) == 3
            assert isinstance(ctx.maybe_error, tractor.RemoteActorError)
    assert caught.value is ctx.maybe_error
    assert caught.value.boxed_type is ValueError


@in_tree
async def test_drain_after_an_own_cancel(tree: Tree) -> None:
    async with tree.portal.open_context(ep.sends_many, key=tree.key(), n=3, then="wait") as (
        ctx,
        _,
    ):
        await ctx.cancel()
        final, _drained = await msg.drain_to_final_msg(ctx)
        assert isinstance(final, msg.Error)
        assert final.canceller == ep_peer.own_uid()
    assert ctx.cancel_acked


@in_tree
async def test_a_drain_that_is_cancelled_can_be_done_again(tree: Tree) -> None:
    async with tree.portal.open_context(ep.sends_many, key=tree.key(), n=3, then="wait") as (
        ctx,
        _,
    ):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as tn:

                async def end_it() -> None:
                    await ep.discarded(ctx, 3)
                    scope.cancel()

                tn.start_soon(end_it)
                await msg.drain_to_final_msg(ctx)
        assert scope.cancelled_caught
        assert str(ctx.state) == "started"
        async with trio.open_nursery() as tn:
            tn.start_soon(ctx.cancel)
            final, drained = await msg.drain_to_final_msg(ctx)
        assert isinstance(final, msg.Error)
        assert drained == []


@in_tree
async def test_payloads_that_are_drained_are_not_checked(tree: Tree) -> None:
    steps = [["started", "none"], ["send", "int.bad"]]
    async with tree.portal.open_context(
        PUPPETS["int"], key=tree.key(), steps=steps, result="int.good"
    ) as (ctx, _):
        final, drained = await msg.drain_to_final_msg(ctx)
        assert isinstance(final, Return)
        assert [bytes(m.pld) for m in drained] == [msgspec.msgpack.encode("seven")]
    assert ctx.outcome == 7


@in_tree
async def test_drain_on_the_endpoints_side(tree: Tree) -> None:
    async with tree.portal.open_context(ep.drains) as (ctx, _):
        assert "drain_to_final_msg()` is for the side that opened" in (await ctx.wait_for_result())


@gets_signals
@pytest.mark.skipon_spawn_backend(
    "mp_forkserver", reason="the actor keeps the fork server that it starts, and outlives the test"
)
@in_tree
async def test_the_peer_is_lost_while_it_is_drained(tree: Tree) -> None:
    """In the actor, which loses a child of its own: the tree stays whole."""
    told = await tree.portal.run(ep.loses_what_it_drains)
    assert told == {"final": None, "drained": [0, 1, 2], "maybe_error": "TransportClosed"}
