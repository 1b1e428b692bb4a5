"""One reader task for each channel: a chunk of bytes, the messages in it, each to its dialog.

Theory of operation.  The reader takes what one chunk brings and hands it over *synchronously*: a look-up by the
dialog's id, and a call that never blocks.  Whoever waits is rescheduled directly.  A chunk may hold thousands of
messages, so a turn is limited, in messages and in time; then the other tasks run.  Messages of one stream that follow
each other are handed over together.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import trio

from tractor import log as _log
from tractor._errors import MessagingError, TransportClosed
from tractor._util._turns import current_turns
from tractor.ipc._chan import Channel, DialogEnd
from tractor.msg.types import (
    CancelAck,
    Credit,
    Error,
    Request,
    Return,
    StartAck,
    Started,
    Stop,
    Yield,
)
from tractor.runtime._intake import Intake
from tractor.transport._settings import wire_settings

log = _log.get_logger()

_METHODS: dict[type, str] = {
    StartAck: "on_start_ack",
    Started: "on_started",
    Stop: "on_stop",
    Return: "on_return",
    CancelAck: "on_cancel_ack",
    Credit: "on_credit",
    Error: "on_error",
}


async def read_channel(
    chan: Channel,
    intake: Intake,
    on_start: Callable[[Channel, Intake, Request], None],
    on_boot_error: Callable[[Channel, Any], None],
) -> None:
    """Read a peer's channel, and hand each message to its dialog, until the channel ends.

    Args:
        chan: the channel.
        intake: the peer's requests.
        on_start: takes a request, with the channel and the peer's requests.
        on_boot_error: takes the error of a child that could not be configured.

    Raises:
        TransportClosed: the channel has ended, or the peer has broken the protocol.
    """
    dialogs = chan.dialogs
    recv_batch = chan.transport.recv_batch
    methods = _METHODS
    limits = wire_settings().limits
    most, seconds = limits.turn_messages, limits.turn_seconds
    while True:
        batch = await recv_batch()
        intake.turn += 1
        size = len(batch)
        n = 0
        turn_end = most
        # A message by itself is a turn, however long it takes.
        deadline = perf_counter() + seconds if size > 1 else 0.0
        while n < size:
            if n and (n >= turn_end or perf_counter() > deadline):
                await trio.lowlevel.checkpoint()
                intake.turn += 1
                turn_end = n + most
                deadline = perf_counter() + seconds
            msg = batch[n]
            kind = type(msg)
            n += 1
            if kind is Yield:
                cid, first = msg.cid, n - 1  # type: ignore[union-attr]
                while (
                    n < size and n < turn_end and type(batch[n]) is Yield and batch[n].cid == cid  # type: ignore[union-attr]
                ):
                    n += 1
                dialog = dialogs.get(cid)  # type: ignore[arg-type]
                if dialog is None:
                    chan.late_messages += n - first
                elif n - first == 1:
                    if dialog.on_yield(msg):  # type: ignore[arg-type]
                        await current_turns().let_pass()
                else:
                    await _hand_over(dialog, batch[first:n])  # type: ignore[arg-type]
                continue
            if kind is Request:
                on_start(chan, intake, msg)  # type: ignore[arg-type]
                continue
            method = methods.get(kind)
            if method is None:
                raise protocol_error(chan, f"a {kind.__name__!r} message does not belong here")
            dialog = dialogs.get(msg.cid)  # type: ignore[union-attr, arg-type]
            if dialog is not None:
                getattr(dialog, method)(msg)
            elif msg.cid == 0 and kind is Error:  # type: ignore[union-attr]
                on_boot_error(chan, msg)
            else:
                chan.late_messages += 1


async def _hand_over(dialog: DialogEnd, msgs: list[Yield[Any]]) -> None:
    """Give a dialog several messages of its stream: at once, or one by one where it may be that it can't hold them."""
    if not dialog.on_yields(msgs):
        for msg in msgs:
            if dialog.on_yield(msg):
                # A full buffer in the strict mode: its reader must have had a turn before the next message.
                await current_turns().let_pass()


def protocol_error(chan: Channel, what: str) -> TransportClosed:
    """Close a channel whose peer broke the protocol; the error that every dialog on it ends with."""
    exc = MessagingError(f"{what}; the channel to {chan.peer} is closed")
    log.warning("%s", exc)
    return TransportClosed(str(exc), src_exc=exc)
