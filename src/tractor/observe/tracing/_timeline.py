"""What happened in one actor, as slices and marks: its events, each start with its end.  Pure.

All times are nanoseconds of the clock of the actor's host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from tractor.observe.tracing._recorded import Recorded
from tractor.runtime.seen import _events
from tractor.runtime.seen._events import Dialog, Event

Args: TypeAlias = dict[str, Any]

STILL_OPEN = "still open when the recording ended"
DIED = "its process died"
ENDED = "its actor ended"
BEGAN_BEFORE = "began before the recording"
"""Why a slice is shorter than what it shows."""

BEFORE = 500_000_000
"""Nanoseconds after the beginning in which whoever is seen had begun before."""

UNSEEN = 500_000_000
"""Nanoseconds before the end in which whoever was seen had not ended."""

RUNGS = ("its boot awaited", "cancel requested", "exit awaited", "SIGTERM", "SIGKILL")


class Slice:
    """Something that took time.

    Attributes:
        name, cat: what it is, and of which kind.
        start, end: its time.
        args: what is told of it.
        task: in which task; ``None``: unknown.
        unit: within what it may be drawn: that of the same.
        out, into: numbers of the arrow that leaves it, and of the one that comes to it.
    """

    __slots__ = ("args", "cat", "end", "into", "name", "out", "start", "task", "unit")

    def __init__(
        self,
        name: str,
        cat: str,
        start: int,
        end: int,
        args: Args,
        task: int | None = None,
        unit: object = None,
    ) -> None:
        self.name = name
        self.cat = cat
        self.start = start
        self.end = end
        self.args = args
        self.task = task
        self.unit = task if unit is None else unit
        self.out: int | None = None
        self.into: int | None = None


class Span(Slice):
    """The same, where it need not nest: a context, or a stream.

    Attributes:
        marks: what happened in it: when, what, and what is told of that.
    """

    __slots__ = ("marks",)

    def __init__(
        self, name: str, cat: str, start: int, end: int, args: Args, task: int | None = None
    ) -> None:
        super().__init__(name, cat, start, end, args, task)
        self.marks: list[tuple[int, str, Args]] = []


class Mark:
    """Something that took no time.

    Attributes:
        name, cat, time, args: as of a slice.
        wide: it is drawn through all tracks of the actor.
    """

    __slots__ = ("args", "cat", "name", "time", "wide")

    def __init__(self, name: str, cat: str, time: int, args: Args, wide: bool = False) -> None:
        self.name = name
        self.cat = cat
        self.time = time
        self.args = args
        self.wide = wide


class Timeline:
    """What happened in an actor.

    Args:
        recorded: its events.

    Attributes:
        tasks: calls of each task that served or called, in the order in which those came.
        stray: calls of which no task is known.
        runtime: starts of subactors, their ends, and the actor's states.
        spans: contexts and streams.
        marks: what took no time.
        dialogs: what both ends of each are drawn as.
        cancels: those that it has asked for, each as a slice without length.
    """

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded
        self.tasks: dict[int, list[Slice]] = {}
        self.stray: list[Slice] = []
        self.runtime: list[Slice] = []
        self.spans: list[Span] = []
        self.marks: list[Mark] = []
        self.dialogs: dict[tuple[Dialog, str], Slice] = {}
        self.cancels: list[tuple[Slice, _events.CancelRequested]] = []
        # Those that have begun and not ended, by what ends them.
        self._open: dict[tuple[Any, ...], Slice] = {}
        handlers: dict[str, Callable[[Any], None]] = {
            name.removeprefix("_on_"): getattr(self, name)
            for name in dir(self)
            if name.startswith("_on_")
        }
        for event in recorded.events:
            if (handler := handlers.get(event.event)) is not None:
                handler(event)
        self._end()
        self._draw_seen()
        for phase in recorded.phases:
            shift = recorded.clock.ns
            self.runtime.append(
                Slice(phase.name, "state", phase.start - shift, phase.end - shift, {}, unit="state")
            )
        for loss in recorded.losses:
            text = f"{loss.number} events lost"
            self.marks.append(Mark(text, "lost", loss.time, {"lost": loss.number}, wide=True))

    def _end(self) -> None:
        """End what is open."""
        why = {"died": DIED, "ended": ENDED}.get(self.recorded.how, STILL_OPEN)
        for one in self._open.values():
            one.end = max(one.start, self.recorded.ended)
            one.args["cut"] = why
        self._open.clear()

    def _draw_seen(self) -> None:
        """What has begun before, and has not ended as long as it was recorded: looks tell of it alone."""
        shift = self.recorded.clock.ns
        for (dialog, side), seen in self.recorded.seen.items():
            start, end = seen.first - shift, seen.last - shift
            if (dialog, side) in self.dialogs or start > self.recorded.began + BEFORE:
                continue
            args: Args = {"dialog": dialog_text(dialog), "peer": seen.peer, "cut": BEGAN_BEFORE}
            if end < self.recorded.ended - UNSEEN:
                # It has ended; by which look that was known tells when.
                args["end"] = "seen by looks alone"
            else:
                end = self.recorded.ended
            cat = f"{seen.kind}.{_WORDS[side]}"
            kind = Slice if seen.kind == "call" else Span
            one = kind(seen.function, cat, min(self.recorded.began, end), end, args)
            if isinstance(one, Span):
                self.spans.append(one)
            else:
                self.stray.append(one)
            self.dialogs[dialog, side] = one

    # -- what begins and ends -------------------------------------------------------------------------

    def _begin(self, key: tuple[Any, ...], one: Slice) -> None:
        self._open[key] = one
        if isinstance(one, Span):
            self.spans.append(one)
        elif one.task is None:
            self.runtime.append(one)
        else:
            self.tasks.setdefault(one.task, []).append(one)

    def _finish(self, key: tuple[Any, ...], event: Event, **args: Any) -> Slice | None:
        """End what has begun; ``None``: its beginning is not known."""
        if len(key) == 2 and self._open.get(("stream", *key)) is not None:
            # With a dialog ends its stream.
            self._finish(("stream", *key), event)
        one = self._open.pop(key, None)
        if one is not None:
            one.end = max(one.start, event.time)
            one.args.update({name: arg for name, arg in args.items() if arg is not None})
        return one

    def _late(self, kind: type[Slice], event: Any, cat: str, args: Args) -> Slice:
        """What has ended, and has begun when nothing was recorded."""
        start = max(self.recorded.began, event.time - event.duration)
        args = {
            **args,
            "dialog": dialog_text(event.dialog),
            "cut": BEGAN_BEFORE,
            "seconds": event.duration / 1e9,
        }
        return kind(event.function, cat, min(start, event.time), event.time, args)

    def _on_call_started(self, event: _events.CallStarted) -> None:
        if event.kind == "stream":
            self._dialog_begins(event, "stream")
            return
        cat = f"call.{_WORDS[event.side]}"
        args = _of_dialog(event)
        one = Slice(event.function, cat, event.time, event.time, args, event.task)
        self.dialogs[event.dialog, event.side] = one
        self._begin((event.dialog, event.side), one)

    def _on_call_ended(self, event: _events.CallEnded) -> None:
        args = {"outcome": event.outcome, "error": event.error}
        if self._finish((event.dialog, event.side), event, **args) is None:
            cat = f"call.{_WORDS[event.side]}"
            one = self._late(Slice, event, cat, _known(args))
            self.stray.append(one)
            self.dialogs[event.dialog, event.side] = one

    def _on_context_opened(self, event: _events.ContextOpened) -> None:
        self._dialog_begins(event, "context")

    def _dialog_begins(self, event: Any, kind: str) -> None:
        cat = f"{kind}.{_WORDS[event.side]}"
        args = _of_dialog(event)
        one = Span(event.function, cat, event.time, event.time, args, event.task)
        # A task that serves nothing else has a place for what ends it, too.
        self.tasks.setdefault(event.task, [])
        self.dialogs[event.dialog, event.side] = one
        self._begin((event.dialog, event.side), one)

    def _on_context_started(self, event: _events.ContextStarted) -> None:
        one = self._open.get((event.dialog, event.side))
        if isinstance(one, Span):
            one.marks.append((event.time, "started", {}))

    def _on_context_closed(self, event: _events.ContextClosed) -> None:
        args: Args = {"outcome": event.outcome, "error": event.error}
        if event.sent or event.received or event.discarded:
            args |= {"sent": event.sent, "received": event.received, "discarded": event.discarded}
        if self._finish((event.dialog, event.side), event, **args) is None:
            cat = f"context.{_WORDS[event.side]}"
            one = self._late(Span, event, cat, _known(args))
            assert isinstance(one, Span)
            self.spans.append(one)
            self.dialogs[event.dialog, event.side] = one

    def _on_stream_opened(self, event: _events.StreamOpened) -> None:
        around = self._open.get((event.dialog, event.side))
        if around is not None and around.cat.startswith("stream."):
            # A one-way stream is drawn as it is.
            return
        args = {"dialog": dialog_text(event.dialog)}
        one = Span(f"stream of {event.function}", "stream", event.time, event.time, args)
        self._begin(("stream", event.dialog, event.side), one)

    def _on_stream_closed(self, event: _events.StreamClosed) -> None:
        args = {"sent": event.sent, "received": event.received, "discarded": event.discarded}
        self._finish(("stream", event.dialog, event.side), event, **args)

    def _on_message_sent(self, event: _events.MessageSent) -> None:
        self._message(event, "sent")

    def _on_message_received(self, event: _events.MessageReceived) -> None:
        self._message(event, "received")

    def _message(self, event: Any, what: str) -> None:
        for side in ("caller", "callee"):
            for key in (("stream", event.dialog, side), (event.dialog, side)):
                one = self._open.get(key)
                if isinstance(one, Span):
                    one.marks.append((event.time, what, {"bytes": event.bytes}))
                    return

    def _on_credit_waited(self, event: _events.CreditWaited) -> None:
        args = {"dialog": dialog_text(event.dialog)}
        start = max(self.recorded.began, event.time - event.duration)
        name = f"no credit for {event.function}"
        self.spans.append(Span(name, "credit", min(start, event.time), event.time, args))

    # -- subactors ------------------------------------------------------------------------------------

    def _on_child_starting(self, event: _events.ChildStarting) -> None:
        args = _known({"child": event.child, "backend": event.backend, "host": event.host})
        one = Slice(f"start {event.name}", "start", event.time, event.time, args, unit=event.child)
        self._begin(("start", event.child), one)

    def _on_child_ready(self, event: _events.ChildReady) -> None:
        one = self._finish(("start", event.child), event)
        if one is None:
            return
        at = one.start
        for name, seconds in (
            ("spawn", event.spawn),
            ("connect", event.connect),
            ("boot", event.boot),
        ):
            until = event.time if name == "boot" else min(event.time, at + round(1e9 * seconds))
            part = Slice(name, "start", at, until, {"seconds": seconds}, unit=event.child)
            self.runtime.append(part)
            at = until

    def _on_rung(self, event: _events.Rung) -> None:
        if ("end", event.child) not in self._open:
            one = Slice(
                f"end {event.name}", "teardown", event.time, event.time, {}, unit=event.child
            )
            self._begin(("end", event.child), one)
        self._finish(("rung", event.child), event)
        words = RUNGS[event.rung] if 0 <= event.rung < len(RUNGS) else ""
        name = f"rung {event.rung}: {words}"
        args = {"name": event.name}
        one = Slice(name, "teardown", event.time, event.time, args, unit=event.child)
        self._begin(("rung", event.child), one)

    def _on_child_gone(self, event: _events.ChildGone) -> None:
        args = _known(
            {
                "child": event.child,
                "outcome": event.outcome,
                "status": event.status,
                "error": event.error,
                "rung": event.rung,
            }
        )
        for what in ("start", "rung", "end"):
            self._finish((what, event.child), event, outcome=event.outcome, status=event.status)
        died = event.outcome == "died"
        name = f"{event.name} died" if died else f"{event.name} has ended"
        self.marks.append(Mark(name, "death" if died else "end", event.time, args, wide=died))

    # -- what takes no time ---------------------------------------------------------------------------

    def _on_actor_started(self, event: _events.ActorStarted) -> None:
        self._mark(event, "actor started", "start")

    def _on_actor_ended(self, event: _events.ActorEnded) -> None:
        self._mark(event, "actor ended", "end", outcome=event.outcome, error=event.error)

    def _on_channel_opened(self, event: _events.ChannelOpened) -> None:
        self._mark(event, f"connected to {event.peer_name}", "channel", transport=event.transport)

    def _on_channel_lost(self, event: _events.ChannelLost) -> None:
        self._mark(event, f"parted from {event.peer_name}", "channel", transport=event.transport)

    def _on_service_event(self, event: _events.ServiceEvent) -> None:
        name = f"{event.kind} {event.service}"
        restarts, error = event.restarts, event.error
        self._mark(event, name, "service", text=event.text, restarts=restarts, error=error)

    def _on_crashed(self, event: _events.Crashed) -> None:
        name = f"crash: {event.error}"
        self._mark(
            event, name, "crash", wide=True, message=event.message, traceback=event.traceback
        )

    def _mark(self, event: Event, name: str, cat: str, wide: bool = False, **args: Any) -> None:
        self.marks.append(Mark(name, cat, event.time, _known(args), wide))

    def _on_cancel_requested(self, event: _events.CancelRequested) -> None:
        args = {"kind": event.kind, "by": f"{event.canceller[0]}[{event.canceller[1][:6]}]"}
        if event.dialog is not None:
            args["dialog"] = dialog_text(event.dialog)
        one = Slice(f"cancel {event.kind}", "cancel", event.time, event.time, args)
        self.cancels.append((one, event))


_WORDS = {"caller": "made", "callee": "served"}


def dialog_text(dialog: Dialog) -> str:
    """A dialog in short."""
    return f"{dialog[0][:6]}#{dialog[1]}"


def _known(args: Args) -> Args:
    return {name: arg for name, arg in args.items() if arg is not None}


def _of_dialog(event: _events.CallStarted | _events.ContextOpened) -> Args:
    return {
        "dialog": dialog_text(event.dialog),
        "peer": f"{event.peer_name}[{event.peer[:6]}]",
        "transport": event.transport,
    }
