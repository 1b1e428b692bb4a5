"""Who is told of events in this actor.

Theory of operation.  For each event there is one attribute of :data:`TOLD`: ``None`` while nobody wants the event, else
a function that takes its record.  Where an event happens, one look at that attribute decides whether a record is made
at all, so an actor without instruments pays for the look alone.  Adding or removing an instrument sets the attributes
anew, and what is open already sees that at its next event.

All is called in the actor's event loop.  An instrument that removes itself, or another, while it is told does no harm:
who is told is fixed when a record is made.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from tractor import log as _log
from tractor.process._state import of_process
from tractor.runtime.seen import _events
from tractor.runtime.seen._instrument import Instrument

log = _log.get_logger()

EVENTS: tuple[str, ...] = tuple(one.event for one in typing.get_args(_events.AnyEvent))
"""The names of all events."""

MAX_HEADERS = 64
MAX_HEADER_BYTES = 8 * 1024
"""Of the headers of one dialog: entries, and bytes of their names and values."""

Tell: TypeAlias = Callable[[Any], None]


class Told:
    """The instruments of this process's actor, by event.

    Attributes:
        actor: uuid of the actor.
        dialogs: somebody wants the begin or end of calls or contexts, or sends headers along.
        headers_dropped: headers that were over a limit, or no text.
    """

    actor_started: Tell | None
    actor_ended: Tell | None
    child_starting: Tell | None
    child_ready: Tell | None
    child_gone: Tell | None
    rung: Tell | None
    call_started: Tell | None
    call_ended: Tell | None
    context_opened: Tell | None
    context_started: Tell | None
    context_closed: Tell | None
    stream_opened: Tell | None
    stream_closed: Tell | None
    message_sent: Tell | None
    message_received: Tell | None
    credit_waited: Tell | None
    cancel_requested: Tell | None
    channel_opened: Tell | None
    channel_lost: Tell | None
    service_event: Tell | None
    crashed: Tell | None

    __slots__ = (*EVENTS, "_instruments", "_senders", "actor", "dialogs", "headers_dropped")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """As at first: nobody is told of anything."""
        self.actor = ""
        self.headers_dropped = 0
        self._instruments: tuple[Instrument, ...] = ()
        self._arrange()

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._instruments)

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """Those who are told, in the order in which they were added."""
        return self._instruments

    def add(self, instrument: Instrument) -> None:
        """Tell an instrument from now on; one that is told already stays where it is.

        Raises:
            TypeError: it is none.
        """
        if not isinstance(instrument, Instrument):
            raise TypeError(
                f"{instrument!r} is not an instrument: derive its class from `tractor.devx.Instrument`"
            )
        if all(one is not instrument for one in self._instruments):
            self._instruments += (instrument,)
            self._arrange()

    def remove(self, instrument: Instrument) -> None:
        """Tell it no more.  Raises KeyError: it is not told."""
        left = tuple(one for one in self._instruments if one is not instrument)
        if len(left) == len(self._instruments):
            raise KeyError(instrument)
        self._instruments = left
        self._arrange()

    def headers(self, record: _events.CallStarted | _events.ContextOpened) -> dict[str, str] | None:
        """What the instruments send along with a dialog that this actor opens; what is over the limits is left out."""
        found: dict[str, str] = {}
        size = 0
        for one in self._senders:
            try:
                more = one.headers(record)
                # Read here: it may be any mapping, of the program's own.
                pairs = [] if more is None else list(more.items())
            except BaseException as exc:
                self._failed(one, "headers", exc)
                continue
            for name, value in pairs:
                if type(name) is not str or type(value) is not str:
                    self.headers_dropped += 1
                    continue
                added = len(name.encode(errors="replace")) + len(value.encode(errors="replace"))
                if len(found) >= MAX_HEADERS or size + added > MAX_HEADER_BYTES:
                    self.headers_dropped += 1
                    continue
                found[name] = value
                size += added
        return found or None

    def _arrange(self) -> None:
        for event in EVENTS:
            heard = [one for one in self._instruments if _overrides(one, event)]
            setattr(self, event, self._teller(event, heard) if heard else None)
        self._senders = tuple(one for one in self._instruments if _overrides(one, "headers"))
        self.dialogs = bool(
            self._senders
            or self.call_started
            or self.call_ended
            or self.context_opened
            or self.context_started
            or self.context_closed
        )

    def _teller(self, event: str, heard: list[Instrument]) -> Tell:
        methods: list[tuple[Instrument, Tell]] = [(one, getattr(one, event)) for one in heard]

        def tell(record: Any) -> None:
            for one, method in methods:
                try:
                    method(record)
                except BaseException as exc:
                    self._failed(one, event, exc)

        return tell

    def _failed(self, instrument: Instrument, what: str, exc: BaseException) -> None:
        """Take out an instrument that has raised: what it watches must not suffer from it."""
        log.error(
            "the instrument %s has raised in `%s()`, and is told nothing more",
            type(instrument).__qualname__,
            what,
            exc_info=exc,
        )
        if any(one is instrument for one in self._instruments):
            self.remove(instrument)


def _overrides(instrument: Instrument, name: str) -> bool:
    own = getattr(instrument, name)
    return getattr(own, "__func__", own) is not getattr(Instrument, name)


def read_headers(sent: Any) -> dict[str, str] | None:
    """Headers that a peer has sent, within the limits; anything else is none.

    Args:
        sent: the payload, decoded as plain data.
    """
    if not isinstance(sent, Mapping) or not sent or len(sent) > MAX_HEADERS:
        return None
    size = 0
    for name, value in sent.items():
        if type(name) is not str or type(value) is not str:
            return None
        size += len(name) + len(value)
    return dict(sent) if size <= MAX_HEADER_BYTES else None


TOLD = of_process(Told())
"""Of this process's actor."""
