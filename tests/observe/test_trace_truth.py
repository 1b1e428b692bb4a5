"""A trace of a real tree, read by Perfetto's own trace processor and viewer: it says what the program did."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import ep_perfetto
import ep_trace_tree as tree
import msgspec
import pytest
import trio
from ep_perfetto import Perfetto

import tractor
from tractor.runtime.seen._told import TOLD
from tractor.testing import get_rando_addr

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets"),
    pytest.mark.skipif(ep_perfetto.missing() is not None, reason=str(ep_perfetto.missing())),
]

CALLS = 7
NAP = 0.5
MESSAGES = 300
SLACK = 0.05
"""Seconds for an end that is told in one process while another goes on."""
MODULE = tree.__name__

SLICES = """
select s.name, s.category, s.ts, s.dur, s.depth, p.name, t.name, s.id
from slice s join thread_track tt on tt.id = s.track_id join thread t using (utid) join process p using (upid)
order by s.ts
"""
"""On threads."""

SPANS = """
select s.name, s.category, s.ts, s.dur, s.depth, p.name, null, s.id
from slice s join process_track pt on pt.id = s.track_id join process p using (upid) order by s.ts
"""

ARROWS = "select slice_out, slice_in from flow"

PROBLEMS = """
select name, value from stats where value > 0 and severity in ('error', 'data_loss')
"""


class Read:
    """A trace, as the trace processor has read it."""

    def __init__(self, viewer: Perfetto, path: Path) -> None:
        viewer.open(path)
        self.viewer = viewer
        self.slices = [One(*row) for row in viewer.query(SLICES)]
        self.spans = [One(*row) for row in viewer.query(SPANS)]
        self.arrows = {tuple(row) for row in viewer.query(ARROWS)}
        assert viewer.query(PROBLEMS) == []

    def named(self, name: str, cat: str = "", actor: str = "") -> list[One]:
        return [
            one
            for one in (*self.slices, *self.spans)
            if one.name == name
            and (not cat or one.cat == cat)
            and (not actor or one.actor.startswith(f"{actor}["))
        ]

    def marks(self, name: str) -> list[One]:
        """Those that are drawn through all tracks of an actor."""
        columns = "name, category, ts, dur, depth, '', null, id"
        return [
            One(*row)
            for row in self.viewer.query(f"select {columns} from slice where name = '{name}'")
        ]

    def arg(self, one: One, name: str) -> str:
        """What is told of a slice."""
        sql = "select display_value from args join slice using (arg_set_id)"
        ((value,),) = self.viewer.query(f"{sql} where key = 'args.{name}' and slice.id = {one.id}")
        return str(value)

    def connects(self, out: One, into: One) -> bool:
        return (out.id, into.id) in self.arrows


class One:
    """A slice."""

    def __init__(
        self,
        name: str,
        cat: str,
        ts: int,
        dur: int,
        depth: int,
        actor: str,
        thread: str | None,
        number: int,
    ) -> None:
        self.name = name
        self.cat = cat
        self.start = ts / 1e9
        self.length = dur / 1e9
        self.depth = depth
        self.actor = actor
        self.thread = thread
        self.id = number

    @property
    def end(self) -> float:
        return self.start + self.length

    def __repr__(self) -> str:
        return f"<{self.name} {self.cat} {self.start:.3f}+{self.length:.3f} in {self.actor}>"


class Took:
    """Seconds that a call took, by the program's own clock.

    Attributes:
        inside: within the function that was called.
        outside: for who called it.
    """

    def __init__(self) -> None:
        self.inside = self.outside = 0.0

    async def measure(self, portal: tractor.Portal, fn: Any) -> None:
        """Call it."""
        begun = time.monotonic()
        self.inside = await portal.run(fn, seconds=NAP)
        self.outside = time.monotonic() - begun


took = {"nap": Took(), "compute": Took()}


Program = Callable[[tractor.ActorNursery, tractor.Portal], Awaitable[None]]


def traced(path: Path, program: Program) -> int:
    """Have the command record what a program does: from when it records, until ctrl-c; its exit status."""

    async def main() -> int:
        with trio.fail_after(90):
            async with tractor.open_nursery(registry_addrs=[get_rando_addr("tcp")]) as an:
                one = await an.start_actor("one", enable_modules=[MODULE])
                await one.run(tree.below, name="two", depth=1)
                argv = [sys.executable, "-m", "tractor", "trace", f"{os.getpid()}", "-o", str(path)]
                process = await trio.lowlevel.open_process([*argv, "--seconds", "80"])
                try:
                    # The command records all that are there at about the same time.
                    while not TOLD.instruments:
                        await trio.sleep(0.05)
                    while not await one.run(tree.is_recorded):
                        await trio.sleep(0.05)
                    while not await one.run(tree.is_recorded_below, name="two"):
                        await trio.sleep(0.05)
                    await program(an, one)
                    process.send_signal(signal.SIGINT)
                    return await process.wait()
                finally:
                    if process.returncode is None:
                        process.kill()
                        await process.wait()
                    await an.cancel()
        raise AssertionError("not reached")

    return trio.run(main)


async def program(an: tractor.ActorNursery, one: tractor.Portal) -> None:
    """What the trace is held against."""
    for _ in range(CALLS):
        await one.run(tree.nap, seconds=0.001)
    await one.run(tree.relay, name="two", seconds=NAP)
    await took["nap"].measure(one, tree.nap)
    await took["compute"].measure(one, tree.compute)
    async with one.open_context(tree.echo) as (ctx, _), ctx.open_stream() as stream:
        for number in range(MESSAGES):
            await stream.send(number)
            await stream.receive()
    async with one.open_context(tree.wait) as (ctx, _):
        await trio.sleep(0.1)
        await ctx.cancel()
    async with one.open_stream_from(tree.numbers, count=10) as numbers:
        async for _ in numbers:
            pass
    await killed_amid_a_call()
    async with trio.open_nursery() as tn:
        tn.start_soon(one.run, tree.stuck)
        # Until the batch that has its start was told.
        await trio.sleep(1)
        tn.cancel_scope.cancel()


async def killed_amid_a_call() -> None:
    """An actor that comes while it is recorded, and dies."""
    with contextlib.suppress(tractor.ActorFailure):
        async with tractor.open_nursery() as an:
            late = await an.start_actor("late", enable_modules=[MODULE])
            while not await late.run(tree.is_recorded):
                await trio.sleep(0.05)
            async with trio.open_nursery() as tn:
                tn.start_soon(late.run, tree.stuck)
                # Until the batch that has its start was told.
                await trio.sleep(1.5)
                await late.run(tree.die)


def test_a_trace_says_what_the_program_did(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    begun = time.monotonic()
    # Ended by ctrl-c.
    assert traced(path, program) == 130
    passed = time.monotonic() - begun
    with ep_perfetto.perfetto() as viewer:
        read = Read(viewer, path)
        calls_are_right(read)
        arrows_lead_from_who_calls_to_who_serves(read)
        three_levels_are_seen(read)
        contexts_and_streams_are_right(read)
        a_cancel_leads_to_what_it_ended(read)
        starts_and_deaths_are_seen(read)
        a_loop_that_stood_still_is_seen(read)
        a_killed_actors_slices_end_at_its_death(read)
        actors_are_named(read, passed)
        counters_are_there(read)
        # The viewer draws them.
        tracks = viewer.tracks
        assert any(name.startswith("one[") for name in tracks)
        assert any(name.startswith("CPU") for name in tracks)


def calls_are_right(read: Read) -> None:
    for cat, actor in (("call.made", "root"), ("call.served", "one")):
        naps = read.named(f"{MODULE}:nap", cat, actor)
        assert len(naps) == CALLS + 1, naps
        assert all(one.length >= 0.001 for one in naps)
    # Between what the program itself has measured within and without.
    for name, own in took.items():
        served = read.named(f"{MODULE}:{name}", "call.served", "one")[-1]
        made = read.named(f"{MODULE}:{name}", "call.made", "root")[-1]
        assert own.inside <= served.length <= made.length + SLACK <= own.outside + 2 * SLACK


def arrows_lead_from_who_calls_to_who_serves(read: Read) -> None:
    made = read.named(f"{MODULE}:nap", "call.made", "root")
    served = read.named(f"{MODULE}:nap", "call.served", "one")
    for out, into in zip(made, served, strict=True):
        assert read.connects(out, into)
        assert out.start <= into.start


def three_levels_are_seen(read: Read) -> None:
    (asked,) = read.named(f"{MODULE}:relay", "call.made", "root")
    (relay,) = read.named(f"{MODULE}:relay", "call.served", "one")
    (passed,) = read.named(f"{MODULE}:nap", "call.made", "one")
    (nap,) = read.named(f"{MODULE}:nap", "call.served", "two")
    assert read.connects(asked, relay)
    assert read.connects(passed, nap)
    # What a served call calls is within it.
    ((parent,),) = read.viewer.query(f"select parent_id from slice where id = {passed.id}")
    assert parent == relay.id
    assert passed.thread == relay.thread
    assert asked.start <= relay.start <= passed.start <= nap.start


def contexts_and_streams_are_right(read: Read) -> None:
    for name in ("echo", "wait", "numbers"):
        kind = "stream" if name == "numbers" else "context"
        (made,) = read.named(f"{MODULE}:{name}", f"{kind}.made", "root")
        (served,) = read.named(f"{MODULE}:{name}", f"{kind}.served", "one")
        assert read.connects(made, served)
    (echo,) = read.named(f"{MODULE}:echo", "context.made", "root")
    assert read.arg(echo, "sent") == f"{MESSAGES}"
    (wait,) = read.named(f"{MODULE}:wait", "context.served", "one")
    assert read.arg(wait, "outcome") == "cancelled"
    assert len(read.named(f"stream of {MODULE}:echo", "stream")) == 2


def a_cancel_leads_to_what_it_ended(read: Read) -> None:
    (wait,) = read.named(f"{MODULE}:wait", "context.served", "one")
    asked = read.named("cancel task", "cancel", "root")
    ended = read.named("cancelled", "cancel", "one")
    ((out, into),) = [(a, b) for a in asked for b in ended if read.connects(a, b)][:1]
    assert out.thread == "runtime"
    assert wait.start < out.start <= into.start
    assert into.start == pytest.approx(wait.end, abs=1e-5)


def starts_and_deaths_are_seen(read: Read) -> None:
    (start,) = read.named("start late", "start", "root")
    parts = [read.named(name, "start", "root")[0] for name in ("spawn", "connect", "boot")]
    assert all(one.thread == "runtime" and one.depth == start.depth + 1 for one in parts)
    assert sum(one.length for one in parts) == pytest.approx(start.length, abs=1e-6)
    (death,) = read.marks("late died")
    assert read.arg(death, "status") == "-9"
    (made,) = read.named(f"{MODULE}:die", "call.made", "root")
    assert made.start < death.start


def a_loop_that_stood_still_is_seen(read: Read) -> None:
    (compute,) = read.named(f"{MODULE}:compute", "call.served", "one")
    blocked = read.named("blocked", "state", "one")
    assert any(one.start < compute.end and compute.start < one.end for one in blocked)


def a_killed_actors_slices_end_at_its_death(read: Read) -> None:
    (served,) = read.named(f"{MODULE}:stuck", "call.served", "late")
    # Who called was told that it died.
    (made,) = [
        one
        for one in read.named(f"{MODULE}:stuck", "call.made", "root")
        if read.connects(one, served)
    ]
    assert served.length > 1
    assert served.end == pytest.approx(made.end, abs=0.5)
    assert read.arg(served, "cut") == "its process died"


def actors_are_named(read: Read, passed: float) -> None:
    rows = read.viewer.query("select pid, name from process where pid > 0 order by pid")
    names = [(pid, name.partition("[")[0]) for pid, name in rows]
    assert names == [(1, "root"), (2, "late"), (3, "one"), (4, "two")]
    assert rows[0][1].endswith(f"@{os.getpid()}")
    assert all(0 <= one.start <= one.end <= passed for one in read.slices)


def counters_are_there(read: Read) -> None:
    sql = "select t.name, count(*) from counter c join process_counter_track t on t.id = c.track_id group by 1"
    rows: dict[str, Any] = dict(read.viewer.query(sql))
    assert rows["CPU %"] > 10
    assert rows["RSS MiB"] > 10
    assert rows["lag ms"] > 10


def test_what_is_in_the_file_is_what_was_said(tmp_path: Path) -> None:
    """Without a browser: nothing of the program's data is in it."""
    path = tmp_path / "trace.json"

    async def one_call(_an: tractor.ActorNursery, one: tractor.Portal) -> None:
        await one.run(tree.nap, seconds=0.0123456789)
        await trio.sleep(0.1)

    assert traced(path, one_call) == 130
    text = path.read_text()
    assert "0.0123456789" not in text
    metadata = msgspec.json.decode(text)["metadata"]
    assert [one["end"] for one in metadata["actors"]] == ["open"] * 3
    assert metadata["missing"] == []
    assert not TOLD.instruments
