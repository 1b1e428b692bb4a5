"""One reader task for each channel: a chunk of bytes, the messages in it, each to its dialog.

Theory of operation.  The reader takes what one chunk brings and hands it over *synchronously*: a look-up by the
dialog's id, and a call that never blocks.  Whoever waits is rescheduled directly.  A chunk may hold thousands of
messages, so a turn is limited, in messages and in time; then the other tasks run.  Messages of one stream that follow
each other are handed over together.

Why races are safe.  A dialog's end is looked up for each message anew: one that has ended in between, by a message
before or by a local task while the reader gave way, is not there any more, and the message is counted as late.  A
request is in the table before its task first runs, so a cancel request right behind it finds it.  When the channel
ends, its peer's process is waited for first (bounded), so that every dialog's error can tell how it ended; then the
dialogs end, and only then the channel counts as gone: who waits for that finds no dialog left.  Requests that come
while the actor is cancelled are refused, so what it waits for can only become less.
"""

from __future__ import annotations

import importlib
from functools import partial
from time import perf_counter
from typing import Any

import trio

from tractor import log as _log
from tractor._errors import MessagingError, TransportClosed
from tractor._util._turns import current_turns
from tractor.ipc._chan import Channel
from tractor.ipc._dialog_end import DialogEnd
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
from tractor.runtime._actor import SLICE, Actor
from tractor.runtime._intake import Intake
from tractor.runtime._requests import PARENT_MODULES, serve_request
from tractor.runtime.dialog._callee import ServedCall, ServedStream
from tractor.runtime.dialog._context import Context
from tractor.runtime.dialog._context_child import ServedContext
from tractor.runtime.dialog._endpoints import Kind, find_endpoint
from tractor.runtime.dialog._telling import NOT_TOLD, ToldDialog
from tractor.runtime.seen._lives import tell_channel
from tractor.runtime.seen._told import TOLD
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


@trio.lowlevel.enable_ki_protection
async def serve_channel(
    actor: Actor, chan: Channel, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Read a peer's channel and hand each message to its dialog, until the channel ends.

    What is true afterwards: the channel is closed, every dialog on it has ended, and the tasks that the peer
    had started here are cancelled.
    """
    server = actor.ipc_server
    if not _identify(actor, chan):
        chan.abort()
        return
    server.add_peer(chan)
    intake = actor.intakes[chan] = Intake(
        chan,
        wire_settings().limits,
        partial(_begin, actor, chan),
        lambda limit: actor.limits_reached.update((limit,)),
    )
    tell_channel(chan, True)
    chan.transport.frame_progress = wire_settings().limits.frame_progress
    chan.transport.may_stall = lambda: actor.is_trusted_with_time(chan)
    lost = TransportClosed(f"the channel to {chan.peer} was closed on this side")
    try:
        async with trio.open_nursery() as tn:
            tn.start_soon(chan.transport.run_flusher, name=f"flusher of {chan.peer}")
            if chan.transport.has_watch:
                tn.start_soon(chan.transport.watch, name=f"watch of {chan.peer}")
            task_status.started()
            try:
                await _read(actor, chan, intake)
            except TransportClosed as exc:
                lost = exc
            tn.cancel_scope.cancel()
    except Exception as exc:
        # A bug of the runtime costs this channel, not the actor.
        log.exception("the channel to %s is given up", chan.peer)
        lost = TransportClosed(f"the channel to {chan.peer} failed here: {exc!r}", src_exc=exc)
    finally:
        chan.abort()
        if chan.dialogs and chan.process is not None:
            # Every dialog's error is to tell how the process ended.
            await chan.process.wait_ended()
        await _drop(actor, chan, lost)


def _identify(actor: Actor, chan: Channel) -> bool:
    """See whether a child of this actor is at the other end; ``False``: it says so, and can't prove it.

    A child proves it once, by the secret of its boot pipe; what is of its life counts on that channel alone.
    """
    assert chan.aid is not None
    record = actor.children.get(chan.aid.uid)
    claim, chan.claim = chan.claim, None
    if claim is not None and chan.role == "accept":
        if record is None or not record.prove(chan, claim):
            log.warning("%s claims to be a child of this actor, without proof", chan.peer)
            return False
        actor.ipc_server.put_first(chan)
    if record is not None and record.owns(chan):
        chan.process = record
    return True


async def _read(actor: Actor, chan: Channel, intake: Intake) -> None:
    """Read until the channel ends.

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
                _on_start(actor, chan, intake, msg)  # type: ignore[arg-type]
                continue
            method = methods.get(kind)
            if method is None:
                raise protocol_error(chan, f"a {kind.__name__!r} message does not belong here")
            dialog = dialogs.get(msg.cid)  # type: ignore[union-attr, arg-type]
            if dialog is not None:
                getattr(dialog, method)(msg)
            elif msg.cid == 0 and kind is Error:  # type: ignore[union-attr]
                _on_boot_error(actor, chan, msg)
            else:
                chan.late_messages += 1


async def _hand_over(dialog: DialogEnd, msgs: list[Yield[Any]]) -> None:
    """Give a dialog several messages of its stream: at once, or one by one where it may be that it can't hold them."""
    if not dialog.on_yields(msgs):
        for msg in msgs:
            if dialog.on_yield(msg):
                # A full buffer in the strict mode: its reader must have had a turn before the next message.
                await current_turns().let_pass()


def _on_start(actor: Actor, chan: Channel, intake: Intake, msg: Request) -> None:
    """Serve a request: in a task of its own, or at once where it is one to the runtime."""
    aid = chan.aid
    cid = msg.cid
    if aid is None or msg.uid != aid.uid:
        raise protocol_error(chan, f"a request came under the identity {msg.uid}")
    if cid in chan.dialogs or (cid & 1) == (chan.role == "connect"):
        raise protocol_error(
            chan, f"a request came under the dialog id {cid}, which is not the peer's to use"
        )
    if msg.ns == "self":
        serve_request(actor, chan, intake, msg)
    else:
        intake.take(msg, len(actor.served))


def _begin(actor: Actor, chan: Channel, msg: Request) -> None:
    """Serve a request that came to an endpoint."""
    if actor.closed_because:
        if actor.cancel_called and not actor.draining.is_begun:
            actor.refuse(chan, msg.cid, f"{msg.ns}:{msg.func}")
        else:
            actor.intakes[chan].busy(msg, actor.closed_because)
        return
    cid = msg.cid
    try:
        enabled = actor.enabled
        if msg.ns in PARENT_MODULES and chan is actor.parent_chan:
            importlib.import_module(msg.ns)
            enabled = enabled | PARENT_MODULES
        endpoint = find_endpoint(enabled, msg.ns, msg.func, msg.kind)
    except Exception as exc:
        actor.intakes[chan].refuse(cid, exc, actor.aid.uid)
        return
    start = actor.service_nursery.start_soon
    told = None
    if TOLD.dialogs and msg.ns not in NOT_TOLD:
        told = ToldDialog(chan, cid, "callee", endpoint.name, endpoint.kind, msg.headers)
    if endpoint.kind is Kind.CONTEXT:
        # Written apart, so that its end may still leave at once: see `FrameSender.put()`.
        chan.transport.put_now(StartAck(cid, "context"))
        core = ServedContext(actor, chan, cid, msg.kwargs, endpoint, Context)
        start(core.run, told, name=endpoint.name)
        return
    cls = ServedCall if endpoint.kind is Kind.CALL else ServedStream
    start(cls(actor, chan, cid, msg.kwargs, endpoint).run, told, name=endpoint.name)


def _on_boot_error(actor: Actor, chan: Channel, msg: Any) -> None:
    record = actor.child_at(chan)
    if record is None:
        # Anybody can send it, as often as it likes.
        raise protocol_error(chan, "the boot error of what is not a child of this actor")
    record.on_boot_error(msg)


async def _drop(actor: Actor, chan: Channel, lost: TransportClosed) -> None:
    level = log.transport
    if chan.dialogs and not (chan.cancel_called or actor.cancel_called):
        # Nobody had said goodbye: what was open ends with it.
        level = log.warning
    level("the channel to %s ended with %d open dialogs: %s", chan.peer, len(chan.dialogs), lost)
    try:
        # Ending a task takes a while: what others wait for is done between two slices.
        while chan.lose_dialogs(lost, SLICE):
            await trio.lowlevel.cancel_shielded_checkpoint()
    finally:
        if actor.intakes.pop(chan, None) is not None:
            actor.carried = actor.carried.plus((chan.transport,))
            tell_channel(chan, False)
        # There are those who wait for it, shielded.
        actor.ipc_server.remove_peer(chan)
    actor.on_channel_lost(chan)
    if chan is actor.parent_chan and not actor.cancel_called:
        log.cancel("the parent %s is gone", chan.peer)
        actor.start_cancel(chan.aid)


def protocol_error(chan: Channel, what: str) -> TransportClosed:
    """Close a channel whose peer broke the protocol; the error that every dialog on it ends with."""
    exc = MessagingError(f"{what}; the channel to {chan.peer} is closed")
    log.warning("%s", exc)
    return TransportClosed(str(exc), src_exc=exc)
