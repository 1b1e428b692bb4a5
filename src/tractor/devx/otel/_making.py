"""An actor's instrument, with what has to be undone and exported at its end; all that needs OpenTelemetry's API."""

from __future__ import annotations

from functools import partial

from tractor.devx.otel._flush import flush
from tractor.devx.otel._logs import carry_ids
from tractor.devx.otel._metrics import Metrics
from tractor.devx.otel._spans import Spans
from tractor.runtime._actor import Actor
from tractor.runtime.seen._instrument import Instrument


def make(actor: Actor, *, metrics: bool, propagate: bool) -> Instrument:
    """The instrument of an actor; its settings are those of :func:`tractor.devx.otel.instrument`."""
    name, uuid, pid = actor.aid.name, actor.aid.uuid, actor.pid or 0
    actor.lifetime_stack.callback(carry_ids())
    # A root's providers are the program's, which goes on.
    actor.last_acts.append(partial(flush, is_over=actor.parent_chan is not None))
    if metrics:
        return Metrics(name, uuid, pid, actor=actor, propagate=propagate)
    return Spans(name, uuid, pid, propagate=propagate)
