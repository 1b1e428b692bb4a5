"""Records several actors at once: one thread, one wait for all.

Each has two connections.  Over one come its events; over the other it is looked at, :data:`LOOKS` times a second, for
figures.  Actors that appear meanwhile are recorded as well.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from tractor._errors import TransportClosed
from tractor.control._protocol import Code, Refusal
from tractor.ipc._debug_sock import control_socks
from tractor.observe._assembling import in_order
from tractor.observe.tracing._figures import Figures
from tractor.observe.tracing._recorded import Loss, Recorded, Recording, best_offset
from tractor.observe.tracing._talk import Talk
from tractor.process.host._host_id import is_here
from tractor.runtime.seen._events import AnyEvent, ChildGone
from tractor.runtime.seen._samples import Missing, Sample, Who

LOOKS = 10.0
"""Looks at an actor in a second."""

FIND_INTERVAL = 0.05
"""Seconds between two looks for new actors."""

LAST_LIMIT = 3.0
"""Seconds for what is still to be told when it is enough."""

EXCHANGES = 8
"""Questions for the time of another clock."""


class _Batch(msgspec.Struct):
    """As :class:`tractor.control._recording.Batch` on the wire."""

    time: int
    events: list[AnyEvent] = []
    lost: int = 0
    last: bool = False


class _RawBatch(msgspec.Struct):
    """The same, of a version that may tell events which this one does not know."""

    time: int
    events: list[msgspec.Raw] = []
    lost: int = 0
    last: bool = False


_batches = msgspec.json.Decoder(_Batch)
_raw_batches = msgspec.json.Decoder(_RawBatch)
_event = msgspec.json.Decoder(AnyEvent)
_who = msgspec.json.Decoder(Who)
_sample = msgspec.json.Decoder(Sample)


class _Actor:
    """An actor, as far as it is known.

    Attributes:
        feed: where its events come.
        looks: where it is looked at; ``None``: not now.
        recorded: what there is; ``None``: it has not begun.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.feed = Talk(path)
        self.looks: Talk | None = None
        self.who: Who | None = None
        self.recorded: Recorded | None = None
        self.figures: Figures | None = None
        self.exchanges: list[tuple[int, int, int]] = []
        # When it was asked over `looks`, in nanoseconds, for an answer that has not come; 0: it was not.
        self.asked = 0
        # It has dialogs that are open: they are looked at as well.
        self.dialogs = True

    @property
    def is_over(self) -> bool:
        return self.feed.is_over

    def close(self) -> None:
        self.feed.close()
        if self.looks is not None:
            self.looks.close()


class Collector:
    """Records actors.

    Args:
        dirs: runtime directories.
        wanted: uuids of the actors; those below them belong to it.  ``None``: all.
        events: so many of each actor.
        messages: single ones, too.
    """

    def __init__(
        self,
        dirs: Sequence[Path],
        wanted: Collection[str] | None,
        events: int,
        messages: bool = False,
    ) -> None:
        self._dirs = dirs
        self._wanted = None if wanted is None else set(wanted)
        self._request = {"events": events, "messages": messages}
        self._selector = selectors.DefaultSelector()
        self._actors: list[_Actor] = []
        self._paths: set[Path] = set()
        # Those who are none of these, unless one turns out to be their parent.
        self._others: dict[Path, Who] = {}
        self._missing: dict[str, str] = {}
        self._is_ending = False
        self._is_enough = False
        self.time = time.time()
        self.began = self.ended = time.monotonic_ns()

    def run(self, seconds: float) -> None:
        """Record for a time, or until all have ended, or until :meth:`stop`."""
        end = self.began / 1e9 + seconds
        find = look = 0.0
        while (now := time.monotonic()) < end and not self._is_enough:
            if now >= find:
                self._find()
                find = now + FIND_INTERVAL
            if now >= look:
                self._look_at_all()
                look = max(now, look + 1 / LOOKS)
            self._wait(min(end, find, look) - time.monotonic())
            if self._has_ended():
                return

    def stop(self) -> None:
        """Have :meth:`run` return soon; from any thread, or a signal handler."""
        self._is_enough = True

    def leave(self) -> None:
        """Part from everybody at once, with nothing to show for it; instead of :meth:`finish`.  Actors stop by that."""
        for one in self._actors:
            one.close()
        self._selector.close()

    @property
    def count(self) -> int:
        """Events that have come; from any thread."""
        recorded = [one.recorded for one in list(self._actors)]
        return sum(len(one.events) for one in recorded if one is not None)

    def _has_ended(self) -> bool:
        return bool(self._actors) and all(one.is_over for one in self._actors)

    def finish(self) -> Recording:
        """Take what is still to be told, and part from everybody; what was recorded."""
        self.ended = time.monotonic_ns()
        self._is_ending = True
        for one in self._actors:
            if one.looks is not None:
                self._drop(one.looks)
            if one.recorded is None:
                self._drop(one.feed)
            elif not one.is_over:
                one.feed.enough()
        end = time.monotonic() + LAST_LIMIT
        try:
            while any(not one.is_over for one in self._actors):
                if (left := end - time.monotonic()) <= 0:
                    break
                self._wait(left)
        finally:
            self._close()
        return self._result()

    def _close(self) -> None:
        for one in self._actors:
            if not one.is_over and one.recorded is not None and one.recorded.how == "open":
                what = self._called(one)
                self._missing[what] = "did not tell the end: stopped, or too busy"
            one.close()
        self._selector.close()

    def _result(self) -> Recording:
        recorded = [one.recorded for one in self._actors if one.recorded is not None]
        for one in self._actors:
            if one.recorded is not None:
                one.recorded.clock = best_offset(one.exchanges)
                one.recorded.ended = one.recorded.ended or self.ended - one.recorded.clock.ns
        _mend_deaths(recorded)
        ordered: list[Recorded] = list(in_order(recorded))  # type: ignore[arg-type]
        missing = [Missing(what=what, why=why) for what, why in self._missing.items()]
        return Recording(self.time, socket.gethostname(), self.began, self.ended, ordered, missing)

    def _called(self, one: _Actor) -> str:
        return one.path.stem if one.who is None else f"{one.who.name}@{one.who.pid}"

    # -- who there is ---------------------------------------------------------------------------------

    def _find(self) -> None:
        there = set(control_socks(self._dirs))
        for path in sorted(there - self._paths):
            self._meet(path)
        # One that is gone may come again, as another.
        self._paths &= there

    def _meet(self, path: Path) -> None:
        try:
            one = _Actor(path)
            one.feed.say("hello")
        except BlockingIOError:
            # Too many want to connect to it just now; or it does not listen yet.
            return
        except (OSError, TransportClosed):
            self._paths.add(path)
            return
        self._paths.add(path)
        self._actors.append(one)
        self._selector.register(one.feed.sock, selectors.EVENT_READ, (one, one.feed))

    def _on_who(self, one: _Actor, who: Who) -> None:
        if not is_here(who.host_id) or who.pid != one.feed.pid:
            self._leave(one)
            return
        wanted = self._wanted
        if wanted is not None and who.uuid not in wanted and who.parent not in wanted:
            self._others[one.path] = who
            self._leave(one)
            return
        one.who = who
        if "record" not in who.ops:
            version = who.versions.get("tractor")
            self._missing[self._called(one)] = f"its version, {version}, records nothing"
            self._leave(one)
            return
        if wanted is not None:
            wanted.add(who.uuid)
            for path, other in list(self._others.items()):
                if other.parent in wanted:
                    del self._others[path]
                    self._paths.discard(path)
        one.feed.say("record", **self._request)

    def _leave(self, one: _Actor) -> None:
        self._drop(one.feed)
        self._actors.remove(one)

    def _drop(self, talk: Talk) -> None:
        if not talk.is_over or talk.sock.fileno() >= 0:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(talk.sock)
            talk.close()

    # -- what they say --------------------------------------------------------------------------------

    def _wait(self, seconds: float) -> None:
        for key, _ in self._selector.select(max(0.0, seconds)):
            one, talk = key.data
            heard = talk.heard()
            try:
                for answer in heard:
                    if talk is one.feed:
                        self._on_feed(one, answer)
                    else:
                        self._on_look(one, answer)
                    if talk.sock.fileno() < 0:
                        break
            except (OSError, msgspec.DecodeError) as exc:
                if one.who is not None and talk is one.feed:
                    self._missing[self._called(one)] = str(exc)
                self._drop(talk)
            if talk.is_over:
                self._on_over(one, talk)

    def _on_over(self, one: _Actor, talk: Talk) -> None:
        recorded = one.recorded
        if talk is one.feed:
            if recorded is None and one.who is not None:
                self._missing.setdefault(self._called(one), "has ended before it was recorded")
            elif recorded is not None and not recorded.ended:
                # It went without a word.
                recorded.how = "died"
                recorded.ended = time.monotonic_ns()
            if one.looks is not None:
                self._drop(one.looks)
        self._drop(talk)

    def _on_feed(self, one: _Actor, answer: bytes | Refusal) -> None:
        if isinstance(answer, Refusal):
            if one.who is not None:
                self._missing[self._called(one)] = answer.text
            elif answer.code is Code.BUSY:
                # Others ask it just now.
                self._paths.discard(one.path)
            self._leave(one)
        elif one.who is None:
            self._on_who(one, _who.decode(answer))
        elif one.recorded is None:
            who, batch = one.who, _raw_batches.decode(answer)
            one.recorded = Recorded(who.name, who.uuid, who.pid, who.host, who.parent, batch.time)
            one.figures = Figures(one.recorded)
            self._missing.pop(self._called(one), None)
            self._begin_looks(one)
        else:
            self._on_batch(one.recorded, answer)

    def _on_batch(self, recorded: Recorded, answer: bytes) -> None:
        batch: _Batch | _RawBatch
        try:
            batch = _batches.decode(answer)
            recorded.events += batch.events
        except msgspec.ValidationError:
            batch = _raw_batches.decode(answer)
            for raw in batch.events:
                try:
                    recorded.events.append(_event.decode(raw))
                except msgspec.ValidationError:
                    recorded.unknown += 1
        if batch.lost:
            recorded.losses.append(Loss(batch.time, batch.lost))
        if batch.last:
            recorded.ended = batch.time
            recorded.how = "open" if self._is_ending else "ended"

    # -- looks ----------------------------------------------------------------------------------------

    def _begin_looks(self, one: _Actor) -> None:
        try:
            one.looks = Talk(one.path)
        except (OSError, TransportClosed) as exc:
            if not one.is_over:
                self._missing[f"figures of {self._called(one)}"] = str(exc)
            return
        self._selector.register(one.looks.sock, selectors.EVENT_READ, (one, one.looks))
        self._look_at(one)

    def _look_at_all(self) -> None:
        for one in self._actors:
            if one.looks is not None and not one.looks.is_over and not one.asked:
                self._look_at(one)

    def _look_at(self, one: _Actor) -> None:
        assert one.looks is not None
        one.asked = time.monotonic_ns()
        try:
            if len(one.exchanges) < EXCHANGES:
                one.looks.say("hello")
            else:
                one.looks.say("sample", dialogs=one.dialogs)
        except OSError:
            # It has ended, which it tells over the other connection.
            self._drop(one.looks)

    def _on_look(self, one: _Actor, answer: bytes | Refusal) -> None:
        came, asked, one.asked = time.monotonic_ns(), one.asked, 0
        if isinstance(answer, Refusal):
            if answer.code is Code.BUSY and one.looks is not None:
                self._missing[f"figures of {self._called(one)}"] = answer.text
                self._drop(one.looks)
        elif len(one.exchanges) < EXCHANGES:
            said = _who.decode(answer).clock
            one.exchanges.append((asked, came if said is None else said, came))
            self._look_at(one)
        elif one.figures is not None:
            sample = _sample.decode(answer)
            one.dialogs = bool(sample.calls or sample.contexts or sample.streams)
            one.figures.add(sample, asked, came)


def _mend_deaths(recorded: Sequence[Recorded]) -> None:
    """Who died did so before its parent knew."""
    gone = {
        event.child: event.time + one.clock.ns
        for one in recorded
        for event in one.events
        if isinstance(event, ChildGone)
    }
    for one in recorded:
        if one.how == "died" and one.uuid in gone:
            latest = one.events[-1].time if one.events else one.began
            one.ended = max(latest, min(one.ended, gone[one.uuid] - one.clock.ns))
