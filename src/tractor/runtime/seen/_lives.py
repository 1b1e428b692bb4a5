"""Telling instruments of an actor as a whole: its life, its channels, its crashes, and who cancels what.

Each function looks by itself whether somebody wants to know; all are called in the actor's event loop.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from time import monotonic_ns

from tractor._error_registry import type_path
from tractor._errors import RemoteActorError, Uid
from tractor.ipc._chan import Channel
from tractor.msg._boxing import pack_error
from tractor.msg.types import Aid
from tractor.runtime.seen import _events
from tractor.runtime.seen._told import TOLD
from tractor.trionics._groups import is_multi_cancelled

MAX_TRACEBACK = 16 * 1024
MAX_TEXT = 1000
"""Characters of an error's text."""


def tell_started(aid: Aid, parent: Channel | None, channels: Iterable[Channel]) -> None:
    """Tell that the runtime is up, and of the channels that are open already."""
    if TOLD.actor_started is not None:
        above = parent.aid.uuid if parent is not None and parent.aid is not None else None
        pid, host = aid.pid or 0, socket.gethostname()
        TOLD.actor_started(
            _events.ActorStarted(monotonic_ns(), TOLD.actor, aid.name, pid, above, host)
        )
    for chan in channels:
        tell_channel(chan, True)


def tell_ended(aid: Aid, began: int, error: BaseException | None, cancelled: bool) -> None:
    """Tell that the runtime goes.

    Args:
        aid: the actor.
        began: when it was made, in nanoseconds of the monotonic clock.
        error: with which it ends; ``None``: with none.
        cancelled: it was cancelled before its block had ended.
    """
    if TOLD.actor_ended is None:
        return
    outcome = "cancelled" if cancelled else "ok"
    path: str | None = None
    if error is not None:
        outcome = "cancelled"
        if not is_asked_for(error):
            outcome, path = "error", path_of(error)
    now = monotonic_ns()
    TOLD.actor_ended(_events.ActorEnded(now, TOLD.actor, aid.name, outcome, path, now - began))


def is_asked_for(exc: BaseException) -> bool:
    """Whether it is no failure: a cancellation, or a ctrl-c, or a group of nothing else."""
    return is_multi_cancelled(exc, (KeyboardInterrupt,))


def tell_crashed(exc: BaseException) -> None:
    """Tell what this actor fails with; what is no failure is not told."""
    if TOLD.crashed is None or is_asked_for(exc) or isinstance(exc, SystemExit):
        return
    path, text = boxed_text(exc)
    try:
        message = str(exc)[:MAX_TEXT]
    except Exception:
        # An error of the program's own may fail in any way when it is shown.
        message = ""
    TOLD.crashed(_events.Crashed(monotonic_ns(), TOLD.actor, path, message, text))


def tell_cancel(
    kind: str, target: str, canceller: Uid | None, dialog: tuple[str, int] | None = None
) -> None:
    """Tell that somebody asks for a cancellation; where it is asked, and where that arrives.

    Args:
        kind: ``'task'``, ``'actor'`` or ``'nursery'``.
        target: uuid of the actor that it is in.
        canceller: who asks.
        dialog: of a task.
    """
    if TOLD.cancel_requested is not None:
        TOLD.cancel_requested(
            _events.CancelRequested(
                monotonic_ns(), TOLD.actor, kind, target, canceller or ("", ""), dialog
            )
        )


def tell_task_cancel(chan: Channel, cid: int, canceller: Uid, is_here: bool) -> None:
    """As :func:`tell_cancel`, of the task of a dialog; ``is_here``: in this actor, else in the peer."""
    if TOLD.cancel_requested is not None:
        target = TOLD.actor if is_here else uuid_at(chan)
        tell_cancel("task", target, canceller, chan.dialog_of(cid))


def tell_channel(chan: Channel, is_open: bool) -> None:
    """Tell that a peer is connected, or is no more."""
    tell = TOLD.channel_opened if is_open else TOLD.channel_lost
    if tell is None:
        return
    name = chan.aid.name if chan.aid is not None else ""
    head = (monotonic_ns(), TOLD.actor, uuid_at(chan), name, chan.raddr.proto_key)
    carried = chan.transport
    tell(
        _events.ChannelOpened(*head)
        if is_open
        else _events.ChannelLost(*head, carried.bytes_in, carried.bytes_out)
    )


def uuid_at(chan: Channel) -> str:
    """Of the actor at the other end; empty: not known."""
    return chan.aid.uuid if chan.aid is not None else ""


def path_of(exc: BaseException) -> str:
    """The type of an error as ``module:name``; of one that came from another actor, what was raised there."""
    if isinstance(exc, RemoteActorError) and exc.ipc_msg is not None:
        return exc.ipc_msg.src_type_path
    return type_path(type(exc))


def boxed_text(exc: BaseException) -> tuple[str, str]:
    """As :func:`path_of`, and the boxed traceback, within its limit."""
    packed = exc.ipc_msg if isinstance(exc, RemoteActorError) else None
    if packed is None:
        packed = pack_error(exc, 0, ("", ""))
    return packed.src_type_path, shortened(packed.tb_str)


def shortened(text: str) -> str:
    """A traceback within its limit: its end says what has happened."""
    return text if len(text) <= MAX_TRACEBACK else f"...\n{text[-MAX_TRACEBACK:]}"
