"""What happens where two things meet: a start that fails late, a look-up during a start, two boots at once."""

from __future__ import annotations

from typing import Any

import ep_edges
import pytest
import trio
from ep_peer import open_peer, run

import tractor
from tractor.supervise import _nursery

pytestmark = pytest.mark.usefixtures("forked_actors")


def test_a_one_shot_whose_arguments_cannot_be_sent_is_taken_back() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(tractor.MsgTypeError):
                await an.run_in_actor(ep_edges.fails_at_length, size=object())  # type: ignore[call-overload]
            assert not an.children

    run(main)


def test_a_child_that_still_boots_is_not_found() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an, trio.open_nursery() as tn:
            tn.start_soon(call_as_soon_as_found, "late")
            portal = await an.start_actor("late", enable_modules=["ep_edges"])
            assert await portal.run(ep_edges.pong) == "pong"
            tn.cancel_scope.cancel()
            await an.cancel()

    async def call_as_soon_as_found(name: str) -> None:
        while True:
            async with tractor.find_actor(name) as found:
                if isinstance(found, tractor.Portal):
                    assert await found.run(ep_edges.pong) == "pong"
                    return
            await trio.lowlevel.checkpoint()

    run(main)


def test_of_two_roots_booting_at_once_one_is_refused() -> None:
    refused: list[BaseException] = []
    done = trio.Event()

    async def boot() -> None:
        try:
            async with tractor.open_root_actor() as actor:
                assert tractor.current_actor() is actor
                await done.wait()
        except tractor.RuntimeFailure as exc:
            refused.append(exc)
            done.set()

    async def main() -> None:
        async with trio.open_nursery() as tn:
            tn.start_soon(boot)
            tn.start_soon(boot)

    run(main)
    assert len(refused) == 1
    assert tractor.current_actor(err_on_no_runtime=False) is None


def test_an_error_whose_text_is_over_the_frame_limit_still_arrives() -> None:
    async def main() -> None:
        async with open_peer("ep_edges", max_frame_size=2048) as portal:
            with pytest.raises(tractor.RemoteActorError) as caught:
                await portal.run(ep_edges.fails_at_length, size=3000)
            assert caught.value.boxed_type is ValueError
            assert await portal.run(ep_edges.pong) == "pong"

    run(main)


@pytest.mark.parametrize("result_first", [True, False])
def test_waiting_for_the_result_loses_no_message(reg_addr: Any, result_first: bool) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_edges", reg_addr=reg_addr) as portal,
            portal.open_context(ep_edges.sends_ten_and_returns) as (ctx, _),
        ):
            if result_first:
                await portal.run(ep_edges.pong)
            assert await ctx.wait_for_result() == "done"
            async with ctx.open_stream() as stream:
                assert [n async for n in stream] == list(range(10))

    run(main)


# -- a block that waits for ever --


def test_a_block_says_that_it_waits_for_daemons_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and not as long as a one-shot works, whose end is waited for on purpose."""
    monkeypatch.setattr(_nursery, "FORGOTTEN_AFTER", 0.02)

    def told() -> list[str]:
        return [
            r.getMessage() for r in caplog.records if "is over, and has waited" in r.getMessage()
        ]

    async def main() -> None:
        waits: list[bool] = []

        async def cancel_when_told(portal: tractor.Portal) -> None:
            while not told():
                await trio.sleep(0.01)
            waits.append(one_shot_over.is_set())
            await trio.sleep(0.1)
            await portal.cancel_actor()

        one_shot_over = trio.Event()
        async with trio.open_nursery() as tn, tractor.open_nursery() as an:
            portal = await an.start_actor("w", enable_modules=["ep_edges"])
            one_shot = await an.run_in_actor(ep_edges.pong_later, seconds=0.3)
            tn.start_soon(cancel_when_told, portal)

            async def note_end() -> None:
                await one_shot.wait_for_result()
                one_shot_over.set()

            tn.start_soon(note_end)
        assert waits == [True]

    run(main)
    (text,) = told()
    assert "for daemon 'w': a daemon serves until it is cancelled" in text
    assert "cancel_actor()" in text
