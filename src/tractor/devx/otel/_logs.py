"""Log records carry the ids of the span that is current where they are made.

By the names that OpenTelemetry's own instrumentation of :mod:`logging` gives them, so that formats and handlers for
one work with the other: ``otelTraceID``, ``otelSpanID``, ``otelTraceSampled``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from opentelemetry import trace

NO_ID = "0"


class _Factory:
    """Makes records, by another factory, and adds the ids."""

    def __init__(self, before: Callable[..., logging.LogRecord]) -> None:
        self.before = before

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self.before(*args, **kwargs)
        context = trace.get_current_span().get_span_context()
        valid = context.is_valid
        record.otelTraceID = trace.format_trace_id(context.trace_id) if valid else NO_ID
        record.otelSpanID = trace.format_span_id(context.span_id) if valid else NO_ID
        record.otelTraceSampled = valid and context.trace_flags.sampled
        return record


def carry_ids() -> Callable[[], None]:
    """Have each record that is made in this process from now on carry the ids; ``0``: there is no span.

    Returns:
        What ends that, unless somebody else has taken over the making of records since.
    """
    before = logging.getLogRecordFactory()
    if isinstance(before, _Factory):
        # Of a parent whose memory this process has.
        return lambda: None
    factory = _Factory(before)
    logging.setLogRecordFactory(factory)

    def undo() -> None:
        if logging.getLogRecordFactory() is factory:
            logging.setLogRecordFactory(before)

    return undo
