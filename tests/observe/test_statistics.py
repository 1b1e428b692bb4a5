"""What an actor says of itself is held against what it did."""

from __future__ import annotations

import linecache
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

import tractor
from tractor.runtime.seen._samples import Sample
from tractor.testing import get_rando_addr


async def add(x: int) -> int:
    return x + 1


async def fail() -> None:
    raise ValueError("no")


async def sleep() -> None:
    await trio.sleep_forever()


async def own() -> dict[str, Any]:
    return told(tractor.current_actor())


async def count() -> AsyncIterator[int]:
    for i in range(10):
        yield i


@tractor.context
async def take(ctx: tractor.Context) -> None:
    await ctx.started()
    async with ctx.open_stream() as stream:
        async for _ in stream:
            pass


COUNTERS = (
    *("calls_total", "errors_total", "messages_in", "messages_out", "bytes_in", "bytes_out"),
    *("calls", "contexts", "streams", "tasks"),
)


def told(actor: tractor.Actor) -> dict[str, Any]:
    """What it says of itself."""
    return dict(msgspec.to_builtins(actor.statistics()))


def run(
    main: Callable[[tractor.Actor, tractor.ActorNursery, tractor.Portal], Awaitable[None]],
) -> None:
    async def limited() -> None:
        with trio.fail_after(60):
            async with tractor.open_nursery(registry_addrs=[get_rando_addr("tcp")]) as an:
                portal = await an.start_actor("worker", enable_modules=[__name__])
                await main(tractor.current_actor(), an, portal)
                await portal.cancel_actor()

    trio.run(limited)


def test_the_counters_say_what_a_program_did(forked_actors: None) -> None:
    async def main(actor: tractor.Actor, an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        theirs, before = await portal.run(own), told(actor)
        for i in range(7):
            assert await portal.run(add, x=i) == i + 1
        after = told(actor)
        assert after["calls_total"] - before["calls_total"] == 7
        assert after["messages_out"] - before["messages_out"] == 7
        assert after["messages_in"] - before["messages_in"] == 7
        assert after["bytes_out"] > before["bytes_out"]
        assert after["bytes_in"] > before["bytes_in"]
        for _ in range(2):
            with pytest.raises(tractor.RemoteActorError):
                await portal.run(fail)
        assert told(actor)["errors_total"] - after["errors_total"] == 2
        now = await portal.run(own)
        # This one is in it, while it runs.
        assert now["calls_total"] - theirs["calls_total"] == 10
        assert now["errors_total"] - theirs["errors_total"] == 2
        assert now["messages_in"] - theirs["messages_in"] == 10
        assert (now["calls"], now["contexts"]) == (1, 0)

    run(main)


def test_what_is_open_is_counted_on_both_sides(forked_actors: None) -> None:
    async def main(actor: tractor.Actor, an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        before = told(actor)
        assert before["tasks"] is not None
        async with portal.open_context(take) as (ctx, _), ctx.open_stream() as stream:
            for i in range(5):
                await stream.send(i)
            async with trio.open_nursery() as tn:
                tn.start_soon(portal.run, sleep)
                await trio.testing.wait_all_tasks_blocked()
                now = told(actor)
                assert (now["calls"], now["contexts"], now["streams"]) == (1, 1, 1)
                assert now["tasks"] == before["tasks"] + 1
                assert now["fill"] == 0.0
                theirs = await portal.run(own)
                while theirs["streams"] != 1:
                    theirs = await portal.run(own)
                assert (theirs["calls"], theirs["contexts"]) == (2, 1)
                tn.cancel_scope.cancel()
        now = told(actor)
        assert (now["calls"], now["contexts"], now["streams"], now["fill"]) == (0, 0, 0, None)

    run(main)


def test_counters_do_not_shrink_when_a_peer_leaves(forked_actors: None) -> None:
    async def main(actor: tractor.Actor, an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        other = await an.start_actor("other", enable_modules=[__name__])
        for _ in range(50):
            await other.run(add, x=1)
        before = told(actor)
        await other.cancel_actor()
        while any(uid[0] == "other" for uid in an.children):
            await trio.sleep(0.01)
        after = told(actor)
        assert after["messages_out"] >= before["messages_out"] > 50
        assert after["bytes_in"] >= before["bytes_in"] > 50

    run(main)


def test_the_whole_tree_as_records(forked_actors: None) -> None:
    async def main(actor: tractor.Actor, an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        tree = await tractor.tree_statistics()
        assert [(one.name, one.state) for one in tree.actors] == [
            ("root", "run"),
            ("worker", "run"),
        ]
        root, worker = tree.actors
        assert isinstance(worker, Sample)
        assert (root.parent, worker.parent) == (None, root.uuid)
        assert [(child.name, child.pid) for child in root.children] == [("worker", worker.pid)]
        assert worker.rss is not None
        assert worker.rss > 2**20
        assert (tree.missing, tree.truncated, tree.v) == ((), 0, 1)

    run(main)


class _Counting:
    """Counts the bytecodes of this process that are run on lines which count for those who look."""

    def __init__(self) -> None:
        self.monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
        self.count = 0
        self._lines: dict[Any, dict[int, bool]] = {}

    def start(self) -> None:
        monitoring, tool = self.monitoring, self.monitoring.DEBUGGER_ID
        monitoring.use_tool_id(tool, "count")
        monitoring.register_callback(tool, monitoring.events.INSTRUCTION, self._on_instruction)
        monitoring.set_events(tool, monitoring.events.INSTRUCTION)

    def stop(self) -> int:
        monitoring, tool = self.monitoring, self.monitoring.DEBUGGER_ID
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, monitoring.events.INSTRUCTION, None)
        monitoring.free_tool_id(tool)
        return self.count

    def _on_instruction(self, code: Any, offset: int) -> None:
        known = self._lines.get(code)
        if known is None:
            known = self._lines[code] = {}
            if "/tractor/" in code.co_filename:
                for begin, end, line in code.co_lines():
                    text = linecache.getline(code.co_filename, line or 0)
                    if any(f".{name}" in text for name in COUNTERS[:6]):
                        known.update((at, True) for at in range(begin, end))
        self.count += known.get(offset, False)


_counting: list[_Counting] = []


async def start_counting() -> None:
    _counting.append(_Counting())
    _counting[0].start()


async def stop_counting() -> int:
    return _counting.pop().stop()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="needs sys.monitoring")
def test_what_counting_costs_a_call_and_a_message(forked_actors: None) -> None:
    async def main(actor: tractor.Actor, an: tractor.ActorNursery, portal: tractor.Portal) -> None:
        await portal.run(start_counting)
        own_count = _Counting()
        own_count.start()
        try:
            for i in range(50):
                await portal.run(add, x=i)
        finally:
            mine = own_count.stop()
        theirs = await portal.run(stop_counting)
        assert 0 < mine <= 50 * 40
        assert 0 < theirs <= 52 * 40
        async with portal.open_context(take) as (ctx, _), ctx.open_stream() as stream:
            own_count = _Counting()
            own_count.start()
            try:
                for i in range(50):
                    await stream.send(i)
            finally:
                mine = own_count.stop()
            assert 0 < mine <= 50 * 10

    run(main)
