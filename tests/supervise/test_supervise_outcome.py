# ruff: noqa: PT012
# A nursery raises at the end of its block, so the block belongs into `pytest.raises()`.
"""One event, one outcome: what a nursery raises, whichever way the event was seen first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import ep_outcome
import ep_outcome_events as events
import pytest
import trio
from ep_marks import gets_signals
from ep_supervise_tools import run

import tractor

pytestmark = pytest.mark.usefixtures("forked_actors")

HERE = ["ep_outcome"]
DEATHS = [name for name in events.EVENTS if name.startswith("death (")]
OTHERS = [name for name in events.EVENTS if name not in DEATHS]
BY_KIND = sorted({name.partition(", ")[2] for name in DEATHS})


async def check(names: list[str], reg_addr: Any) -> None:
    async with tractor.open_root_actor(registry_addrs=[reg_addr]):
        for name in names:
            what, args, expected = events.EVENTS[name]
            assert await what(*args) == expected, name


@gets_signals
@pytest.mark.parametrize("kind", BY_KIND)
def test_a_death_in_a_dialog(kind: str, reg_addr: Any) -> None:
    run(check, [name for name in DEATHS if name.partition(", ")[2] == kind], reg_addr)


@pytest.mark.parametrize("name", [n for n in OTHERS if not n.startswith("death")])
def test_other_events(name: str, reg_addr: Any) -> None:
    run(check, [name], reg_addr)


@gets_signals
def test_a_death_of_which_another_actor_tells(reg_addr: Any) -> None:
    run(check, ["death, told of by another actor"], reg_addr)


@gets_signals
@pytest.mark.parametrize("kind", ["call", "block of a context", "one-way stream"])
def test_the_error_says_how_the_process_ended(kind: str, reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]):
            for how, said in (("SIGKILL", "killed by SIGKILL (signal 9)"), ("5", "exit code 5")):
                seen: list[BaseException] = []
                await events.die_in(kind, how, seen)
                inner, outer = seen
                assert isinstance(inner, tractor.TransportClosed)
                assert outer.__cause__ is inner
                [note] = inner.__notes__
                assert note.startswith("its process (pid ")
                assert note.endswith(f") has ended: {said}")
                assert isinstance(outer, tractor.ActorFailure)
                assert said in str(outer)

    run(main)


@gets_signals
def test_a_dead_actor_called_once_more(reg_addr: Any) -> None:
    """Also an error that comes before anything was sent tells how the process ended."""

    async def main() -> None:
        noted = []
        with pytest.raises(tractor.ActorFailure):
            async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
                portal = await an.start_actor("dying", enable_modules=HERE)
                with trio.CancelScope(shield=True):
                    for what in (
                        lambda: portal.run(ep_outcome.end, how="3"),
                        lambda: portal.run(ep_outcome.pid),
                        lambda: portal.open_context(ep_outcome.open_for_ever).__aenter__(),
                        lambda: portal.open_stream_from(ep_outcome.endless).__aenter__(),
                    ):
                        with pytest.raises(tractor.TransportClosed) as info:
                            await what()
                        noted.append(getattr(info.value, "__notes__", None))
        assert len(noted) == 4
        assert all(notes and "exit code 3" in notes[0] for notes in noted), noted

    run(main)


# -- groups of one --


def test_a_group_of_one_leaves_an_endpoint_as_that_error(reg_addr: Any) -> None:
    from tractor import trionics

    async def stream(portal: tractor.Portal) -> None:
        async with portal.open_stream_from(ep_outcome.yields_then_fails_deep) as values:
            async for _ in values:
                pass

    async def context(portal: tractor.Portal, fn: Any) -> None:
        async with portal.open_context(fn):
            await trio.sleep_forever()

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]):
            async with tractor.open_nursery() as an:
                portal = await an.start_actor("failing", enable_modules=HERE)
                ways: list[Callable[[], Awaitable[Any]]] = [
                    lambda: portal.run(ep_outcome.fails_deep),
                    lambda: stream(portal),
                    lambda: context(portal, ep_outcome.starts_then_fails_deep),
                    lambda: context(portal, ep_outcome.fails_deep_before_start),
                ]
                for what in ways:
                    with pytest.raises(tractor.RemoteActorError) as info:
                        await what()
                    assert info.value.boxed_type is ValueError
                    assert "in _fail_in_nurseries" in info.value.tb_str
                with pytest.raises(tractor.RemoteActorError) as info:
                    await portal.run(ep_outcome.fails_twice)
                assert info.value.boxed_type is ExceptionGroup
                await an.cancel()
            with pytest.raises(tractor.RemoteActorError) as info:
                async with tractor.open_nursery() as an:
                    await an.run_in_actor(ep_outcome.fails_deep)
            assert info.value.boxed_type is ValueError
            async with trionics.open_worker_pool(1) as pool:
                for fn in (ep_outcome.job, ep_outcome.sync_job):
                    with pytest.raises(tractor.RemoteActorError) as info:
                        await pool.run(fn, number=3)
                    assert info.value.boxed_type is ValueError

    run(main)


@pytest.mark.parametrize("place", ["root", "root's nursery", "nursery"])
def test_a_group_of_one_leaves_a_block_as_that_error(place: str, reg_addr: Any) -> None:
    async def fail() -> None:
        try:
            raise KeyError("why")
        except KeyError as exc:
            raise ValueError("the one") from exc

    async def body() -> None:
        async with trio.open_nursery() as outer:
            outer.start_soon(trio.sleep_forever)
            async with trio.open_nursery() as inner:
                inner.start_soon(fail)

    async def main() -> None:
        if place == "root":
            async with tractor.open_root_actor(registry_addrs=[reg_addr]):
                await body()
        elif place == "root's nursery":
            async with tractor.open_nursery(registry_addrs=[reg_addr]):
                await body()
        else:
            async with tractor.open_root_actor(registry_addrs=[reg_addr]), tractor.open_nursery():
                await body()

    with pytest.raises(ValueError, match="the one") as info:
        run(main)
    assert isinstance(info.value.__cause__, KeyError)
    assert not isinstance(info.value.__context__, BaseExceptionGroup)
    assert [entry.name for entry in info.traceback].count("fail") == 1


# -- one-shots, and whether a nursery is being cancelled --


def test_a_one_shot_lives_until_the_blocks_exit(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            portal = await an.run_in_actor(ep_outcome.pid, name="one")
            first = await portal.wait_for_result()
            with pytest.raises(RuntimeError, match="one-shot"):
                await portal.wait_closed()
            for _ in range(3):
                await trio.sleep(0.02)
                assert await portal.run(ep_outcome.pid) == first
            other = await an.run_in_actor(ep_outcome.pid, name="other")
            assert await other.cancel_actor()
            await other.wait_closed()
            assert len(an.children) == 1
            assert not an.cancel_called
        assert not an.children
        assert not an.cancel_called
        await portal.wait_closed()

    run(main)


@pytest.mark.parametrize("why", ["itself", "error", "outside", "child"])
def test_cancel_called(why: str, reg_addr: Any) -> None:
    async def main() -> None:
        noted: list[bool] = []
        an: tractor.ActorNursery | None = None
        with trio.CancelScope() as scope, pytest.MonkeyPatch.context():
            try:
                async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
                    await an.start_actor("one", enable_modules=HERE)
                    assert not an.cancel_called
                    if why == "child":
                        await an.run_in_actor(ep_outcome.fails_deep)
                    try:
                        if why == "itself":
                            await an.cancel()
                        elif why == "error":
                            raise LookupError
                        elif why == "outside":
                            scope.cancel()
                        await trio.sleep_forever() if why in ("outside", "child") else None
                    finally:
                        noted.append(an.cancel_called)
            except (LookupError, tractor.RemoteActorError):
                assert why in ("error", "child")
        assert an is not None
        # An error that has not left the block yet has cancelled nothing.
        assert noted == [why != "error"]
        assert an.cancel_called
        assert an.cancelled_caught is (why == "itself")

    run(main)
