"""Recording an actor's events for somebody outside, as long as that one's connection lasts.

**Who drives.**  The loop tells a :class:`Recorder` each event, which keeps it in a bounded queue, and no more.  The
control thread takes them out, every :data:`INTERVAL`, also while the loop is blocked.  Both ends of the queue are each
used by one thread alone.

**Cost.**  Nothing before and after: the recorder is an instrument, added and removed by the loop.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import trio

from tractor.control._protocol import MAX_ANSWER, VERSION, Code, Refusal
from tractor.runtime.seen._events import Event
from tractor.runtime.seen._instrument import Instrument
from tractor.runtime.seen._told import TOLD

AT_A_TIME = 2
"""Recordings of an actor."""

INTERVAL = 0.5
"""Seconds between two batches."""

KEPT = 100_000
"""Events that wait for the next batch."""

MOST = 1_000_000
"""Events that may be asked for."""

USUAL = 200_000

_CHUNK = 500
"""Events that are encoded at a time: meanwhile nothing else of the process runs."""

_ROOM = 1024
"""Bytes of a line that are no events."""


class Batch(msgspec.Struct, omit_defaults=True):
    """A line of a recording; the first has no events.

    Attributes:
        time: when it was made, in nanoseconds of the monotonic clock of the actor's host.
        events: those since the one before, in their order.
        lost: events since the one before that are in none.
        last: nothing comes any more: the actor has ended, or who asks has said that it is enough.
    """

    time: int
    events: list[msgspec.Raw] = []
    lost: int = 0
    last: bool = False


class Recorder(Instrument):
    """Keeps what an actor tells, but for single messages.

    Args:
        most: events in all; those after them are lost.
    """

    def __init__(self, most: int) -> None:
        self._kept: deque[Event] = deque()
        self._left = most
        # Counted by the loop alone, and read by the thread.
        self._refused = 0
        # Of those, the ones that were told; and those that the thread has thrown away.
        self._told = 0
        self._over = 0

    def _keep(self, record: Event) -> None:
        if len(self._kept) < KEPT:
            self._kept.append(record)
        else:
            self._refused += 1

    actor_started = _keep
    actor_ended = _keep
    child_starting = _keep
    child_ready = _keep
    child_gone = _keep
    rung = _keep
    call_started = _keep
    call_ended = _keep
    context_opened = _keep
    context_started = _keep
    context_closed = _keep
    stream_opened = _keep
    stream_closed = _keep
    credit_waited = _keep
    cancel_requested = _keep
    channel_opened = _keep
    channel_lost = _keep
    service_event = _keep
    crashed = _keep

    # -- in the thread --------------------------------------------------------------------------------

    def take(self) -> Event | None:
        """The oldest; ``None``: there is none."""
        try:
            while self._left <= 0:
                self._kept.popleft()
                self._over += 1
            record = self._kept.popleft()
        except IndexError:
            return None
        self._left -= 1
        return record

    def put_back(self, records: list[Event]) -> None:
        """Have the latest that were taken be the oldest again."""
        self._kept.extendleft(reversed(records))
        self._left += len(records)

    def lost(self) -> int:
        """How many were lost since this was asked before."""
        refused = self._refused
        found = refused - self._told + self._over
        self._told, self._over = refused, 0
        return found


class MessageRecorder(Recorder):
    """Keeps single messages, too."""

    message_sent = Recorder._keep
    message_received = Recorder._keep


class Recording:
    """One recording; in the control thread.

    Args:
        recorder: what keeps the events.
        end: called once, when it is over.
    """

    def __init__(self, recorder: Recorder, end: Callable[[Recording], None]) -> None:
        self.recorder = recorder
        self._end: Callable[[Recording], None] | None = end
        self._due = time.monotonic() + INTERVAL

    @property
    def due(self) -> float:
        """When the next line is due, by the monotonic clock."""
        return self._due

    def line(self, now: float, last: bool = False) -> bytes | None:
        """The next line, when one is due.

        Args:
            now: by the monotonic clock.
            last: as many lines as there are, the last of which says so, and then none.
        """
        if self._end is None or (now < self._due and not last):
            return None
        line, is_all = self._encoded(last)
        if is_all:
            self._due = now + INTERVAL
            if last:
                self.close()
        return line

    def _encoded(self, last: bool) -> tuple[bytes, bool]:
        """A line, and whether nothing is left."""
        parts: list[bytes] = []
        size = 0
        is_all = False
        while not is_all:
            text, is_all = self._chunk(MAX_ANSWER - _ROOM - size)
            if not text:
                break
            parts.append(text)
            size += len(text) + 1
        batch = Batch(
            time=time.monotonic_ns(),
            events=[msgspec.Raw(part) for part in parts],
            lost=self.recorder.lost(),
            last=last and is_all,
        )
        # A chunk is several events with commas between them, which is as good as one.
        return msgspec.json.encode({"v": VERSION, "ok": batch}) + b"\n", is_all

    def _chunk(self, room: int) -> tuple[bytes, bool]:
        """Events of at most so many bytes, and whether nothing is left."""
        records: list[Event] = []
        while len(records) < _CHUNK and (record := self.recorder.take()) is not None:
            records.append(record)
        is_all = len(records) < _CHUNK
        while len(text := msgspec.json.encode(records)[1:-1]) > room:
            half = len(records) // 2
            self.recorder.put_back(records[half:])
            del records[half:]
            is_all = False
        return text, is_all

    def close(self) -> None:
        """It is over.  Idempotent."""
        end, self._end = self._end, None
        if end is not None:
            end(self)


class Recordings:
    """Begins the recordings of an actor.

    Args:
        add, remove: have the loop tell an instrument, or no more; from any thread.
    """

    def __init__(
        self, add: Callable[[Instrument], None], remove: Callable[[Instrument], None]
    ) -> None:
        self._add = add
        self._remove = remove
        self._running: list[Recording] = []

    def begin(self, request: Mapping[str, Any]) -> tuple[Batch, Recording]:
        """The first answer, and what goes on.

        Args:
            request: ``"events"``: how many at most, ``"messages"``: single ones, too.

        Raises:
            Refusal: there are others, or the request is none.
        """
        most, messages = request.get("events", USUAL), request.get("messages", False)
        if type(most) is not int or not 0 < most <= MOST:
            raise Refusal(Code.BAD_REQUEST, f'"events" is {most!r}; it is 1 to {MOST}')
        if type(messages) is not bool:
            raise Refusal(Code.BAD_REQUEST, f'"messages" is {messages!r}; it is true or false')
        if len(self._running) >= AT_A_TIME:
            raise Refusal(Code.BUSY, f"{AT_A_TIME} recordings of this actor run already")
        recorder = MessageRecorder(most) if messages else Recorder(most)
        recording = Recording(recorder, self._over)
        self._running.append(recording)
        self._add(recorder)
        return Batch(time=time.monotonic_ns()), recording

    def _over(self, recording: Recording) -> None:
        self._running.remove(recording)
        self._remove(recording.recorder)


def recordings_of(token: trio.lowlevel.TrioToken) -> Recordings:
    """The recordings of this process's actor.

    Args:
        token: of its loop, which adds and removes the instruments: while that is blocked, nothing happens anyway.
    """

    def in_loop(do: Callable[[Instrument], None]) -> Callable[[Instrument], None]:
        def soon(instrument: Instrument) -> None:
            # A loop that has ended tells nothing any more.
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(do, instrument)

        return soon

    return Recordings(in_loop(TOLD.add), in_loop(_remove))


def _remove(instrument: Instrument) -> None:
    # One that has raised is removed already.
    with contextlib.suppress(KeyError):
        TOLD.remove(instrument)
