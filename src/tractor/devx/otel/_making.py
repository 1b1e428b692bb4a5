"""An actor's instrument, with what has to be undone and exported at its end; all that needs OpenTelemetry's API."""

from __future__ import annotations

from tractor import log as _log
from tractor.devx.otel._flush import flush
from tractor.devx.otel._logs import carry_ids
from tractor.devx.otel._metrics import Metrics
from tractor.devx.otel._spans import Spans
from tractor.runtime._actor import Actor
from tractor.runtime.seen._instrument import Instrument

log = _log.get_logger()


def make(actor: Actor, *, metrics: bool, propagate: bool) -> Instrument:
    """The instrument of an actor; its settings are those of :func:`tractor.devx.otel.instrument`."""
    name, uuid, pid = actor.aid.name, actor.aid.uuid, actor.pid or 0
    is_root = actor.parent_chan is None
    made: Spans
    if metrics:
        made = Metrics(name, uuid, pid, actor=actor, is_root=is_root, propagate=propagate)
    else:
        made = Spans(name, uuid, pid, propagate=propagate)

    async def end() -> None:
        try:
            made.end_all()
        except Exception:
            # A processor of the program's own; the actor's end must not suffer from it.
            log.exception("what was open could not be told to OpenTelemetry")
        # A root's providers are the program's, which goes on.
        await flush(is_over=not is_root)

    actor.last_acts.append(end)
    actor.lifetime_stack.callback(carry_ids())
    return made
