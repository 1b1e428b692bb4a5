"""The rules of a context's dialog, over real processes."""

from __future__ import annotations

from functools import partial
from typing import Any

import ep_context
import ep_matrix
import ep_peer
import msgspec
import pytest
import trio
import trio.testing
from ep_peer import open_peer, own_uid, peer_uid, run

import tractor
from tractor.runtime.dialog._context_core import Unresolved

pytestmark = pytest.mark.usefixtures("forked_actors")


async def until_ended(ctx: tractor.Context) -> None:
    """Return when the final message has come, without being the one that waits for it."""
    while not ctx.has_outcome:
        await trio.testing.wait_all_tasks_blocked(0.001)


# -- how it begins --


@pytest.mark.parametrize(
    "value", [None, 0, "text", b"bytes", [1, [2, {"three": 3.5}]], {"a": None}, ""]
)
def test_first_value_and_result_arrive(value: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_context") as portal:
            async with portal.open_context(ep_context.echoes, first=value, result=[value]) as (
                ctx,
                first,
            ):
                assert first == value
                assert await ctx.wait_for_result() == [value]
            assert ctx.outcome == [value]

    run(main)


def test_started_the_second_time(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_context", reg_addr=reg_addr) as portal,
            portal.open_context(ep_context.starts_twice) as (ctx, first),
        ):
            assert first == 1
            assert "once" in await ctx.wait_for_result()

    run(main)


def test_started_on_the_parent_side() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_context") as portal,
            portal.open_context(ep_context.echoes) as (ctx, _),
        ):
            with pytest.raises(RuntimeError, match="endpoint's side"):
                await ctx.started("mine")

    run(main)


def test_stream_before_started() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_context") as portal,
            portal.open_context(ep_context.streams_before_started) as (_, error),
        ):
            assert "started()" in error

    run(main)


def test_endpoint_that_returns_without_started(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_context", reg_addr=reg_addr) as portal:
            with pytest.raises(tractor.RemoteActorError) as caught:
                async with portal.open_context(ep_context.returns_without_started):
                    raise AssertionError("the block must not be entered")
            assert caught.value.boxed_type is tractor.MessagingError
            assert "returned without `started()`" in caught.value.message
            assert await portal.run(ep_peer.ping) == "pong"

    run(main)


def test_endpoint_that_raises_before_started(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_context", reg_addr=reg_addr) as portal:
            with pytest.raises(tractor.RemoteActorError) as caught:
                async with portal.open_context(ep_context.raises_before_started):
                    raise AssertionError("the block must not be entered")
            assert caught.value.boxed_type is KeyError
            assert caught.value.src_uid == peer_uid(portal)
            assert await portal.run(ep_peer.ping) == "pong"

    run(main)


def test_an_error_of_the_endpoint_unwinds_the_block() -> None:
    async def main() -> None:
        async with open_peer("ep_context") as portal:
            with pytest.raises(tractor.RemoteActorError, match="after") as caught:
                async with portal.open_context(ep_context.raises_after_started):
                    await trio.sleep_forever()
            assert caught.value.boxed_type is KeyError

    run(main)


# -- which functions --


@pytest.mark.parametrize("name", ["of_any_name", "optional_name", "old_style_optional"])
def test_the_context_parameter_may_have_any_name(name: str) -> None:
    async def main() -> None:
        fn = getattr(ep_context, name)
        async with (
            open_peer("ep_context") as portal,
            portal.open_context(fn, n=1) as (ctx, first),
        ):
            assert first == 1
            assert await ctx.wait_for_result() == 2

    run(main)


def test_string_annotation() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_context") as portal,
            portal.open_context(ep_context.string_name, n=1) as (ctx, _),
        ):
            assert await ctx.wait_for_result() == 2

    run(main)


def test_no_parameter_annotated_as_context() -> None:
    with pytest.raises(TypeError, match=r"ctx: tractor\.Context"):

        @tractor.context
        async def bare(ctx: Any) -> None: ...


@pytest.mark.parametrize("name", ["adds_one", "not_async", "yields"])
def test_a_function_that_is_not_decorated(name: str) -> None:
    async def main() -> None:
        async with open_peer("ep_context") as portal:
            with pytest.raises(TypeError, match="context"):
                async with portal.open_context(getattr(ep_context, name)):
                    raise AssertionError("the block must not be entered")

    run(main)


def test_a_context_to_the_own_actor() -> None:
    async def main() -> None:
        async with tractor.open_nursery(enable_modules=["ep_context"]):  # noqa: SIM117
            async with tractor.wait_for_actor("root") as portal:
                with pytest.raises(RuntimeError, match="Invalid Operation"):
                    async with portal.open_context(ep_context.echoes):
                        raise AssertionError("the block must not be entered")

    run(main)


def test_keywords_that_open_context_takes_itself_go_by_partial() -> None:
    async def main() -> None:
        fn = partial(ep_context.takes_reserved_names, allow_overruns=True, hide_tb="yes")
        async with (
            open_peer("ep_context") as portal,
            portal.open_context(fn) as (ctx, _),
        ):
            result: Any = await ctx.wait_for_result()
            assert result == (True, "yes")
            assert not ctx._core.port.recv.allow_overruns

    run(main)


def test_keywords_of_a_partial_are_merged_with_others() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_context") as portal,
            portal.open_context(partial(ep_context.echoes, first=1), result=2) as (ctx, first),
        ):
            assert (first, await ctx.wait_for_result()) == (1, 2)

    run(main)


def refused(fn_path: str, kwargs: dict[str, Any], modules: list[str]) -> tractor.RemoteActorError:
    """The error of a context whose request is refused by the peer, which lives on."""

    async def main() -> tractor.RemoteActorError:
        async with open_peer(*modules) as portal:
            fn = ep_context.echoes
            opening = portal.open_context(fn)
            opening._kwargs = kwargs
            ns, name = fn_path.split(":")
            opening._target = msgspec.structs.replace(opening._target, ns=ns, name=name)
            with pytest.raises(tractor.RemoteActorError) as caught:
                async with opening:
                    raise AssertionError("the block must not be entered")
            assert await portal.run(ep_peer.ping) == "pong"
            return caught.value

    error: tractor.RemoteActorError = run(main)
    return error


def test_module_that_is_not_exposed() -> None:
    error = refused("ep_context:echoes", {}, [])
    assert error.boxed_type is tractor.ModuleNotExposed
    assert "ep_context" in error.message
    assert "enable_modules" in error.message


def test_unknown_function() -> None:
    error = refused("ep_context:no_such_thing", {}, ["ep_context"])
    assert error.boxed_type is AttributeError
    assert "no_such_thing" in error.message


@pytest.mark.parametrize("name", ["not_async", "NotAFunction", "NOT_ASYNC_MARK"])
def test_no_async_function(name: str) -> None:
    error = refused(f"ep_context:{name}", {}, ["ep_context"])
    assert error.boxed_type is TypeError
    assert "must be an async function" in error.message


@pytest.mark.parametrize("name", ["adds_one", "yields"])
def test_function_of_another_kind(name: str) -> None:
    error = refused(f"ep_context:{name}", {}, ["ep_context"])
    assert error.boxed_type is TypeError
    assert "must be an async function" in error.message


@pytest.mark.parametrize("kwargs", [{"no_such": 1}, {"ctx": 1}])
def test_arguments_that_do_not_fit(kwargs: dict[str, Any]) -> None:
    error = refused("ep_context:echoes", kwargs, ["ep_context"])
    assert error.boxed_type is TypeError


def test_argument_that_is_missing() -> None:
    error = refused("ep_context:of_any_name", {}, ["ep_context"])
    assert error.boxed_type is TypeError
    assert "'n'" in error.message


# -- results --


def test_wait_for_result_is_idempotent() -> None:
    async def main() -> None:
        async with open_peer("ep_context") as portal:
            async with portal.open_context(ep_context.echoes, result="value") as (ctx, _):
                for _ in range(3):
                    assert await ctx.wait_for_result() == "value"
            assert await ctx.wait_for_result() == "value"

    run(main)


def test_wait_for_result_raises_each_time() -> None:
    async def main() -> None:
        async with open_peer("ep_matrix") as portal:
            with pytest.raises(tractor.RemoteActorError):  # noqa: PT012
                async with portal.open_context(ep_matrix.ends_when_let, key="k", then="raise") as (
                    ctx,
                    _,
                ):
                    await portal.run(ep_matrix.let_go, key="k")
                    await ctx.wait_for_result()
            for _ in range(2):
                with pytest.raises(tractor.RemoteActorError) as caught:
                    await ctx.wait_for_result()
                assert caught.value is ctx.maybe_error

    run(main)


def test_wait_for_result_on_the_child_side() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_context") as portal,
            portal.open_context(ep_context.asks_for_its_result) as (ctx, _),
        ):
            assert "return a value" in await ctx.wait_for_result()

    run(main)


def test_several_tasks_wait_for_one_result() -> None:
    async def main() -> None:
        results: list[Any] = []

        async def wait(ctx: tractor.Context) -> None:
            results.append(await ctx.wait_for_result())

        async with (
            open_peer("ep_context") as portal,
            portal.open_context(ep_context.waits) as (ctx, _),
            trio.open_nursery() as tn,
            ctx.open_stream(),
        ):
            for _ in range(3):
                tn.start_soon(wait, ctx)
            await trio.testing.wait_all_tasks_blocked()
            assert results == []
        assert results == ["waits"] * 3

    run(main)


def test_the_opener_never_goes_on_before_the_remote_task_is_done() -> None:
    async def main() -> None:
        async with open_peer("ep_context") as portal:
            async with portal.open_context(ep_context.waits) as (ctx, _), ctx.open_stream():
                pass
            assert str(ctx.state) == "result-returned"
            assert ctx.outcome == "waits"

    run(main)


# -- the stream within --


def test_stream_used_after_its_close(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_context", reg_addr=reg_addr) as portal,
            portal.open_context(ep_context.uses_a_closed_stream) as (ctx, _),
        ):
            async with ctx.open_stream() as stream:
                assert not stream.closed
                await stream.send("first")
                await stream.send("not read")
            assert stream.closed
            errors = ["ClosedResourceError"] * 4
            assert await ep_context.errors_of_closed(ctx, stream) == errors
            assert await ctx.wait_for_result() == errors

    run(main)


def test_stream_opened_twice_at_once() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_context") as portal,
            portal.open_context(ep_context.waits) as (ctx, _),
            ctx.open_stream(),
        ):
            with pytest.raises(trio.ClosedResourceError):
                async with ctx.open_stream():
                    pass

    run(main)


def test_end_of_channel_that_leaves_the_stream_block_is_swallowed_there() -> None:
    async def main() -> None:
        got = []
        async with (
            open_peer("ep_context") as portal,
            portal.open_context(ep_context.sends_then_returns, count=3) as (ctx, _),
        ):
            async with ctx.open_stream() as stream:
                while True:
                    got.append(await stream.receive())
            assert await ctx.wait_for_result() == "after the stream"
        assert got == [0, 1, 2]

    run(main)


def test_end_of_channel_comes_again_each_time() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_context") as portal,
            portal.open_context(ep_context.sends_then_returns, count=1) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            assert [n async for n in stream] == [0]
            for _ in range(2):
                with pytest.raises(trio.EndOfChannel):
                    await stream.receive()
                with pytest.raises(trio.EndOfChannel):
                    stream.receive_nowait()
            # This side has read the end: the peer reads no more either.
            with pytest.raises(trio.EndOfChannel):
                await stream.send("late")

    run(main)


@pytest.mark.parametrize("close", [True, False])
def test_stream_opened_after_the_result_reads_what_is_buffered(close: bool) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_context") as portal,
            portal.open_context(ep_context.sends_then_returns, count=5, close=close) as (ctx, _),
        ):
            await until_ended(ctx)
            assert str(ctx.state) == "result-returned"
            async with ctx.open_stream() as stream:
                assert [n async for n in stream] == [0, 1, 2, 3, 4]
            with pytest.raises(trio.ClosedResourceError):
                async with ctx.open_stream():
                    pass
            assert "the stream" in await ctx.wait_for_result()

    run(main)


def test_stream_ends_when_the_result_comes_without_a_close() -> None:
    """An endpoint that returns closes its stream; a reader gets the rest and then the end."""

    async def main() -> None:
        async with (
            open_peer("ep_context") as portal,
            portal.open_context(ep_context.sends_then_returns, count=2, close=False) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            assert [n async for n in stream] == [0, 1]
            assert await ctx.wait_for_result() == "from within the stream"

    run(main)


def test_error_of_the_endpoint_reaches_a_reader_of_its_stream() -> None:
    async def main() -> None:
        async with open_peer("ep_context") as portal:
            inner: list[BaseException] = []
            got: list[int] = []
            with pytest.raises(tractor.RemoteActorError) as caught:  # noqa: PT012
                async with (
                    portal.open_context(ep_context.sends_then_raises, count=2) as (ctx, _),
                    ctx.open_stream() as stream,
                ):
                    with trio.CancelScope(shield=True):
                        await stream.send("go")
                        try:
                            async for n in stream:
                                got.append(n)
                        except tractor.RemoteActorError as exc:
                            inner.append(exc)
                            raise
            assert got == [0, 1]
            assert caught.value.boxed_type is ValueError
            assert inner == [caught.value]

    run(main)


def test_stream_after_cancel() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_context") as portal,
            portal.open_context(ep_context.waits) as (ctx, _),
        ):
            await ctx.cancel()
            with pytest.raises(tractor.ContextCancelled):
                async with ctx.open_stream():
                    raise AssertionError("the block must not be entered")

    run(main)


def test_stream_after_cancel_while_no_report_has_come() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_context") as portal,
            portal.open_context(ep_context.waits) as (ctx, _),
        ):
            await ctx.cancel(timeout=0)
            if not ctx.has_outcome:
                with pytest.raises(RuntimeError):
                    async with ctx.open_stream():
                        raise AssertionError("the block must not be entered")
            result: Any = await ctx.wait_for_result()
            assert type(result) is tractor.ContextCancelled

    run(main)


def test_stream_and_started_after_the_child_has_cancelled_itself() -> None:
    async def main() -> None:
        async with open_peer("ep_context") as portal:
            with pytest.raises(tractor.ContextCancelled):
                async with portal.open_context(ep_context.streams_after_own_cancel, key="k"):
                    await trio.sleep_forever()
            assert await portal.run(ep_context.seen, key="k") == ["RuntimeError", "RuntimeError"]

    run(main)


# -- status --


def test_status_at_each_phase_on_both_sides(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_context", "ep_matrix", reg_addr=reg_addr) as portal:
            noted = []
            async with portal.open_context(ep_context.notes_its_states, key="k") as (ctx, _):
                assert ctx.outcome is Unresolved
                assert ctx.canceller is None
                noted.append(ep_context.status(ctx))
                async with ctx.open_stream():
                    noted.append(ep_context.status(ctx))
                noted.append(ep_context.status(ctx))
                theirs = await portal.run(ep_context.seen, key="k")
                await portal.run(ep_matrix.let_go, key="k")
                assert await ctx.wait_for_result() == "k"
                noted.append(ep_context.status(ctx))
            noted.append(ep_context.status(ctx))
            assert [n["state"] for n in noted] == [
                "started",
                "streaming",
                "streaming-finished",
                "result-returned",
                "result-returned",
            ]
            assert [n["has_outcome"] for n in noted] == [False, False, False, True, True]
            assert [n["state"] for n in theirs] == [
                "pre-started",
                "started",
                "streaming",
                "streaming",
                "streaming-finished",
            ]
            assert not any(n["has_outcome"] for n in theirs)
            assert {(n["side"], n["peer_side"]) for n in noted} == {("parent", "child")}
            assert {(n["side"], n["peer_side"]) for n in theirs} == {("child", "parent")}
            assert {n["maybe_error"] for n in noted + theirs} == {"NoneType"}
            assert not any(n["cancel_called"] for n in noted + theirs)

    run(main)


def test_state_while_draining() -> None:
    async def main() -> None:
        async with open_peer("ep_matrix") as portal:
            states: list[str] = []
            opening = portal.open_context(ep_matrix.shielded, key="one")

            async def watch() -> None:
                await trio.testing.wait_all_tasks_blocked(0.01)
                states.append(str(held[0].state))
                await portal.run(ep_matrix.let_go, key="one")
                await held[0].cancel()

            held: list[tractor.Context] = []
            async with trio.open_nursery() as tn, opening as (ctx, _):
                held.append(ctx)
                tn.start_soon(watch)
            assert states == ["draining"]
            assert str(ctx.state) == "self-cancelled"

    run(main)


def test_identity_of_a_context() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_context") as portal,
            portal.open_context(ep_context.waits) as (one, _),
            portal.open_context(ep_context.waits) as (two, _),
        ):
            assert isinstance(one.cid, int)
            assert one.cid != two.cid
            assert one.chan is two.chan is portal.chan
            assert one.portal is portal
            assert one.parent_task is trio.lowlevel.current_task()
            assert "waits" in one.repr_rpc
            assert one.repr_state == "started"
            assert one.repr_outcome()
            assert one.dst_maddr.startswith("/unix/")
            assert repr(one) == one.pformat()
            assert one.statistics().state == "started"
            assert one.pld_rx.spec is Any
            for ctx in (one, two):
                async with ctx.open_stream():
                    pass

    run(main)


def test_outcome_is_the_remote_error_rather_than_the_local_one() -> None:
    async def main() -> None:
        async with open_peer("ep_matrix") as portal:
            with pytest.raises(ZeroDivisionError):  # noqa: PT012
                async with portal.open_context(ep_matrix.ends_when_let, key="k", then="raise") as (
                    ctx,
                    _,
                ):
                    with trio.CancelScope(shield=True):
                        await portal.run(ep_matrix.let_go, key="k")
                        await until_ended(ctx)
                    raise ZeroDivisionError
            assert type(ctx.outcome) is tractor.RemoteActorError
            assert ctx.maybe_error is ctx.outcome

    run(main)


# -- which context is the current one --


def test_current_ipc_ctx_nests_and_is_restored() -> None:
    async def main() -> None:
        async with open_peer("ep_context") as portal:
            assert tractor.current_ipc_ctx() is None
            with pytest.raises(tractor.InternalError):
                tractor.current_ipc_ctx(error_on_not_set=True)
            async with portal.open_context(ep_context.waits) as (outer, _):
                assert tractor.current_ipc_ctx() is outer
                async with portal.open_context(ep_context.echoes) as (inner, _):
                    assert tractor.current_ipc_ctx() is inner
                assert tractor.current_ipc_ctx() is outer
                with pytest.raises(tractor.RemoteActorError):
                    async with portal.open_context(ep_context.raises_after_started):
                        await trio.sleep_forever()
                assert tractor.current_ipc_ctx(error_on_not_set=True) is outer
                async with outer.open_stream():
                    pass
            assert tractor.current_ipc_ctx() is None
            assert await portal.run(ep_context.has_a_context) is False

    run(main)


def test_current_ipc_ctx_in_an_endpoint_that_opens_one_to_its_parent(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_context", reg_addr=reg_addr, enable_modules=["ep_context"]) as portal,
            portal.open_context(ep_context.sees_its_context) as (ctx, _),
        ):
            assert await ctx.wait_for_result() == [True, True, True, "parent", True]

    run(main)


# -- any direction, many at once --


def test_a_subactor_opens_a_context_to_its_parent(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer(
            "ep_context", reg_addr=reg_addr, enable_modules=["ep_context"]
        ) as portal:
            async with portal.open_context(ep_context.opens_to_its_parent, fn="echoes") as (ctx, _):
                assert await ctx.wait_for_result() == [1, 2, "parent"]
            assert await portal.run(ep_context.calls_its_parent, n=1) == 2

    run(main)


def test_an_error_that_goes_round_by_the_root_is_relayed() -> None:
    async def main() -> None:
        async with open_peer("ep_context", enable_modules=["ep_context"]) as portal:
            with pytest.raises(tractor.RemoteActorError) as caught:
                async with portal.open_context(
                    ep_context.opens_to_its_parent, fn="raises_at_once"
                ) as (ctx, _):
                    await ctx.wait_for_result()
            assert caught.value.src_type is KeyError
            assert caught.value.src_uid == own_uid()
            assert caught.value.relay_path == [own_uid(), peer_uid(portal)]

    run(main)


def test_many_contexts_at_once(reg_addr: Any) -> None:
    async def main() -> None:
        results: list[int] = []

        async def one(portal: tractor.Portal, n: int) -> None:
            async with portal.open_context(ep_context.echoes, first=n, result=n) as (ctx, first):
                assert first == n
                results.append(await ctx.wait_for_result())

        async with open_peer("ep_context", reg_addr=reg_addr) as portal:
            async with trio.open_nursery() as tn:
                for n in range(100):
                    tn.start_soon(one, portal, n)
            assert sorted(results) == list(range(100))
            assert portal.statistics().dialogs == 0

    run(main)


def test_one_context_that_fails_does_not_disturb_its_siblings() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_context") as portal,
            portal.open_context(ep_context.waits) as (sibling, _),
        ):
            with pytest.raises(tractor.RemoteActorError):
                async with portal.open_context(ep_context.raises_after_started):
                    await trio.sleep_forever()
            assert str(sibling.state) == "started"
            async with sibling.open_stream() as stream:
                await stream.send(1)
            assert await sibling.wait_for_result() == "waits"

    run(main)
