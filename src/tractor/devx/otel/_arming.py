"""Having the actors of a tree tell OpenTelemetry what they do.

The settings are handed down in the runtime vars, and each actor that is started from then on makes its own instrument
of them before its first endpoint (`instrument_child`).  Those that run already are asked by their parents, one level
after the other (`serve_instrument`).
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any

import msgspec

from tractor import log as _log
from tractor._errors import RuntimeFailure, TransportClosed
from tractor._util._names import plain_text
from tractor._util.dist._name import pip_install
from tractor.ipc._chan import Channel
from tractor.msg._nspath import NamespacePath
from tractor.process._state import ProcessVar
from tractor.runtime._actor import Actor
from tractor.runtime._state import current_actor
from tractor.runtime._vars import runtime_vars
from tractor.runtime.dialog._callee import put_return
from tractor.runtime.dialog._caller import request
from tractor.runtime.seen._instrument import Instrument
from tractor.runtime.seen._told import TOLD

log = _log.get_logger()


class Settings(msgspec.Struct, frozen=True):
    """What :func:`instrument` was called with; see there."""

    setup: str | None = None
    metrics: bool = True
    propagate: bool = True


class _SetUp:
    """What the setups of this process have done.

    It is as true of an actor that is forked off, where the SDK has kept its providers.
    """

    def __init__(self) -> None:
        self.called: set[str] = set()
        # What they have given the root logger, and a forked actor has not.
        self.handlers: list[logging.Handler] = []


_set_up: ProcessVar[_SetUp] = ProcessVar(_SetUp, survives=True)


def instrument(*, setup: str | None = None, metrics: bool = True, propagate: bool = True) -> None:
    """Have this actor and every actor below it tell OpenTelemetry what it does; in the root, that is the whole tree.

    Actors that are started later do so from the beginning; those that run are asked to, and begin within moments: what
    is open there is not told.  Each actor makes spans of its calls and contexts, of both sides, and of the starts,
    restarts and ends of its subactors; and log records carry the ids of the span that is current where they are made.
    At its end an actor has its SDK export what that still holds, for one second at most.

    Args:
        setup: ``'module:function'``, which is called once in each process with a dict of resource attributes, before
            the actor's first endpoint, and sets the providers of an SDK.  Not in an actor that is forked off a process
            where it was called: that one has its parent's providers.  ``None``: the providers that are there.
        metrics: make metrics, too.
        propagate: send trace context and baggage along with calls, and take what comes with them.

    Raises:
        NoRuntime: this is no actor.
        RuntimeFailure: it is instrumented already, with other settings.
        ImportError: OpenTelemetry's API is not installed, or the setup's module can't be imported.
        AttributeError: that has no such function.
        ValueError: ``setup`` is not of the form ``'module:function'``.
        TypeError: ``setup`` is no string.
        BaseException: what the setup has raised.
    """
    actor = current_actor()
    wanted = Settings(None if setup is None else _checked(setup), metrics, propagate)
    there = _settings()
    if there is not None:
        if there != wanted:
            raise RuntimeFailure(
                f"{actor.aid.reprol()} is instrumented for OpenTelemetry already, with {there}; {wanted} can't be added"
            )
        return
    TOLD.add(_make(actor, wanted))
    _hand_down(actor, wanted)


def instrument_child(actor: Actor) -> None:
    """As :func:`instrument`, in an actor that starts in a tree which is instrumented."""
    wanted = _settings()
    if wanted is not None:
        _instrument_gently(actor, wanted)


def serve_instrument(actor: Actor, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
    """The request ``self:_otel(**settings)`` of the parent.  Never waits."""
    wanted = msgspec.convert(kwargs, Settings)
    if _settings() is None:
        _instrument_gently(actor, wanted)
        _hand_down(actor, wanted)
    put_return(chan, cid, None)


def _instrument_gently(actor: Actor, wanted: Settings) -> None:
    """An actor that can't be instrumented serves without: it was not asked whether it wants to."""
    try:
        TOLD.add(_make(actor, wanted))
    except Exception:
        log.exception(
            "%s can't be instrumented for OpenTelemetry with %s, and serves without",
            actor.aid.reprol(),
            wanted,
        )


def _hand_down(actor: Actor, wanted: Settings) -> None:
    """Have the subactors instrumented, those to come and those that are there."""
    values = msgspec.structs.asdict(wanted)
    runtime_vars()._otel = values
    for child in actor.children.values():
        if child.chan is not None and child.chan.connected():
            with contextlib.suppress(TransportClosed):
                # Nobody waits for the answer.  One that boots gets this before it serves, since its channel is read.
                request(child.chan, "_otel", **values)


def _settings() -> Settings | None:
    values = runtime_vars()._otel
    return msgspec.convert(values, Settings) if values else None


def _checked(setup: object) -> str:
    path = NamespacePath(
        plain_text(setup, "`setup` is the 'module:function' of what sets the providers")
    )
    path.to_tuple()
    return str(path)


def _make(actor: Actor, wanted: Settings) -> Instrument:
    try:
        from tractor.devx.otel._making import make
    except ModuleNotFoundError as exc:
        if not (exc.name or "").startswith("opentelemetry"):
            raise
        raise ImportError(
            f"OpenTelemetry's API is not installed: {pip_install('otel')}", name=exc.name
        ) from exc
    if wanted.setup is not None:
        _call_once(wanted.setup, resource_of(actor))
    return make(actor, metrics=wanted.metrics, propagate=wanted.propagate)


def _call_once(setup: str, attributes: dict[str, Any]) -> None:
    done = _set_up.value
    root = logging.getLogger()
    if setup in done.called:
        for handler in done.handlers:
            # A forked actor has lost its parent's.
            root.addHandler(handler)
        return
    function: Callable[[dict[str, Any]], object] = NamespacePath(setup).load_ref()
    before = list(root.handlers)
    function(attributes)
    done.called.add(setup)
    done.handlers.extend(one for one in root.handlers if one not in before)


def resource_of(actor: Actor) -> dict[str, Any]:
    """The attributes of an actor's resource."""
    attributes: dict[str, Any] = {
        "service.instance.id": actor.aid.uuid,
        "tractor.actor.name": actor.aid.name,
        "tractor.actor.uuid": actor.aid.uuid,
        "host.name": socket.gethostname(),
    }
    if actor.pid is not None:
        attributes["process.pid"] = actor.pid
    return attributes
