"""Having an SDK export what it holds, without waiting longer than a second for it.

An exporter that nobody answers blocks for ten seconds and more, in whichever thread it is asked: so each provider is
asked in a thread of its own, which is left behind where it does not come back.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import trio
from opentelemetry import _logs, metrics, trace

from tractor import log as _log
from tractor._proto.deadlines import EXPORT_TIMEOUT

log = _log.get_logger()


def providers() -> list[Any]:
    """Those of this process that hold anything: an SDK's."""
    found = (
        trace.get_tracer_provider(),
        metrics.get_meter_provider(),
        _logs.get_logger_provider(),
    )
    return [one for one in found if callable(getattr(one, "force_flush", None))]


async def flush(is_over: bool) -> None:
    """Have the providers export what they hold; returns within a second.

    Args:
        is_over: nothing comes after this: they are shut down, and what they would do at the exit of the process, which
            may take long, is left out.
    """
    there = providers()
    if not there:
        return
    token = trio.lowlevel.current_trio_token()
    done = trio.Event()
    left = len(there)

    def one_is_done() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.set()

    def tell() -> None:
        # Where it comes too late nobody waits.
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(one_is_done)

    for provider in there:
        threading.Thread(
            target=_flush_one,
            args=(provider, is_over, tell),
            name="tractor-otel-flush",
            daemon=True,
        ).start()
    with trio.move_on_after(EXPORT_TIMEOUT, shield=True) as scope:
        await done.wait()
    if scope.cancelled_caught:
        log.warning(
            "OpenTelemetry's exporters did not end within %s s at the end of the actor: what they still held is lost; "
            "is the receiver there? See OTEL_EXPORTER_OTLP_ENDPOINT",
            EXPORT_TIMEOUT,
        )
    if is_over:
        for provider in there:
            if callable(shutdown := getattr(provider, "shutdown", None)):
                atexit.unregister(shutdown)


def _flush_one(provider: Any, is_over: bool, tell: Callable[[], None]) -> None:
    try:
        provider.force_flush(int(EXPORT_TIMEOUT * 1000))
        if is_over and callable(shutdown := getattr(provider, "shutdown", None)):
            shutdown()
    except Exception as exc:
        log.warning("OpenTelemetry's %s could not be flushed: %r", type(provider).__name__, exc)
    finally:
        tell()
