"""Who sees what when a context's remote task is cancelled: the table of the semantics, row by row.

Each row is run over real processes with every combination of where the child is blocked and where
the opener waits, all of them at once over one channel.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import ep_matrix
import ep_peer
import pytest
import trio
import trio.testing
from ep_matrix import blocks, cancel_actor_named, cancel_context, child_view, ends_when_let
from ep_peer import open_peer, own_uid, peer_uid, run, settle

import tractor

pytestmark = pytest.mark.usefixtures("forked_actors")

CHILD_BLOCKED_IN = ("sleep", "receive", "send")
OWNER_WAITS_IN = ("block", "stream", "receive", "result", "exit")


class OwnError(Exception):
    """What a block raises by itself."""


@dataclass
class View:
    """One context, and what its opener saw of its end."""

    key: str
    child: str
    owner: str
    ctx: tractor.Context | None = None
    raised: BaseException | None = None
    """What came out of the block."""
    inside: Any = None
    """What `wait_for_result()` returned within the block."""
    entered: trio.Event = field(default_factory=trio.Event)
    closed: trio.Event = field(default_factory=trio.Event)

    def entered_ctx(self) -> tractor.Context:
        assert self.ctx is not None
        return self.ctx


@dataclass(frozen=True)
class Row:
    """What the table says; uids by whose they are; ``...`` where it says nothing."""

    ctxc_canceller: str | None
    block: type[BaseException] | None
    """The exact type of what leaves the block, ``None``: nothing."""
    ctx_canceller: str | None
    called: bool
    acked: Any
    result: Any
    """``'ctxc'`` returned as a value, ``'value'``, or ``'raises'``."""
    state: str


ROWS = {
    "own ctx.cancel()": Row("own", None, "own", True, True, "ctxc", "self-cancelled"),
    "own, returned first": Row(None, None, None, True, False, "value", "result-returned"),
    "own, raised first": Row(
        None, tractor.RemoteActorError, "peer", True, False, "raises", "errored"
    ),
    "own cancel_actor()": Row(
        "own", tractor.ContextCancelled, "own", False, False, "raises", "peer-cancelled"
    ),
    "child ctx.cancel()": Row(
        "peer", tractor.ContextCancelled, "peer", False, False, "raises", "peer-cancelled"
    ),
    "third actor": Row(
        "third", tractor.ContextCancelled, "peer", False, False, "raises", "peer-cancelled"
    ),
    "supervisor": Row(
        "third", tractor.ContextCancelled, "peer", False, False, "raises", "peer-cancelled"
    ),
    "block cancelled": Row("own", trio.Cancelled, "own", True, ..., ..., "actor-cancelled"),
    "block raised": Row("own", OwnError, "own", True, ..., ..., "errored"),
}


# -- the two sides --


async def wait_as(view: View, ctx: tractor.Context) -> None:
    """Be the owner: wait where the variant wants it."""
    if view.owner == "block":
        await trio.sleep_forever()
    elif view.owner == "stream":
        async with ctx.open_stream():
            await trio.sleep_forever()
    elif view.owner == "receive":
        async with ctx.open_stream() as stream:
            async for _ in stream:
                pass
    elif view.owner == "result":
        view.inside = await ctx.wait_for_result()


async def own(
    portal: tractor.Portal,
    view: View,
    then: str = "unwind",
    body: Callable[[View, tractor.Context], Awaitable[None]] = wait_as,
) -> None:
    """Open the context, wait, note what came out of its block."""
    try:
        async with portal.open_context(blocks, key=view.key, how=view.child, then=then) as (
            ctx,
            first,
        ):
            assert first == view.key
            view.ctx = ctx
            view.entered.set()
            await body(view, ctx)
    except trio.Cancelled as exc:
        view.raised = exc
        raise
    except BaseException as exc:
        view.raised = exc
    finally:
        view.closed.set()


def all_views(owners: tuple[str, ...] = OWNER_WAITS_IN, tag: str = "") -> list[View]:
    """Every variant; the one that can't be is left out: who receives leaves no sender waiting."""
    return [
        View(f"{tag}{child}-{owner}", child, owner)
        for child, owner in product(CHILD_BLOCKED_IN, owners)
        if (child, owner) != ("send", "receive")
    ]


async def blocked(portal: tractor.Portal, views: list[View]) -> None:
    """Return when all contexts are open and both sides of them wait."""
    for view in views:
        await view.entered.wait()
    await portal.run(settle)
    await trio.testing.wait_all_tasks_blocked()


# -- the check --


async def result_after(ctx: tractor.Context) -> tuple[str, Any]:
    """What `wait_for_result()` gives when asked after the end, in the words of the table."""
    try:
        value = await ctx.wait_for_result()
    except Exception as exc:
        return "raises", exc
    return ("ctxc" if isinstance(value, tractor.ContextCancelled) else "value"), value


async def differences(row: Row, view: View, uids: dict[str, Any]) -> list[str]:
    """Where what was seen differs from the row."""
    ctx = view.entered_ctx()
    seen: dict[str, Any] = {}
    want: dict[str, Any] = {}

    def compare(what: str, has: Any, should: Any) -> None:
        if should is not ...:
            seen[what], want[what] = has, should

    compare("type out of the block", type(view.raised), row.block or type(None))
    compare("ctx.canceller", ctx.canceller, row.ctx_canceller and uids[row.ctx_canceller])
    compare("cancel_called", ctx.cancel_called, row.called)
    compare("cancel_acked", ctx.cancel_acked, row.acked)
    compare("state", str(ctx.state), row.state)
    compare("has_outcome", ctx.has_outcome, True)
    error = ctx.maybe_error
    if row.ctxc_canceller is not None:
        compare("type of maybe_error", type(error), tractor.ContextCancelled)
        canceller = getattr(error, "canceller", "no ctxc")
        compare("ctxc.canceller", canceller, uids[row.ctxc_canceller])
        compare("outcome", ctx.outcome is error, True)
    if row.result is not ...:
        for turn in ("1st", "2nd"):
            kind, value = await result_after(ctx)
            compare(f"wait_for_result(), {turn} time", kind, row.result)
            compare(f"its outcome, {turn} time", value, view.key if kind == "value" else error)
        if row.result != "raises" and view.owner == "result":
            compare("wait_for_result() in the block", view.inside, ctx.outcome)
    if row.block in (tractor.ContextCancelled, tractor.RemoteActorError):
        compare("what the block raised", view.raised, error)
    return [
        f"{view.key}: {what} is {seen[what]!r}, should be {want[what]!r}"
        for what in want
        if seen[what] != want[what]
    ]


async def assert_row(name: str, views: list[View], uids: dict[str, Any]) -> None:
    """Hold every variant against the row; report all that differ."""
    wrong: list[str] = []
    for view in views:
        wrong += await differences(ROWS[name], view, uids)
    assert not wrong, "\n".join([f"row {name!r}:", *wrong])


async def assert_child(portal: tractor.Portal, views: list[View], **expected: Any) -> None:
    """Hold the child sides' status against the expectation; report all that differ."""
    wrong = []
    for view in views:
        seen = await portal.run(child_view, key=view.key)
        seen["canceller"] = seen["canceller"] and tuple(seen["canceller"])
        wrong += [
            f"{view.key}: child's {k} is {seen[k]!r}, should be {v!r}"
            for k, v in expected.items()
            if seen[k] != v
        ]
    assert not wrong, "\n".join(wrong)


def uids_of(portal: tractor.Portal, third: Any = None) -> dict[str, Any]:
    return {"own": own_uid(), "peer": peer_uid(portal), "third": third}


# -- requested by the parent side --


def test_cancel_by_another_local_task(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            views = all_views()
            async with trio.open_nursery() as tn:
                for view in views:
                    tn.start_soon(own, portal, view)
                await blocked(portal, views)
                for view in views:
                    tn.start_soon(view.entered_ctx().cancel)
            await assert_row("own ctx.cancel()", views, uids_of(portal))
            for view in views:
                if view.owner in ("block", "stream"):
                    assert view.entered_ctx().cancelled_caught, f"{view.key} was not unwound"
                elif view.owner in ("result", "exit"):
                    # Who waits for the final message is left to receive it.
                    assert not view.entered_ctx().cancelled_caught, f"{view.key} was unwound"
            await assert_child(
                portal,
                views,
                state="peer-cancelled",
                canceller=own_uid(),
                cancel_called=False,
                cancelled_caught=True,
            )

    run(main)


async def cancel_then_wait(view: View, ctx: tractor.Context) -> None:
    """Be the owner that cancels and goes on."""
    if view.owner == "stream":
        async with ctx.open_stream():
            await ctx.cancel()
    elif view.owner == "receive":
        async with ctx.open_stream() as stream:
            await ctx.cancel()
            # What had come may still be read; then comes the error, each time.
            with pytest.raises(tractor.ContextCancelled):
                await drain(stream)
            await stream.receive()
    else:
        await ctx.cancel()
        if view.owner == "result":
            view.inside = await ctx.wait_for_result()


async def drain(stream: tractor.MsgStream) -> None:
    while True:
        await stream.receive()


def test_cancel_by_the_owner(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            views = all_views(("stream", "receive", "result", "exit"))
            async with trio.open_nursery() as tn:
                for view in views:
                    tn.start_soon(own, portal, view, "unwind", cancel_then_wait)
            await assert_row("own ctx.cancel()", views, uids_of(portal))
            assert not any(v.entered_ctx().cancelled_caught for v in views)

    run(main)


def test_cancel_by_the_owner_while_the_child_sends_and_the_owner_has_a_stream(
    reg_addr: Any,
) -> None:
    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            view = View("one", "send", "receive")
            await own(portal, view, "unwind", cancel_then_wait)
            await assert_row("own ctx.cancel()", [view], uids_of(portal))

    run(main)


def test_several_local_tasks_cancel_one_context(reg_addr: Any) -> None:
    """Asking again joins the first request: each returns when the remote task has ended."""

    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            view = View("one", "sleep", "block")
            ended: list[str] = []

            async def ask() -> None:
                await view.entered_ctx().cancel()
                ended.append(str(view.entered_ctx().state))

            async with trio.open_nursery() as tn:
                tn.start_soon(own, portal, view)
                await blocked(portal, [view])
                for _ in range(3):
                    tn.start_soon(ask)
            assert ended == ["self-cancelled"] * 3
            await assert_row("own ctx.cancel()", [view], uids_of(portal))

    run(main)


@pytest.mark.parametrize("asker", ["owner", "another task"])
def test_the_task_returned_when_it_was_cancelled(reg_addr: Any, asker: str) -> None:
    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            views = all_views(("receive", "result", "exit"))
            body = cancel_then_leave if asker == "owner" else wait_as
            async with trio.open_nursery() as tn:
                for view in views:
                    tn.start_soon(own, portal, view, "return", body)
                if asker != "owner":
                    await blocked(portal, views)
                    for view in views:
                        tn.start_soon(view.entered_ctx().cancel)
            await assert_row("own, returned first", views, uids_of(portal))
            await assert_child(portal, views, state="result-returned", canceller=own_uid())

    run(main)


async def cancel_then_leave(view: View, ctx: tractor.Context) -> None:
    """Be the owner that cancels and then waits where no scope is expected to unwind it."""
    if view.owner == "receive":
        async with ctx.open_stream() as stream:
            await ctx.cancel()
            async for _ in stream:
                pass
    else:
        await ctx.cancel()
        if view.owner == "result":
            view.inside = await ctx.wait_for_result()


def test_cancel_after_the_result_has_come(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            view = View("one", "-", "-")
            async with portal.open_context(ends_when_let, key="one", then="return") as (ctx, _):
                view.ctx = ctx
                await portal.run(ep_matrix.let_go, key="one")
                while not ctx.has_outcome:
                    await trio.testing.wait_all_tasks_blocked(0.001)
                await ctx.cancel()
            await assert_row("own, returned first", [view], uids_of(portal))

    run(main)


@pytest.mark.parametrize("asker", ["owner", "another task"])
def test_the_task_raised_when_it_was_cancelled(reg_addr: Any, asker: str) -> None:
    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            owners = ("result", "exit") if asker == "owner" else OWNER_WAITS_IN
            views = all_views(owners)
            body = cancel_then_leave if asker == "owner" else wait_as
            async with trio.open_nursery() as tn:
                for view in views:
                    tn.start_soon(own, portal, view, "raise", body)
                if asker != "owner":
                    await blocked(portal, views)
                    for view in views:
                        tn.start_soon(view.entered_ctx().cancel)
            await assert_row("own, raised first", views, uids_of(portal))
            assert all(v.raised.src_type is ValueError for v in views)  # type: ignore[union-attr]
            assert [v.raised.message for v in views] == [v.key for v in views]  # type: ignore[union-attr]
            await assert_child(portal, views, state="errored", canceller=own_uid())

    run(main)


def test_cancel_after_the_task_has_raised(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            view = View("one", "-", "-")
            with pytest.raises(tractor.RemoteActorError) as caught:  # noqa: PT012
                async with portal.open_context(ends_when_let, key="one", then="raise") as (ctx, _):
                    view.ctx = ctx
                    with trio.CancelScope(shield=True):
                        await portal.run(ep_matrix.let_go, key="one")
                        while not ctx.has_outcome:
                            await trio.testing.wait_all_tasks_blocked(0.001)
                        await ctx.cancel()
            view.raised = caught.value
            await assert_row("own, raised first", [view], uids_of(portal))

    run(main)


# -- requested by others --


def test_own_cancel_actor(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            views = all_views()
            async with trio.open_nursery() as tn:
                for view in views:
                    tn.start_soon(own, portal, view)
                await blocked(portal, views)
                assert await portal.cancel_actor()
            await assert_row("own cancel_actor()", views, uids_of(portal))

    run(main)


def test_child_side_cancels_itself(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            views = all_views()
            async with trio.open_nursery() as tn:
                for view in views:
                    tn.start_soon(own, portal, view)
                await blocked(portal, views)
                for view in views:
                    await portal.run(cancel_context, key=view.key)
            await assert_row("child ctx.cancel()", views, uids_of(portal))
            await assert_child(
                portal,
                views,
                state="self-cancelled",
                canceller=peer_uid(portal),
                cancel_called=True,
                cancelled_caught=True,
            )
            assert all("itself" in v.raised.message for v in views)  # type: ignore[union-attr]

    run(main)


def test_third_actor_cancels_the_childs_actor(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("peer", enable_modules=["ep_matrix", "ep_peer"])
            third = await an.start_actor("third", enable_modules=["ep_matrix"])
            views = all_views()
            async with trio.open_nursery() as tn:
                for view in views:
                    tn.start_soon(own, portal, view)
                await blocked(portal, views)
                assert await third.run(cancel_actor_named, name="peer")
            await assert_row("third actor", views, uids_of(portal, peer_uid(third)))
            assert all("a remote peer" in v.raised.message for v in views)  # type: ignore[union-attr]
            await third.cancel_actor()

    run(main)


def test_supervisor_that_is_not_the_opener_cancels_its_nursery(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr, name="supervisor") as supervisor:
            views = all_views()
            async with (
                supervisor.open_context(
                    ep_matrix.supervises, name="worker", modules=["ep_matrix", "ep_peer"]
                ) as (sup, _),
                tractor.wait_for_actor("worker") as portal,
            ):
                async with sup.open_stream() as stream, trio.open_nursery() as tn:
                    for view in views:
                        tn.start_soon(own, portal, view)
                    await blocked(portal, views)
                    await stream.aclose()
                await assert_row("supervisor", views, uids_of(portal, peer_uid(supervisor)))

    run(main)


# -- the parent block itself --


def test_parent_block_cancelled_by_trio(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            views = all_views()
            async with trio.open_nursery() as tn:
                for view in views:
                    tn.start_soon(own, portal, view)
                await blocked(portal, views)
                tn.cancel_scope.cancel()
            assert tn.cancel_scope.cancelled_caught
            await assert_row("block cancelled", views, uids_of(portal))
            await assert_child(portal, views, state="peer-cancelled", canceller=own_uid())

    run(main)


async def wait_then_raise(view: View, ctx: tractor.Context) -> None:
    """Be the owner whose block fails while the child is blocked."""
    await ep_peer.settle()
    if view.owner == "block":
        raise OwnError(view.key)
    async with ctx.open_stream():
        raise OwnError(view.key)


def test_parent_block_raised(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            views = all_views(("block", "stream"))
            for view in views:
                await own(portal, view, "unwind", wait_then_raise)
                assert str(view.raised) == view.key
            await assert_row("block raised", views, uids_of(portal))
            await assert_child(portal, views, state="peer-cancelled", canceller=own_uid())

    run(main)


# -- the text below the table --


def test_foreign_cancellation_and_an_error_of_the_block(reg_addr: Any) -> None:
    """The block's own error propagates, the outcome stays the remote error."""

    async def fail_meanwhile(view: View, ctx: tractor.Context) -> None:
        try:
            await wait_as(view, ctx)
        finally:
            raise OwnError(view.key)

    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            views = all_views(("block", "stream", "receive", "result"))
            async with trio.open_nursery() as tn:
                for view in views:
                    tn.start_soon(own, portal, view, "unwind", fail_meanwhile)
                await blocked(portal, views)
                for view in views:
                    await portal.run(cancel_context, key=view.key)
            for view in views:
                ctx = view.entered_ctx()
                assert type(view.raised) is OwnError, view
                assert type(ctx.outcome) is tractor.ContextCancelled, view
                assert ctx.outcome is ctx.maybe_error
                assert ctx.outcome.canceller == peer_uid(portal)
                assert str(ctx.state) == "peer-cancelled", view
            assert await portal.run(ep_peer.ping) == "pong"

    run(main)


def test_a_foreign_ctxc_can_be_handled_in_the_block(reg_addr: Any) -> None:
    """Who reads gets the ctxc itself; swallowing it there does not make it unseen at the exit."""

    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            with pytest.raises(tractor.ContextCancelled) as caught:  # noqa: PT012
                async with portal.open_context(blocks, key="one", how="sleep") as (ctx, _):
                    await portal.run(cancel_context, key="one")
                    with pytest.raises(tractor.ContextCancelled), trio.CancelScope(shield=True):
                        await ctx.wait_for_result()
            assert caught.value is ctx.maybe_error
            with pytest.raises(tractor.ContextCancelled):
                ctx.maybe_raise()

    run(main)


def test_an_own_cancel_is_absorbed_by_maybe_raise(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            async with portal.open_context(blocks, key="one", how="sleep") as (ctx, _):
                ctx.maybe_raise()
                await ctx.cancel()
                ctx.maybe_raise()
                assert str(ctx.state) == "self-cancelled"
            ctx.maybe_raise()

    run(main)


def test_a_ctxc_that_crosses_a_further_actor_is_an_inception(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr, name="middle") as portal:
            leaf: Any = None
            with pytest.raises(tractor.RemoteActorError) as caught:
                async with portal.open_context(
                    ep_matrix.relays_leaf, modules=["ep_matrix"], key="one"
                ) as (ctx, leaf):
                    await trio.sleep_forever()
            error = caught.value
            leaf = tuple(leaf)
            assert type(error) is tractor.RemoteActorError
            assert error.is_inception()
            assert error.boxed_type is tractor.RemoteActorError
            assert error.src_type is trio.Cancelled
            assert error.src_uid == leaf
            assert error.relay_path == [leaf, peer_uid(portal)]
            assert error.relay_uid == peer_uid(portal)
            assert error.canceller == leaf
            # To the opener it is an error of its peer, not a cancellation.
            assert str(ctx.state) == "errored"
            assert not ctx.cancel_called

    run(main)


def test_cancel_is_bounded_when_the_task_does_not_end(reg_addr: Any) -> None:
    """`cancel(timeout)` gives up waiting; the dialog goes on until its end comes."""

    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            async with portal.open_context(ep_matrix.shielded, key="one") as (ctx, _):
                await ctx.cancel(timeout=0.05)
                assert ctx.cancel_called
                assert not ctx.cancel_acked
                assert str(ctx.state) == "cancelling"
                assert not ctx.has_outcome
                await portal.run(ep_matrix.let_go, key="one")
                # For a checker the endpoint returns nothing; an own cancel gives the report instead.
                result = await ctx.wait_for_result()  # type: ignore[func-returns-value]
                assert type(result) is tractor.ContextCancelled  # type: ignore[comparison-overlap]
                assert ctx.cancel_acked
            assert str(ctx.state) == "self-cancelled"

    run(main)


def test_a_cancelled_block_does_not_wait_longer_than_the_bound(reg_addr: Any) -> None:
    """The remote task holds on; the cancelled opener leaves, and what comes late is ignored."""

    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            with trio.CancelScope() as scope:
                async with portal.open_context(ep_matrix.shielded, key="one") as (ctx, _):
                    scope.cancel()
                    await trio.sleep_forever()
            assert scope.cancelled_caught
            assert str(ctx.state) == "actor-cancelled"
            assert ctx.cancel_called
            assert not ctx.cancel_acked
            await portal.run(ep_matrix.let_go, key="one")
            assert await portal.run(ep_peer.ping) == "pong"

    run(main)


def test_cancelled_while_the_context_is_being_opened(reg_addr: Any) -> None:
    """The endpoint has not called `started()`: it is cancelled too."""

    async def main() -> None:
        async with open_peer("ep_matrix", reg_addr=reg_addr) as portal:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as tn:

                    async def opener() -> None:
                        async with portal.open_context(ep_matrix.never_starts, key="one"):
                            raise AssertionError("it has not started")

                    tn.start_soon(opener)
                    await portal.run(ep_matrix.until_known, key="one")
                    scope.cancel()
            assert scope.cancelled_caught
            view = await portal.run(child_view, key="one")
            assert view["state"] == "peer-cancelled"
            assert tuple(view["canceller"]) == own_uid()

    run(main)
