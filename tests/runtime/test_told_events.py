"""Each event is told, on both sides of what has two, with the same dialog; in actors of each kind."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import ep_instruments
import pytest
import trio
from ep_instruments import Keeper, as_records
from ep_run import run

import tractor
from tractor._errors import RuntimeFailure
from tractor.devx import events
from tractor.runtime._actor import Actor
from tractor.runtime.seen._told import TOLD
from tractor.spawn._contract import get_backend

HERE = ["ep_instruments"]
FACTORY = "ep_instruments:make"

Body = Callable[[tractor.ActorNursery, tractor.Portal, Keeper], Awaitable[Any]]


def with_child(body: Body, *, asks: Callable[[], Any] | None = None) -> Keeper:
    """Run ``body`` with a subactor while this actor and that one keep what they are told; what this one has kept."""
    keeper = Keeper()

    async def main() -> None:
        async with tractor.open_nursery(instruments=[keeper, FACTORY]) as an:
            portal = await an.start_actor("child", enable_modules=HERE)
            await body(an, portal, keeper)
            await portal.cancel_actor()

    run(main)
    ep_instruments.keepers.clear()
    return keeper


async def there(portal: tractor.Portal, cls: type[Any], /, **fields: Any) -> list[Any]:
    """What the subactor has kept of one kind."""
    kept = Keeper()
    kept.kept = as_records(await portal.run(ep_instruments.kept))
    return kept.of(cls, **fields)


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """Wait for what the other actor is told after its reply has left."""
    with trio.fail_after(20):
        while not (found := await condition()):
            await trio.sleep(0.01)
    return found


# -- calls --


@pytest.mark.usefixtures("forked_actors")
def test_a_call_is_told_on_both_sides_and_what_an_instrument_sets_holds_for_the_function() -> None:
    async def body(_an: Any, portal: tractor.Portal, keeper: Keeper) -> None:
        assert await portal.run(ep_instruments.in_context) == "in_context"
        name = "ep_instruments:in_context"
        (start,) = keeper.of(events.CallStarted, function=name)
        (end,) = keeper.of(events.CallEnded, function=name)
        (served,) = await there(portal, events.CallStarted, function=name)

        async def over() -> list[Any]:
            return await there(portal, events.CallEnded, function=name)

        (done,) = await until(over)
        own, peer = tractor.current_actor().aid, portal.chan.aid
        assert peer is not None
        assert (start.side, start.actor, start.peer, start.peer_name) == (
            "caller",
            own.uuid,
            peer.uuid,
            "child",
        )
        assert (served.side, served.actor, served.peer) == ("callee", peer.uuid, own.uuid)
        assert start.dialog[0] == own.uuid
        assert start.dialog == end.dialog == served.dialog == done.dialog
        assert served.headers == {"by": "in_context"}
        assert start.task == id(trio.lowlevel.current_task())
        assert (end.outcome, end.error, done.outcome, done.error) == ("ok", None, "ok", None)
        assert end.duration == end.time - start.time > done.duration > 0

    with_child(body)


@pytest.mark.usefixtures("forked_actors")
def test_how_calls_end() -> None:
    async def body(_an: Any, portal: tractor.Portal, keeper: Keeper) -> None:
        with pytest.raises(tractor.RemoteActorError):
            await portal.run(ep_instruments.fails)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as tn:
                tn.start_soon(portal.run, ep_instruments.waits)

                async def begun() -> list[Any]:
                    return await there(portal, events.CallStarted, function="ep_instruments:waits")

                await until(begun)
                scope.cancel()
        (failed,) = keeper.of(events.CallEnded, function="ep_instruments:fails")
        assert (failed.outcome, failed.error) == ("error", "builtins:ValueError")
        assert 'raise ValueError("as asked")' in failed.traceback
        (ended,) = keeper.of(events.CallEnded, function="ep_instruments:waits")
        assert (ended.outcome, ended.by_us, ended.error) == ("cancelled", True, None)

        async def over() -> list[Any]:
            return await there(portal, events.CallEnded, outcome="cancelled")

        (done,) = await until(over)
        assert (done.dialog, done.by_us) == (ended.dialog, False)
        # Who asks tells it, and where it arrives.
        (asked,) = keeper.of(events.CancelRequested, kind="task")
        (came,) = await there(portal, events.CancelRequested, kind="task")
        assert asked.dialog == came.dialog == ended.dialog
        assert asked.target == came.target == came.actor
        assert asked.canceller == came.canceller == tractor.current_actor().aid.uid

    with_child(body)


@pytest.mark.usefixtures("forked_actors")
def test_the_runtimes_own_requests_are_no_calls() -> None:
    async def body(_an: Any, portal: tractor.Portal, keeper: Keeper) -> None:
        assert await there(portal, events.CallStarted, side="caller") == []
        served = await there(portal, events.CallStarted, side="callee")
        assert {one.function for one in served} == {"ep_instruments:kept"}
        async with tractor.find_actor("child") as found:
            assert found is not None

    keeper = with_child(body)
    assert {one.function for one in keeper.of(events.CallStarted)} == {"ep_instruments:kept"}


@pytest.mark.usefixtures("forked_actors")
def test_a_peers_headers_that_are_none_are_left_out_and_its_call_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deep: Any = {}
    for _ in range(900):
        deep = {"a": deep}
    bad: list[Any] = [
        {"a": 1},
        {1: "a"},
        ["a"],
        "a",
        7,
        {"a": "x" * 9000},
        {"a": "x" * 200_000},
        {str(n): "" for n in range(70)},
        deep,
    ]

    async def body(_an: Any, portal: tractor.Portal, _keeper: Keeper) -> None:
        for headers in bad:
            with monkeypatch.context() as patch:
                patch.setattr(type(TOLD), "headers", lambda _told, _record, sent=headers: sent)
                assert await portal.run(ep_instruments.add, a=1, b=2) == 3
        served = await there(portal, events.CallStarted, function="ep_instruments:add")
        assert [one.headers for one in served] == [None] * len(bad)

    with_child(body)


@pytest.mark.usefixtures("forked_actors")
def test_dropped_headers_are_in_the_sample() -> None:
    class Many(Keeper):
        def headers(self, _record: Any) -> dict[str, str]:
            return {str(n): "" for n in range(70)}

    async def main() -> None:
        async with tractor.open_nursery(instruments=[Many()]) as an:
            portal = await an.start_actor("child", enable_modules=HERE)
            await portal.run(ep_instruments.add, a=1, b=2)
            assert tractor.current_actor().statistics().limits_reached["headers"] == 6
            await portal.cancel_actor()

    run(main)


# -- contexts and streams --


@pytest.mark.usefixtures("forked_actors")
def test_a_context_with_its_stream_and_messages() -> None:
    async def body(_an: Any, portal: tractor.Portal, keeper: Keeper) -> None:
        async with (
            portal.open_context(ep_instruments.echoes) as (ctx, _first),
            ctx.open_stream() as stream,
        ):
            for value in ("one", "two", "three"):
                await stream.send(value)
                await stream.receive()
        kinds = [
            events.ContextOpened,
            events.ContextStarted,
            events.StreamOpened,
            events.StreamClosed,
            events.ContextClosed,
        ]
        told = [one for one in keeper.kept if type(one) in kinds]
        assert [type(one) for one in told] == kinds
        assert {one.side for one in told} == {"caller"}  # type: ignore[attr-defined]
        (dialog,) = {one.dialog for one in told}  # type: ignore[attr-defined]

        async def over() -> list[Any]:
            return await there(portal, events.ContextClosed)

        (closed,) = await until(over)
        assert (closed.dialog, closed.side, closed.outcome) == (dialog, "callee", "ok")
        assert (closed.sent, closed.received) == (3, 3)
        (opened,) = await there(portal, events.ContextOpened)
        assert (opened.dialog, opened.headers) == (dialog, {"by": "echoes"})
        sent = keeper.of(events.MessageSent, dialog=dialog)
        came = await there(portal, events.MessageReceived, dialog=dialog)
        assert [one.bytes for one in sent] == [one.bytes for one in came] == [4, 4, 6]
        assert len(keeper.of(events.MessageReceived, dialog=dialog)) == 3

    with_child(body)


@pytest.mark.usefixtures("forked_actors")
def test_a_one_way_stream_is_a_call_of_that_kind() -> None:
    async def body(_an: Any, portal: tractor.Portal, keeper: Keeper) -> None:
        async with portal.open_stream_from(ep_instruments.numbers, n=3) as stream:
            assert [value async for value in stream] == [0, 1, 2]
        (start,) = keeper.of(events.CallStarted, kind="stream")
        (end,) = keeper.of(events.CallEnded, dialog=start.dialog)
        assert end.outcome == "ok"
        assert len(keeper.of(events.MessageReceived, dialog=start.dialog)) == 3
        assert await there(portal, events.CallStarted, dialog=start.dialog, kind="stream")

    with_child(body)


@pytest.mark.usefixtures("forked_actors")
def test_a_sender_without_credit_tells_how_long_it_has_waited() -> None:
    async def body(_an: Any, portal: tractor.Portal, keeper: Keeper) -> None:
        async with portal.open_stream_from(ep_instruments.numbers, n=3000) as stream:

            async def waits() -> bool:
                # Nothing is read: the receiver's buffer fills, and the sender has no more credit.
                return len(keeper.of(events.MessageReceived)) >= 1000

            await until(waits)
            await trio.sleep(0.05)
            assert len([value async for value in stream]) == 3000
        waited = await there(portal, events.CreditWaited)
        assert waited
        assert waited[0].function == "ep_instruments:numbers"
        assert waited[0].duration > 0

    with_child(body)


# -- actors --


def test_the_life_of_an_actor_and_of_its_subactor() -> None:
    async def body(_an: Any, portal: tractor.Portal, _keeper: Keeper) -> None:
        own, aid = tractor.current_actor().aid, portal.chan.aid
        assert aid is not None
        (started,) = await there(portal, events.ActorStarted)
        assert (started.actor, started.name, started.pid) == (aid.uuid, "child", aid.pid)
        assert started.parent == own.uuid
        # The channel to the parent was there before its instruments.
        (opened,) = await there(portal, events.ChannelOpened)
        assert (opened.peer, opened.peer_name) == (own.uuid, own.name)

    keeper = with_child(body)
    kinds = [type(one) for one in keeper.kept]
    assert kinds[0] is events.ActorStarted
    assert kinds[-1] is events.ActorEnded
    (ended,) = keeper.of(events.ActorEnded)
    assert (ended.outcome, ended.error) == ("ok", None)
    (starting,) = keeper.of(events.ChildStarting)
    (ready,) = keeper.of(events.ChildReady)
    (gone,) = keeper.of(events.ChildGone)
    assert starting.child == ready.child == gone.child
    assert (starting.backend, starting.host) == (ready.backend, ready.host)
    assert starting.time < ready.time < gone.time
    assert min(ready.spawn, ready.connect, ready.boot) >= 0
    assert ready.spawn + ready.connect + ready.boot <= (ready.time - starting.time) / 1e9 + 1e-3
    assert (gone.status, gone.outcome, gone.error) == (0, "cancelled", None)
    assert gone.rung in range(5)
    assert gone.rung in {one.rung for one in keeper.of(events.Rung, child=gone.child)}
    (asked,) = keeper.of(events.CancelRequested, target=gone.child)
    assert (asked.kind, asked.canceller[1]) == ("actor", ended.actor)
    assert keeper.of(events.ChannelLost, peer=gone.child)[0].bytes_in > 0


@pytest.mark.usefixtures("forked_actors")
def test_a_subactor_that_dies() -> None:
    keeper = Keeper()

    async def main() -> None:
        async with tractor.open_nursery(instruments=[keeper]) as an:
            portal = await an.start_actor("victim", enable_modules=HERE)
            assert portal.chan.aid is not None
            assert portal.chan.aid.pid is not None
            os.kill(portal.chan.aid.pid, signal.SIGKILL)
            await trio.sleep_forever()

    with pytest.raises(tractor.ActorFailure):
        run(main)
    (gone,) = keeper.of(events.ChildGone)
    assert (gone.status, gone.rung, gone.outcome) == (-9, None, "died")
    assert gone.error == "tractor:ActorFailure"
    (ended,) = keeper.of(events.ActorEnded)
    assert ended.outcome == "error"
    assert keeper.of(events.Crashed)[0].error == "tractor:ActorFailure"


@pytest.mark.usefixtures("forked_actors")
def test_a_one_shot_ends_as_its_function_does() -> None:
    keeper = Keeper()

    async def main() -> None:
        async with tractor.open_root_actor(instruments=[keeper]):
            async with tractor.open_nursery() as an:
                portal = await an.run_in_actor(ep_instruments.add, a=1, b=2)
                assert await portal.wait_for_result() == 3
            async with tractor.open_nursery() as an:
                await an.run_in_actor(ep_instruments.fails)

    with pytest.raises(tractor.RemoteActorError):
        run(main)
    well, badly = keeper.of(events.ChildGone)
    assert (well.name, well.outcome, well.error) == ("add", "ok", None)
    assert (badly.name, badly.outcome, badly.error) == ("fails", "error", "builtins:ValueError")
    (crash,) = keeper.of(events.Crashed)
    assert (crash.error, crash.actor) == ("builtins:ValueError", crash.actor)
    assert "as asked" in crash.traceback


@pytest.mark.usefixtures("forked_actors")
def test_a_nursery_that_is_cancelled_says_so() -> None:
    async def body(an: tractor.ActorNursery, _portal: Any, keeper: Keeper) -> None:
        await an.cancel()
        (asked,) = keeper.of(events.CancelRequested, kind="nursery")
        assert asked.target == asked.actor == asked.canceller[1]

    with_child(body)


@pytest.mark.usefixtures("forked_actors")
def test_the_steps_of_a_service_are_told() -> None:
    keeper = Keeper()

    async def main() -> None:
        async with (
            tractor.open_root_actor(instruments=[keeper]),
            tractor.open_supervisor() as sup,
        ):
            await sup.start_service("adder", ep_instruments.serves)

    run(main)
    told = keeper.of(events.ServiceEvent, service="adder")
    assert [one.kind for one in told[:2]] == ["starting", "ready"]
    assert told[0].restarts == 0


# -- in every actor --


def _can_run(key: str) -> str | None:
    """Why a backend can't be used here."""
    try:
        get_backend(key).is_available()
    except (RuntimeError, ValueError, NotImplementedError) as exc:
        return str(exc)
    return None


@pytest.mark.parametrize(
    "method", ["trio", "main_thread_forkserver", "zygote", "mp_spawn", "mp_forkserver", "subint"]
)
def test_a_factory_makes_each_actor_an_instrument_three_levels_down(method: str) -> None:
    if why := _can_run(method):
        pytest.skip(why)

    async def main() -> None:
        async with tractor.open_nursery(
            instruments=[FACTORY, "ep_instruments:make_none"], start_method=method
        ) as an:
            portal = await an.start_actor("middle", enable_modules=HERE)
            below, middle = map(as_records, await portal.run(ep_instruments.deeper))
            assert await portal.run(ep_instruments.who_is_told) == 1
            await portal.cancel_actor()
        starts = [
            next(one for one in kept if isinstance(one, events.ActorStarted))
            for kept in (middle, below)
        ]
        assert [one.name for one in starts] == ["middle", "leaf"]
        assert starts[1].parent == starts[0].actor
        calls = [
            [one for one in kept if isinstance(one, events.CallStarted)] for kept in (middle, below)
        ]
        asked = [one for one in calls[0] if one.side == "caller"]
        assert [one.dialog for one in asked] == [one.dialog for one in calls[1]]
        # What was forked off has nothing of what its parent was told.
        assert {one.actor for one in below} == {starts[1].actor}

    run(main)
    ep_instruments.keepers.clear()
    assert TOLD.instruments == ()


@pytest.mark.usefixtures("forked_actors")
def test_an_object_stays_in_the_root() -> None:
    async def main() -> None:
        async with tractor.open_nursery(instruments=[Keeper()]) as an:
            portal = await an.start_actor("child", enable_modules=HERE)
            assert await portal.run(ep_instruments.who_is_told) == 0
            await portal.cancel_actor()

    run(main)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("ep_instruments:make_badly", "LookupError: no settings for it"),
        ("ep_instruments:make_wrong", "it has made 'no instrument'"),
        ("ep_instruments:nobody", "AttributeError"),
        ("no_such_module:make", "ModuleNotFoundError"),
    ],
)
def test_a_factory_that_fails_is_named(path: str, why: str) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(instruments=[path]):
            pytest.fail("the root serves")

    with pytest.raises(RuntimeFailure, match=f"{path!r} has failed in root@.*{why}"):
        run(main)
    assert TOLD.instruments == ()


@pytest.mark.usefixtures("forked_actors")
def test_a_factory_that_fails_in_a_subactor_fails_its_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with tractor.open_nursery(instruments=[FACTORY]) as an:
            # As if it were not there: the fork has this module as it is now.
            monkeypatch.setattr(ep_instruments, "make", ep_instruments.make_badly)
            await an.start_actor("child")

    with pytest.raises(
        tractor.RemoteActorError, match="'ep_instruments:make' has failed in child@"
    ):
        run(main)
    ep_instruments.keepers.clear()


# -- while it runs --


@pytest.mark.usefixtures("forked_actors")
def test_one_that_is_added_later_hears_of_what_is_open_and_one_that_is_removed_of_nothing() -> None:
    late = Keeper()

    async def main() -> None:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("child", enable_modules=HERE)
            async with (
                portal.open_context(ep_instruments.echoes) as (ctx, _first),
                ctx.open_stream() as stream,
            ):
                tractor.devx.add_instrument(late)
                await stream.send(1)
                await stream.receive()
                tractor.devx.remove_instrument(late)
                await stream.send(1)
                await stream.receive()
            await portal.cancel_actor()

    run(main)
    assert [type(one) for one in late.kept] == [events.MessageSent, events.MessageReceived]


def test_outside_of_an_actor_nothing_can_be_added() -> None:
    with pytest.raises(tractor.NoRuntime):
        tractor.devx.add_instrument(Keeper())


def test_the_actor_itself_takes_them_too() -> None:
    async def main() -> None:
        async with tractor.open_root_actor() as actor:
            assert isinstance(actor, Actor)
            one = Keeper()
            actor.add_instrument(one)
            actor.remove_instrument(one)
            with pytest.raises(KeyError):
                actor.remove_instrument(one)

    run(main)


# -- what it costs --


@pytest.mark.usefixtures("forked_actors")
def test_without_an_instrument_a_call_costs_at_most_forty_bytecodes_more_on_each_side() -> None:
    """Every bytecode of a line that has to do with instruments counts, and what the calls beside them pass on."""
    calls = 20
    most = 40 - ep_instruments.ARGUMENTS

    async def main() -> tuple[tuple[int, int], tuple[int, int]]:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("child", enable_modules=HERE)
            for _ in range(5):
                await portal.run(ep_instruments.add, a=1, b=2)
            with ep_instruments.HookCost() as cost:
                for _ in range(calls):
                    await portal.run(ep_instruments.add, a=1, b=2)
            await portal.run(ep_instruments.count)
            for _ in range(calls):
                await portal.run(ep_instruments.add, a=1, b=2)
            callee = await portal.run(ep_instruments.counted)
            await portal.cancel_actor()
            return (cost.hooks, cost.all), callee

    (caller, all_caller), (callee, all_callee) = run(main)
    assert all_caller > 300 * calls
    assert all_callee > 200 * calls
    assert 0 < caller <= most * calls
    # `counted()` is one more, half of which is counted.
    assert 0 < callee <= most * (calls + 1)


@pytest.mark.usefixtures("forked_actors")
def test_without_an_instrument_a_message_costs_at_most_ten_bytecodes_more_on_each_side() -> None:
    messages = 50

    async def main() -> tuple[int, tuple[int, int]]:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("child", enable_modules=HERE)
            async with portal.open_context(ep_instruments.sinks) as (ctx, _first):
                async with ctx.open_stream() as stream:
                    await stream.send(0)
                    with ep_instruments.HookCost() as cost:
                        for n in range(messages):
                            await stream.send(n)
                there = await ctx.wait_for_result()
            await portal.cancel_actor()
            return cost.hooks, there

    sent, (received, count) = run(main)
    assert count == messages
    assert 0 < sent <= 10 * messages
    assert 0 < received <= 10 * messages
