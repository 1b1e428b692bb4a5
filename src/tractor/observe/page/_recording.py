"""What an actor and those below it do for some seconds, recorded at a click: one recording at a time.

It acts on nobody, and nothing stays on: a recording ends by itself, or as soon as whoever asked for it has gone, since
the actors record as long as they are connected.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import trio

from tractor.observe._naming import called, with_all_below
from tractor.observe.page._collector import in_thread
from tractor.observe.page._drawn import drawn
from tractor.observe.page._looks import Looks, Unknown
from tractor.observe.tracing._collecting import Collector
from tractor.observe.tracing._format import Trace
from tractor.observe.tracing._recorded import Recording
from tractor.observe.tracing._taking import missing_of
from tractor.observe.tracing._writing import TraceFile, Written
from tractor.runtime.seen._samples import Missing, Sample

SECONDS = 10.0

EVENTS = 100_000
"""Of each actor."""


class Taken(NamedTuple):
    """A recording.

    Attributes:
        number: by which its file is asked for.
        told: what the page draws.
        file: Trace Event JSON, compressed.
        name: what that file may be called.
    """

    number: int
    told: dict[str, Any]
    file: bytes
    name: str


class Take:
    """One recording, under way or over.

    Args:
        number: of it.
        one: the actor.
        below: it, and those below it.
        dirs: runtime directories.
        seconds: for how long.

    Attributes:
        done: it is over.
        taken: what it has brought; ``None``: nothing.
        why: why that is so.
    """

    def __init__(
        self, number: int, one: Sample, below: list[Sample], dirs: list[Path], seconds: float
    ) -> None:
        self._number = number
        self._one = one
        self._below = below
        self._dirs = dirs
        self._seconds = seconds
        self._collector: Collector | None = None
        self._is_enough = self._is_given_up = False
        self._began = time.monotonic()
        self.done = trio.Event()
        self.taken: Taken | None = None
        self.why = ""

    def state(self) -> dict[str, Any]:
        """How it goes."""
        collector = self._collector
        return {
            "actor": called(self._one),
            "actors": len(self._below),
            "seconds": self._seconds,
            "left": max(0.0, self._began + self._seconds - time.monotonic()),
            "events": 0 if collector is None else collector.count,
        }

    def stop(self) -> None:
        """Have it end soon, with what there is; from any thread."""
        self._is_enough = True
        if (collector := self._collector) is not None:
            collector.stop()

    def give_up(self) -> None:
        """Nobody wants it any more."""
        self._is_given_up = True
        self.stop()

    def work(self) -> Taken | None:
        """Record, in the thread of whoever calls; ``None``: it was given up.

        Raises:
            Unknown: nobody has told anything.
            OSError: there is no room for the file, or no descriptor.
        """
        uuids = {one.uuid for one in self._below if one.uuid}
        collector = self._collector = Collector(self._dirs, uuids, EVENTS)
        if self._is_enough:
            # Whoever said so has not seen the collector.
            collector.stop()
        try:
            collector.run(self._seconds)
        except BaseException:
            collector.leave()
            raise
        if self._is_given_up:
            collector.leave()
            return None
        recording = collector.finish()
        missing = missing_of(self._below, recording)
        if not recording.actors:
            whys = [f"{one.what}: {one.why}" for one in missing]
            raise Unknown("; ".join(whys[:8]) or "no answer")
        return self._made(dataclasses.replace(recording, missing=missing), missing)

    def _made(self, recording: Recording, missing: list[Missing]) -> Taken:
        trace = Trace(recording)
        file, written = _packed(trace)
        told = {
            "number": self._number,
            "actor": called(self._one),
            "time": recording.time,
            "seconds": (recording.ended - recording.began) / 1e9,
            "events": sum(len(one.events) for one in recording.actors),
            "lost": sum(one.lost for one in recording.actors),
            "unknown": sum(one.unknown for one in recording.actors),
            "missing": msgspec.to_builtins(missing),
            "file": {"bytes": len(file), "left_out": written.left_out},
            **drawn(trace),
        }
        safe = "".join(c if c.isalnum() and c.isascii() else "-" for c in self._one.name)[:60]
        at = time.strftime("%Y%m%d-%H%M%S", time.localtime(recording.time))
        return Taken(self._number, told, file, f"{safe}-{at}.json.gz")


class Recorder:
    """Makes recordings, one at a time.

    Args:
        looks: knows the actors.
        seconds: for how long each is.
    """

    def __init__(self, looks: Looks, seconds: float = SECONDS) -> None:
        self._looks = looks
        self._seconds = seconds
        self._wanted = trio.Event()
        self._number = 0
        # From the click until its thread has ended.
        self._take: Take | None = None
        # The last one, whose file may be asked for.
        self._taken: Taken | None = None

    def begin(self, uuid: str) -> Take:
        """Record an actor and those below it from now on.

        Raises:
            Unknown: there is no such actor, it can't be asked, or another recording is under way.
        """
        if self._take is not None:
            what = self._take.state()["actor"]
            raise Unknown(f"a recording of {what} is under way, and this page makes one at a time")
        self._looks.path_of(uuid)
        one = self._looks.actors.get(uuid)
        if one is None:
            raise Unknown("there is no such actor any more")
        below = with_all_below([one], self._looks.actors.values())
        self._number += 1
        self._taken = None
        self._take = Take(self._number, one, below, list(self._looks.dirs), self._seconds)
        self._wanted.set()
        return self._take

    def stop(self) -> None:
        """End what is under way, with what there is."""
        if self._take is not None:
            self._take.stop()

    def taken(self, number: int) -> Taken:
        """A recording, by its number.  Raises Unknown: it is not the last one."""
        if self._taken is None or self._taken.number != number:
            raise Unknown("that recording is not kept any more; record again")
        return self._taken

    async def run(self) -> None:
        """Make the recordings that are asked for; never returns."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            assert self._take is not None
            await self._make(self._take)

    async def _make(self, take: Take) -> None:
        try:
            take.taken = self._taken = await in_thread(take.work)
        except (Unknown, OSError) as exc:
            take.why = str(exc)
        finally:
            # Where this is cancelled, the thread goes on without it, and ends by that.
            take.give_up()
            self._take = None
            take.done.set()


def _packed(trace: Trace) -> tuple[bytes, Written]:
    """The file as the command writes it.  Raises OSError."""
    number, name = tempfile.mkstemp(prefix="tractor-dash-", suffix=".json.gz")
    os.close(number)
    path = Path(name)
    try:
        written = TraceFile(path).write(trace)
        return path.read_bytes(), written
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
