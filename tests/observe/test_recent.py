"""The flight recorder: what it keeps, within which bounds, and what ``tractor recent`` says of a program."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import msgspec
import pytest
import trio
from ep_observe import command

import tractor
from tractor.observe._recent_text import event_text, events_of
from tractor.runtime.seen._kept import (
    MAX_BYTES,
    MAX_EVENTS,
    MAX_TEXT,
    MAX_TRACEBACK,
    Carried,
    Recorder,
)
from tractor.testing import get_rando_addr


def test_it_keeps_the_last_events() -> None:
    recorder = Recorder()
    for i in range(MAX_EVENTS + 10):
        recorder.note("rung", child=f"c{i}", why=None)
    kept = recorder.kept()
    assert len(kept) == MAX_EVENTS
    assert (kept[0].number, kept[-1].number) == (11, MAX_EVENTS + 10)
    assert kept[0].more == {"child": "c10"}
    assert [one.number for one in recorder.kept(MAX_EVENTS + 8)] == [
        MAX_EVENTS + 9,
        MAX_EVENTS + 10,
    ]


def test_it_keeps_no_more_bytes_than_it_may() -> None:
    recorder = Recorder()
    for _ in range(100):
        recorder.note("child_gone", ValueError("x" * 100_000), child="y" * 10_000)
    kept = recorder.kept()
    sizes = [len(one.more["traceback"]) + len(one.more["child"]) for one in kept]
    assert sum(sizes) <= MAX_BYTES
    assert max(sizes) <= MAX_TRACEBACK + MAX_TEXT + 10
    assert kept[-1].number == 100


def test_strangers_do_not_push_out_what_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    monkeypatch.setattr("tractor.runtime.seen._kept.time.monotonic", lambda: now)
    recorder = Recorder()
    recorder.note("child_gone", child="a")
    for _ in range(1000):
        recorder.note_stranger("peer_refused", why="no key")
    now += 1.0
    recorder.note_stranger("peer_refused", why="no key")
    assert [(one.kind, one.more) for one in recorder.kept()] == [
        ("child_gone", {"child": "a"}),
        ("peer_refused", {"why": "no key"}),
        ("peer_refused", {"why": "no key", "unseen": 999}),
    ]


def test_an_error_that_cannot_be_shown() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise KeyError("odd")

    recorder = Recorder()
    recorder.note("actor_failed", Odd())
    assert recorder.kept()[0].more["error"] == "Odd"


def test_what_channels_carry_is_added_up() -> None:
    class Transport:
        sent, received, bytes_in, bytes_out = 1, 2, 30, 40

    once = Carried().plus([Transport(), Transport()])
    assert once == Carried(4, 2, 60, 80)


def test_an_event_as_text() -> None:
    event = {"number": 3, "time": 0.0, "kind": "child_gone", "child": "a\nb", "seconds": 0.12345}
    (one,) = events_of("root@1", {"events": [{**event, "traceback": "Trace\n  ValueError: no"}]})
    lines = list(event_text(one))
    assert lines[0].endswith("  root@1  child gone  child=a?b  seconds=0.123")
    assert lines[1:] == ["    Trace", "      ValueError: no"]


async def start_and_kill() -> None:
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("victim")
        assert portal.chan.aid is not None
        assert portal.chan.aid.pid is not None
        os.kill(portal.chan.aid.pid, signal.SIGKILL)
        await trio.sleep_forever()


@pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")
def test_it_tells_how_a_child_has_lived_and_died(forked_actors: None) -> None:
    events: list[dict[str, Any]] = []

    async def main() -> None:
        with trio.fail_after(60):
            async with tractor.open_root_actor(registry_addrs=[get_rando_addr("tcp")]):
                with pytest.raises(tractor.ActorFailure):
                    await start_and_kill()
                async with tractor.open_nursery() as an:
                    await an.start_actor("cancelled")
                    await an.cancel()
                code, out, _ = await command("recent", str(os.getpid()), "--json", "--limit", "20")
                assert code == 0
                events.extend(msgspec.json.decode(out)["events"])
                code, out, _ = await command("recent", str(os.getpid()), "--tree", "--limit", "20")
                assert "child gone  child=victim" in out

    trio.run(main)
    of_victim = [one for one in events if one.get("child") == "victim"]
    assert [one["kind"] for one in of_victim] == ["child_starting", "child_ready", "child_gone"]
    gone = of_victim[-1]
    assert (gone["status"], gone["error"]) == (-signal.SIGKILL, "ActorFailure")
    assert "SIGKILL" in gone["traceback"]
    of_other = [one for one in events if one.get("child") == "cancelled"]
    assert [one["kind"] for one in of_other][:3] == ["child_starting", "child_ready", "rung"]
    assert of_other[-1]["kind"] == "child_gone"
    assert (of_other[-1]["status"], "error" in of_other[-1]) == (0, False)
