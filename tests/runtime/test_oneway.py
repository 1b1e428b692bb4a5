"""One-way streams from async generators and from the legacy `@stream` functions."""

from __future__ import annotations

from typing import Any

import ep_calls
import ep_peer
import pytest
import trio
import trio.testing
from ep_peer import open_peer, own_uid, peer_uid, run

import tractor

pytestmark = pytest.mark.usefixtures("forked_actors")

WINDOW = 1024


@pytest.mark.parametrize("count", [0, 1, 64, 65, 1000])
def test_generator_to_its_end(reg_addr: Any, count: int) -> None:
    async def main() -> None:
        async with open_peer("ep_calls", reg_addr=reg_addr) as portal:
            async with portal.open_stream_from(ep_calls.counts_up, count=count, key="k") as stream:
                assert [n async for n in stream] == list(range(count))
                with pytest.raises(trio.EndOfChannel):
                    await stream.receive()
            assert await portal.run(ep_calls.seen, key="k") == "finished"
            assert portal.statistics().dialogs == 0

    run(main)


def test_stream_function(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_calls", reg_addr=reg_addr) as portal,
            portal.open_stream_from(ep_calls.legacy, count=200) as stream,
        ):
            assert [n async for n in stream] == list(range(200))

    run(main)


def test_stream_function_with_the_outdated_parameter() -> None:
    """It warns in the actor that runs it, and works."""

    async def main() -> None:
        async with (
            open_peer("ep_calls") as portal,
            portal.open_stream_from(ep_calls.legacy_ctx, count=3) as stream,
        ):
            assert [n async for n in stream] == [0, 1, 2]

    run(main)


def test_stream_function_without_its_parameter() -> None:
    with pytest.raises(TypeError, match="stream"):

        @tractor.stream
        async def bare(count: int) -> None: ...


def test_end_of_channel_that_leaves_the_block_is_swallowed() -> None:
    async def main() -> None:
        got = []
        async with (
            open_peer("ep_calls") as portal,
            portal.open_stream_from(ep_calls.counts_up, count=3) as stream,
        ):
            while True:
                got.append(await stream.receive())
        assert got == [0, 1, 2]

    run(main)


def test_it_is_for_receiving_only() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_calls") as portal,
            portal.open_stream_from(ep_calls.waits_after_one, key="k") as stream,
        ):
            with pytest.raises(trio.ClosedResourceError):
                await stream.send(1)
            assert await stream.receive() == 0

    run(main)


# -- leaving early --


@pytest.mark.parametrize("how", ["break", "error", "cancel"])
def test_leaving_early_cancels_the_generator(reg_addr: Any, how: str) -> None:
    """Its `finally` has run when the block is left."""

    async def main() -> None:
        async with open_peer("ep_calls", reg_addr=reg_addr) as portal:
            with trio.CancelScope() as scope:
                try:
                    async with portal.open_stream_from(ep_calls.waits_after_one, key="k") as stream:
                        assert await stream.receive() == 0
                        if how == "error":
                            raise ZeroDivisionError
                        if how == "cancel":
                            scope.cancel()
                            await trio.sleep_forever()
                except ZeroDivisionError:
                    assert how == "error"
            assert scope.cancelled_caught is (how == "cancel")
            assert await portal.run(ep_calls.noted, key="k")
            assert await portal.run(ep_calls.seen, key="k") == "finally"
            assert portal.statistics().dialogs == 0

    run(main)


def test_leaving_early_while_the_generator_waits_for_credit(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_calls", reg_addr=reg_addr) as portal:
            async with portal.open_stream_from(ep_calls.counts_up, count=5000, key="k") as stream:
                assert await stream.receive() == 0
                while await portal.run(ep_calls.last_yielded, key="k") < WINDOW:
                    pass
            assert await portal.run(ep_calls.noted, key="k finally")
            assert await portal.run(ep_calls.seen, key="k") in ("cancelled", "closed")

    run(main)


def test_closed_stream() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_calls") as portal,
            portal.open_stream_from(ep_calls.counts_up, count=3) as stream,
        ):
            assert await stream.receive() == 0
            await stream.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive()

    run(main)


# -- errors --


@pytest.mark.parametrize("at", [0, 1, 5, 70])
def test_error_after_some_items(reg_addr: Any, at: int) -> None:
    """What came before it is read first."""

    async def main() -> None:
        got: list[int] = []

        async def read(portal: tractor.Portal) -> None:
            async with portal.open_stream_from(ep_calls.counts_up, count=100, fail_at=at) as stream:
                async for n in stream:
                    got.append(n)

        async with open_peer("ep_calls", reg_addr=reg_addr) as portal:
            with pytest.raises(tractor.RemoteActorError, match=f"at {at}") as caught:
                await read(portal)
            assert caught.value.boxed_type is ValueError
            assert caught.value.src_uid == peer_uid(portal)
            assert got == list(range(at))
            assert await portal.run(ep_peer.ping) == "pong"

    run(main)


def test_item_that_cannot_be_encoded() -> None:
    async def main() -> None:
        async with open_peer("ep_calls") as portal:

            async def read() -> None:
                async with portal.open_stream_from(ep_calls.yields_odd) as stream:
                    assert await stream.receive() == 0
                    await stream.receive()

            with pytest.raises(tractor.MsgTypeError, match="object"):
                await read()
            assert await portal.run(ep_peer.ping) == "pong"

    run(main)


@pytest.mark.parametrize("name", ["echo", "a_context", "not_async"])
def test_functions_of_another_kind_are_refused_here(name: str) -> None:
    async def main() -> None:
        async with open_peer("ep_calls") as portal:
            with pytest.raises(TypeError):
                async with portal.open_stream_from(getattr(ep_calls, name)):
                    raise AssertionError("the block must not be entered")

    run(main)


def test_arguments_that_do_not_fit() -> None:
    async def main() -> None:
        async with open_peer("ep_calls") as portal:
            before = portal.statistics().sent
            with pytest.raises(TypeError, match="no_such"):
                async with portal.open_stream_from(ep_calls.counts_up, no_such=1):  # type: ignore[call-overload]
                    pytest.fail("it opened")
            assert portal.statistics().sent == before
            assert await portal.run(ep_peer.ping) == "pong"

    run(main)


def test_generator_whose_actor_is_cancelled_ends_as_ctxc(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_calls", reg_addr=reg_addr) as portal:
            with pytest.raises(tractor.ContextCancelled) as caught:  # noqa: PT012
                async with portal.open_stream_from(ep_calls.waits_after_one, key="k") as stream:
                    assert await stream.receive() == 0
                    await portal.cancel_actor()
                    await stream.receive()
            assert caught.value.canceller == own_uid()

    run(main)


# -- flow --


def test_generator_waits_while_nobody_reads(reg_addr: Any) -> None:
    async def main() -> None:
        count = 2000
        async with (
            open_peer("ep_calls", reg_addr=reg_addr) as portal,
            portal.open_stream_from(ep_calls.counts_up, count=count, key="k") as stream,
        ):
            # The one beyond the window was made, and waits.
            while (last := await portal.run(ep_calls.last_yielded, key="k")) < WINDOW:
                pass
            assert last == WINDOW
            await trio.testing.wait_all_tasks_blocked()
            assert stream.statistics().buffered == WINDOW
            assert [n async for n in stream] == list(range(count))

    run(main)


def test_two_streams_at_once(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_calls", reg_addr=reg_addr) as portal,
            portal.open_stream_from(ep_calls.counts_up, count=300, key="one") as one,
            portal.open_stream_from(ep_calls.counts_up, count=300, key="two") as two,
        ):
            for n in range(300):
                assert await one.receive() == n
                assert await two.receive() == n

    run(main)


def test_a_stream_nobody_reads_does_not_hold_up_another(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_calls", reg_addr=reg_addr) as portal,
            portal.open_stream_from(ep_calls.counts_up, count=300, key="one") as unread,
        ):
            async with portal.open_stream_from(ep_calls.legacy, count=300) as stream:
                assert [n async for n in stream] == list(range(300))
            assert [n async for n in unread] == list(range(300))

    run(main)


def test_receive_nowait() -> None:
    async def main() -> None:
        async with (
            open_peer("ep_calls") as portal,
            portal.open_stream_from(ep_calls.waits_after_one, key="k") as stream,
        ):
            assert await stream.receive() == 0
            with pytest.raises(trio.WouldBlock):
                stream.receive_nowait()

    run(main)
