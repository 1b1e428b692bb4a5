"""Whatever an endpoint raises arrives at its caller with its source named, and the actor lives on."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import ep_errors
import ep_peer
import pytest
import trio
from ep_marks import gets_signals
from ep_peer import open_peer, peer_uid, run

import tractor

pytestmark = pytest.mark.usefixtures("forked_actors")

FRAME = 100_000
"""A small frame limit, in bytes; what the endpoints call large is larger."""

# -- types --

KNOWN = {
    "builtin": ZeroDivisionError,
    "group": ExceptionGroup,
    "StopAsyncIteration": StopAsyncIteration,
    "GeneratorExit": GeneratorExit,
    "SystemExit": SystemExit,
    "surrogate": ValueError,
    "huge": ValueError,
    "trio": trio.BusyResourceError,
    "tractor": tractor.InternalError,
}
"""Kinds of failure whose type is known everywhere."""

UNKNOWN = {
    "registered": "Registered",
    "enabled": "InEnabledModule",
    "takes more": "TakesMore",
    "bad str": "BadStr",
    "local": "Local",
}
"""Kinds whose type is only known where somebody said so; by name."""


async def failure_of(portal: tractor.Portal, kind: str, how: str) -> tractor.RemoteActorError:
    """The error of that kind as it arrives by a call, a context or a one-way stream."""
    with pytest.raises(tractor.RemoteActorError) as caught:  # noqa: PT012
        if how == "call":
            await portal.run(ep_errors.fails, kind=kind)
        elif how == "context":
            async with portal.open_context(ep_errors.fails_in_context, kind=kind):
                await trio.sleep_forever()
        else:
            async with portal.open_stream_from(
                ep_errors.fails_while_generating, kind=kind
            ) as stream:
                assert await stream.receive() == 1
                await stream.receive()
    assert type(caught.value) is tractor.RemoteActorError
    return caught.value


@pytest.mark.parametrize("how", ["call", "context", "stream"])
def test_type_text_and_source_of_every_known_kind(reg_addr: Any, how: str) -> None:
    async def main() -> None:
        async with open_peer("ep_errors", reg_addr=reg_addr) as portal:
            for kind, expected in KNOWN.items():
                if how == "stream" and kind == "StopAsyncIteration":
                    continue  # a generator that raises it raises a RuntimeError
                error = await failure_of(portal, kind, how)
                assert error.boxed_type is expected, kind
                assert error.src_type is expected, kind
                assert error.boxed_type_str == error.src_type_str == expected.__name__
                assert error.src_uid == error.relay_uid == error.sender == peer_uid(portal)
                assert error.relay_path == [peer_uid(portal)]
                assert not error.is_inception()
                assert expected.__name__ in error.tb_str
                assert expected.__name__ in str(error)
                assert isinstance(error.unwrap(), (expected, RuntimeError))
            assert await portal.run(ep_peer.ping) == "pong"

    run(main)


def test_the_cancellation_that_an_error_has_caused_is_not_shown() -> None:
    async def main() -> None:
        async with open_peer("ep_errors") as portal:
            error = await failure_of(portal, "builtin", "context")
            text = "".join(traceback.format_exception(error))
            assert "ZeroDivisionError" in text
            assert "Cancelled" not in text

    run(main)


def test_stop_iteration_of_an_endpoint() -> None:
    """Python makes a RuntimeError of it when it leaves a coroutine; what counts: it ends as an error."""

    async def main() -> None:
        async with open_peer("ep_errors") as portal:
            for how in ("call", "context"):
                error = await failure_of(portal, "StopIteration", how)
                assert error.boxed_type is RuntimeError
                assert "StopIteration" in error.tb_str
            assert await portal.run(ep_peer.ping) == "pong"

    run(main)


@pytest.mark.parametrize("how", ["call", "context", "stream"])
def test_types_that_are_not_known_here(how: str) -> None:
    """Nothing about an unknown type fails."""

    async def main() -> None:
        async with open_peer("ep_errors") as portal:
            for kind, name in UNKNOWN.items():
                if kind == "registered":
                    continue
                error = await failure_of(portal, kind, how)
                assert error.boxed_type is None, kind
                assert error.src_type is None, kind
                assert error.boxed_type_str == error.src_type_str == name
                assert name in str(error)
                assert name in error.tb_str
                unwrapped = error.unwrap()
                assert type(unwrapped) is RuntimeError
                assert name in str(unwrapped)
                assert name in error.reprol()
                assert "\n" not in error.reprol()
            assert await portal.run(ep_peer.ping) == "pong"

    run(main)


def test_types_that_were_registered() -> None:
    async def main() -> None:
        tractor.reg_err_types([ep_errors.Registered])
        async with open_peer("ep_errors") as portal:
            error = await failure_of(portal, "registered", "call")
            assert error.boxed_type is ep_errors.Registered
            assert error.src_type is ep_errors.Registered
            unwrapped = error.unwrap()
            assert type(unwrapped) is ep_errors.Registered
            assert str(unwrapped) == "known"

    run(main)


def test_types_of_a_module_that_is_enabled_on_the_receiver() -> None:
    async def main() -> None:
        async with open_peer("ep_errors", enable_modules=["ep_errors"]) as portal:
            error = await failure_of(portal, "enabled", "call")
            assert error.boxed_type is ep_errors.InEnabledModule
            error = await failure_of(portal, "takes more", "call")
            assert error.boxed_type is ep_errors.TakesMore
            # It cannot be built from a text.
            assert type(error.unwrap()) is RuntimeError
            error = await failure_of(portal, "local", "call")
            assert error.boxed_type is None

    run(main)


def test_a_group_is_relayed_as_a_group() -> None:
    async def main() -> None:
        async with open_peer("ep_errors") as portal:
            error = await failure_of(portal, "group", "call")
            assert error.boxed_type_str == "ExceptionGroup"
            assert "two of them" in error.message
            for part in ("ValueError: one", "KeyError: 'two'"):
                assert part in error.tb_str

    run(main)


def test_the_text_has_the_cause_too() -> None:
    async def main() -> None:
        async with open_peer("ep_errors") as portal:
            with pytest.raises(tractor.RemoteActorError) as caught:
                await portal.run(ep_errors.fails_with_a_cause)
            assert "KeyError: 'the cause'" in caught.value.tb_str
            assert caught.value.message == "the effect"

    run(main)


@pytest.mark.parametrize("how", ["call", "context"])
def test_keyboard_interrupt_is_relayed_and_raised_in_its_own_actor(
    how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its caller gets it boxed; its own actor ends by it, not by some cancellation, which is a failure."""

    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("peer", enable_modules=["ep_errors"])
            error = await failure_of(portal, "KeyboardInterrupt", how)
            assert error.boxed_type is KeyboardInterrupt
            await trio.sleep_forever()

    with pytest.raises(tractor.ActorFailure) as caught:
        run(main)
    assert caught.value.returncode == 1
    assert "Cancelled" not in capfd.readouterr().err


# -- relays --


@pytest.mark.parametrize("depth", [1, 2])
def test_relay_over_several_actors(reg_addr: Any, depth: int) -> None:
    async def main() -> None:
        modules = ["ep_errors"]
        async with open_peer("ep_errors", reg_addr=reg_addr, name="top") as portal:
            with pytest.raises(tractor.RemoteActorError) as caught:
                await portal.run(ep_errors.relays, depth=depth, kind="builtin", modules=modules)
            error = caught.value
            names = [name for name, _ in error.relay_path]
            assert names == [f"level_{n + 1}" for n in range(depth)] + ["top"]
            assert error.src_uid == error.relay_path[0]
            assert error.relay_uid == error.relay_path[-1] == peer_uid(portal)
            assert error.is_inception()
            assert error.boxed_type is tractor.RemoteActorError
            assert error.src_type is ZeroDivisionError
            assert error.message == "by zero"
            assert "ZeroDivisionError" in error.tb_str
            assert type(error.unwrap()) is ZeroDivisionError

    run(main)


def test_relay_by_a_context(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_errors", reg_addr=reg_addr, name="top") as portal:
            with pytest.raises(tractor.RemoteActorError) as caught:
                await portal.run(ep_errors.relays_context, kind="local", modules=["ep_errors"])
            error = caught.value
            assert [name for name, _ in error.relay_path] == ["leaf", "top"]
            assert error.src_type is None
            assert error.src_type_str == "Local"
            assert error.boxed_type is tractor.RemoteActorError
            assert "nowhere to be found" in str(error)

    run(main)


# -- what does not travel --


@pytest.mark.parametrize("what", ["object", "lock", "nested"])
def test_argument_that_cannot_be_encoded(what: str) -> None:
    async def main() -> None:
        value = ep_errors.odd(what)
        name = "Lock" if what == "lock" else "object"
        async with open_peer("ep_errors") as portal:
            with pytest.raises(tractor.MsgTypeError, match=name):
                await portal.run(ep_errors.accepts, value=value)
            with pytest.raises(tractor.MsgTypeError, match=name):
                async with portal.open_context(ep_errors.takes, value=value):
                    raise AssertionError("the block must not be entered")
            async with (
                portal.open_context(ep_errors.takes) as (ctx, _),
                ctx.open_stream() as stream,
            ):
                with pytest.raises(tractor.MsgTypeError, match=name):
                    await stream.send(value)
                await stream.send("goes on")
            assert ctx.outcome == 1
            assert portal.statistics().dialogs == 0

    run(main)


@pytest.mark.parametrize("what", ["object", "lock", "nested"])
def test_result_that_cannot_be_encoded(what: str) -> None:
    async def main() -> None:
        name = "Lock" if what == "lock" else "object"
        async with open_peer("ep_errors") as portal:
            with pytest.raises(tractor.MsgTypeError, match=name) as caught:
                await portal.run(ep_errors.returns, what=what)
            assert caught.value.src_uid == peer_uid(portal)
            with pytest.raises(tractor.MsgTypeError, match=name):
                async with portal.open_context(ep_errors.returns_from_context, what=what) as (
                    ctx,
                    _,
                ):
                    await ctx.wait_for_result()
            async with portal.open_context(ep_errors.starts_with, what=what) as (ctx, first):
                assert first.startswith("MsgTypeError")
                assert name in first
                assert await ctx.wait_for_result() == "ended well"
            async with (
                portal.open_context(ep_errors.streams_odd, what=what) as (ctx, _),
                ctx.open_stream() as stream,
            ):
                text = await stream.receive()
                assert text.startswith("MsgTypeError")
                assert name in text
                assert await ctx.wait_for_result() == "ended well"

    run(main)


@pytest.mark.parametrize("what", ["large", "large text"])
def test_request_over_the_frame_limit(reg_addr: Any, what: str) -> None:
    async def main() -> None:
        value = ep_errors.odd(what)
        async with open_peer("ep_errors", reg_addr=reg_addr, max_frame_size=FRAME) as portal:
            with pytest.raises(tractor.MessagingError, match=str(FRAME)):
                await portal.run(ep_errors.accepts, value=value)
            with pytest.raises(tractor.MessagingError):
                async with portal.open_context(ep_errors.takes, value=value):
                    raise AssertionError("the block must not be entered")
            async with (
                portal.open_context(ep_errors.takes) as (ctx, _),
                ctx.open_stream() as stream,
            ):
                with pytest.raises(tractor.MessagingError):
                    await stream.send(value)
                await stream.send("goes on")
            assert ctx.outcome == 1
            assert await portal.run(ep_errors.accepts, value="x" * (FRAME // 2)) == FRAME // 2
            assert portal.statistics().dialogs == 0

    run(main)


@pytest.mark.parametrize("what", ["large", "large text"])
def test_answer_over_the_frame_limit(reg_addr: Any, what: str) -> None:
    async def main() -> None:
        async with open_peer("ep_errors", reg_addr=reg_addr, max_frame_size=FRAME) as portal:
            with pytest.raises(tractor.RemoteActorError) as caught:
                await portal.run(ep_errors.returns, what=what)
            assert caught.value.boxed_type is tractor.MessagingError
            with pytest.raises(tractor.RemoteActorError) as caught:
                async with portal.open_context(ep_errors.returns_from_context, what=what) as (
                    ctx,
                    _,
                ):
                    await ctx.wait_for_result()
            assert caught.value.boxed_type is tractor.MessagingError
            async with portal.open_context(ep_errors.starts_with, what=what) as (ctx, first):
                assert first.startswith("MessagingError")
                assert await ctx.wait_for_result() == "ended well"
            async with (
                portal.open_context(ep_errors.streams_odd, what=what) as (ctx, _),
                ctx.open_stream() as stream,
            ):
                assert (await stream.receive()).startswith("MessagingError")
                assert await ctx.wait_for_result() == "ended well"
            assert await portal.run(ep_peer.ping) == "pong"

    run(main)


def test_error_text_over_the_frame_limit_still_arrives(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_errors", reg_addr=reg_addr, max_frame_size=FRAME) as portal:
            for how in ("call", "context", "stream"):
                error = await failure_of(portal, "huge", how)
                assert error.boxed_type is ValueError
            assert await portal.run(ep_peer.ping) == "pong"

    run(main)


# -- a peer that is gone --

Use = Callable[[tractor.Portal], Any]


async def use_call(portal: tractor.Portal) -> None:
    await portal.run(ep_errors.sleeps)


async def use_context(portal: tractor.Portal) -> None:
    async with portal.open_context(ep_errors.takes) as (ctx, _):
        await ctx.wait_for_result()


async def use_open_stream(portal: tractor.Portal) -> None:
    async with (
        portal.open_context(ep_errors.takes) as (ctx, _),
        ctx.open_stream() as stream,
    ):
        await stream.receive()


async def use_one_way(portal: tractor.Portal) -> None:
    async with portal.open_stream_from(ep_errors.fails_while_generating, kind="builtin") as stream:
        await stream.receive()


@pytest.mark.parametrize("use", [use_call, use_context, use_one_way])
def test_portal_used_after_its_actor_is_gone(reg_addr: Any, use: Use) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.start_actor("peer", enable_modules=["ep_errors"])
            await portal.cancel_actor()
            while portal.chan.connected():
                await trio.sleep(0.001)
            with pytest.raises(tractor.TransportClosed, match="peer"):
                await use(portal)
            assert await portal.cancel_actor() is False

    run(main)


@gets_signals
@pytest.mark.parametrize("use", [use_call, use_context, use_open_stream])
def test_peer_that_is_killed_while_it_is_used(reg_addr: Any, use: Use) -> None:
    """Each dialog ends with `TransportClosed` that names the peer and says what is unknown."""

    async def main() -> None:
        seen: list[BaseException] = []

        async def user(portal: tractor.Portal) -> None:
            with pytest.raises(tractor.TransportClosed, match="peer") as caught:
                await use(portal)
            seen.append(caught.value)

        with pytest.raises(tractor.ActorFailure):  # noqa: PT012
            async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
                portal = await an.start_actor("peer", enable_modules=["ep_errors"])
                with trio.CancelScope(shield=True):
                    async with trio.open_nursery() as tn:
                        tn.start_soon(user, portal)
                        await ep_peer.settle()
                        with pytest.raises(tractor.TransportClosed, match="unknown"):
                            await portal.run(ep_errors.dies)
                await trio.sleep_forever()
        assert len(seen) == 1

    run(main)


def test_an_error_of_the_roots_block_leaves_as_itself() -> None:
    """Never boxed, never in a group."""

    async def main() -> None:
        async with open_peer("ep_errors"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(main)
