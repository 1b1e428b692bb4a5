"""The caller's side of dialogs that are not contexts: a call, a runtime request, a one-way stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import trio

from tractor import log as _log
from tractor._error_registry import type_path
from tractor._errors import (
    ActorBusy,
    MessagingError,
    MsgTypeError,
    RemoteActorError,
    TransportClosed,
    Uid,
)
from tractor._proto.deadlines import CANCEL_TIMEOUT
from tractor._proto.dialog.flow import Admission
from tractor._util._caller import Caller, calling_code
from tractor._util._crash_text import actor_of
from tractor.ipc._chan import Channel
from tractor.ipc._dialog_end import DialogEnd
from tractor.msg._boxing import unpack_error
from tractor.msg._codec import ANY_DEC, codec_in_force
from tractor.msg._conversion import decode_result, result_error
from tractor.msg._payload import payload_type_error, refuse_garbage, unencodable_error
from tractor.msg.types import CancelAck, Error, MsgType, Return, Start, StartAck, Stop, Yield
from tractor.process._state import of_process
from tractor.runtime.dialog._endpoints import Endpoint, Kind
from tractor.runtime.dialog._host import Host
from tractor.runtime.dialog._port import StreamPort
from tractor.runtime.dialog._telling import ToldDialog, tell_stream, told_call
from tractor.runtime.seen._lives import tell_task_cancel
from tractor.runtime.seen._told import TOLD
from tractor.transport._stream import HIGH_WATER
from tractor.trionics._groups import the_one_error, without

log = _log.get_logger()

_BUSY = type_path(ActorBusy)
_CANCELLED = type_path(trio.Cancelled)


class PendingCall(DialogEnd):
    """A request whose one reply is awaited by one task, or by nobody."""

    __slots__ = ("_task", "chan", "cid", "on_end", "reply", "what")

    def __init__(self, chan: Channel, what: str) -> None:
        self.chan = chan
        self.cid = chan.open(self)
        self.what = what
        self.reply: MsgType | BaseException | None = None
        self._task: trio.lowlevel.Task | None = None
        # Called at the end, before anything else happens.
        self.on_end: Callable[[], None] | None = None

    async def wait(self) -> MsgType | BaseException:
        """The reply, or the reason why none comes."""
        if self.reply is None:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
            assert self.reply is not None
        else:
            await trio.lowlevel.checkpoint()
        return self.reply

    def _abort(self, _raise_cancel: Any) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def end(self, msg: MsgType | BaseException) -> None:
        self.chan.dialogs.pop(self.cid, None)
        if self.reply is None:
            self.reply = msg
            if self.on_end is not None:
                self.on_end()
            if self._task is not None:
                trio.lowlevel.reschedule(self._task)
                self._task = None

    # Any of them is a reply.
    on_return = on_cancel_ack = on_error = end

    def on_lost(self, exc: TransportClosed) -> None:
        self.end(lost(self.chan, self.what, exc))

    def on_start_ack(self, msg: StartAck) -> None:
        # The peer took the request for another kind of dialog: stop that task, its end is of no interest.
        self.end(
            TypeError(
                f"{self.what} is not a plain async function at the peer: it began a {msg.functype!r} dialog"
            )
        )
        request_cancel(self.chan, self.cid)

    def _out_of_grammar(self, msg: MsgType) -> None:
        self.end(
            MessagingError(
                f"a {type(msg).__name__!r} message is not a reply to the call of {self.what}"
            )
        )


_origins: WeakKeyDictionary[BaseException, Channel] = of_process(WeakKeyDictionary())


def origin_of(exc: BaseException) -> Channel | None:
    """The channel that an error came over, or whose loss it tells of."""
    return _origins.get(exc) if isinstance(exc, (RemoteActorError, TransportClosed)) else None


def canceller_of(exc: RemoteActorError) -> Uid | None:
    """Who asked for the cancellation that an error of a peer tells of, as far as it says."""
    return exc.ipc_msg.canceller if exc.ipc_msg is not None else None


def told_once(exc: BaseException, known: Iterable[BaseException] = ()) -> BaseException | None:
    """What is left of a group when of the errors by which several dialogs tell of one event the first is kept.

    One event is: a channel was lost; one actor asked for the cancellation of another one's tasks; an actor failed as
    a whole.  How many of the
    dialogs end with it, before the first of these errors cancels the rest, is chance.

    Args:
        exc: an error or a group.
        known: errors that are told anyway.

    Returns:
        The error or group, a group of one as what it holds; ``None`` if ``known`` tells of all.
    """
    told = {event: one for one in known if (event := _event_of(one)) is not None}

    def is_told(one: BaseException) -> bool:
        event = _event_of(one)
        if event is None or told.setdefault(event, one) is one:
            return False
        log.cancel("%r tells of the same as %r", one, told[event])
        return True

    try:
        left = without(exc, is_told)
        return None if left is None else the_one_error(left)
    except Exception:
        # An exception, or a group, of the application's own may fail in any way when it is looked at.
        return exc


def _event_of(exc: BaseException) -> tuple[object, ...] | None:
    chan = _origins.get(exc) if isinstance(exc, TransportClosed) else None
    if chan is not None:
        return TransportClosed, chan.aid.uid if chan.aid is not None else id(chan)
    if isinstance(exc, RemoteActorError) and exc.src_type is trio.Cancelled:
        return trio.Cancelled, exc.src_uid, canceller_of(exc)
    if isinstance(exc, RemoteActorError) and canceller_of(exc) is not None:
        # See `failure_error()`.
        return RemoteActorError, canceller_of(exc)
    return None


def lost(chan: Channel, what: str, exc: TransportClosed) -> TransportClosed:
    """The error of a dialog whose channel is gone."""
    error = TransportClosed(
        f"peer IPC channel closed abruptly? {chan.peer} is gone, whether {what} ran is unknown: {exc}",
        src_exc=exc.src_exc,
    )
    _origins[error] = chan
    if chan.process is not None:
        chan.process.note_loss(error, what)
    return error


async def explain_loss(chan: Channel, exc: TransportClosed, what: str = "a message") -> None:
    """Have an error that came from the channel itself tell how the peer ended, where that is a child.

    Waits at most 0.5 s, shielded, for that end.
    """
    _origins.setdefault(exc, chan)
    if chan.process is not None:
        await chan.process.wait_ended()
        chan.process.note_loss(exc, what)


def put_start(
    chan: Channel,
    cid: int,
    ns: str,
    func: str,
    kwargs: dict[str, Any],
    kind: Any = "call",
    spec: str | None = None,
    encoder: msgspec.msgpack.Encoder | None = None,
    endpoint: Endpoint | None = None,
    headers: dict[str, str] | None = None,
) -> None:
    """Send a request; on failure its dialog is forgotten.

    Args:
        chan: the channel to the peer.
        cid: the dialog.
        ns, func: module and name.
        kwargs: the arguments.
        kind: of the dialog.
        spec: the payload spec, for people.
        encoder: encodes the arguments; default: the channel's.
        endpoint: the function, where it is at hand.
        headers: of this actor's instruments, for those of the peer.

    Raises:
        MsgTypeError: an argument can't be encoded; nothing was sent.
        MessagingError: the request is over the frame limit; nothing was sent.
        TransportClosed: the connection is gone.
    """
    try:
        for value in kwargs.values():
            if type(value) is msgspec.Raw:
                refuse_garbage(value, "Start", cid=cid)
        start = Start(cid, ns, func, kwargs, chan.local_uid, spec, kind, headers)
        try:
            chan.transport.put(start, encoder)
        except TypeError:
            if endpoint is None:
                raise
            plain = endpoint.conversions.pack_plainly(kwargs, codec_in_force())
            if plain is None:
                raise
            start.kwargs = plain
            chan.transport.put(start, encoder)
    except BaseException as exc:
        chan.forget(cid)
        if isinstance(exc, TypeError):
            raise unencodable_error(kwargs, "Start", exc, cid=cid) from exc
        if isinstance(exc, TransportClosed):
            raise lost(chan, f"{ns}:{func}", exc) from exc
        raise


def request(chan: Channel, func: str, **kwargs: Any) -> PendingCall:
    """Send a runtime request; who wants its reply waits for it.  Raises TransportClosed."""
    pending = PendingCall(chan, f"self:{func}")
    put_start(chan, pending.cid, "self", func, kwargs)
    # Not every task that asks parks next.
    chan.transport.write_now()
    return pending


async def ask(
    chan: Channel, func: str, limit: float, /, **kwargs: Any
) -> MsgType | BaseException | None:
    """Send a runtime request and wait for its reply.

    Args:
        chan: the channel to the peer.
        func: the request.
        limit: seconds to wait.
        kwargs: its arguments.

    Returns:
        The reply, or the reason why none will come; ``None``: none came in time, and one that comes is dropped.

    Raises:
        TransportClosed: the peer is gone.
    """
    asked = request(chan, func, **kwargs)
    try:
        with trio.move_on_after(limit):
            return await asked.wait()
        return None
    finally:
        chan.forget(asked.cid)


def request_cancel(chan: Channel, cid: int) -> PendingCall | None:
    """Ask the peer to cancel the task of a dialog; ``None`` when the peer is gone."""
    tell_task_cancel(chan, cid, chan.local_uid, False)
    try:
        return request(chan, "_cancel_task", cid=cid)
    except TransportClosed:
        return None


async def call(
    chan: Channel,
    actor: Host,
    ns: str,
    func: str,
    kwargs: dict[str, Any],
    endpoint: Endpoint | None = None,
) -> Any:
    """Run ``ns:func`` in the peer and return its value.

    A caller that is cancelled asks for the remote task's cancellation, waits at most 0.616 s for its end, and
    then goes on with its own cancellation; a value that comes meanwhile is dropped.

    Args:
        chan: the channel to the peer.
        actor: this process's.
        ns, func: module and name.
        kwargs: the arguments.
        endpoint: the function itself, where it is at hand; its annotation says what the value is to be.

    Raises:
        RemoteActorError: the function raised, or could not be found or called.
        ContextCancelled: somebody else cancelled the remote task.
        TransportClosed: the peer is gone; whether the function ran is unknown.
        MsgTypeError: an argument can't be sent, or the value is not what the function is annotated with.
        MessagingError: the request can't be sent.
    """
    if chan.opened >= chan.may_open:
        await chan.wait_for_room()
    pending = PendingCall(chan, f"{ns}:{func}")
    enc = codec_in_force().enc
    told = told_call(chan, pending.cid, ns, pending.what) if TOLD.dialogs else None
    headers = None if told is None else told.headers
    try:
        try:
            put_start(chan, pending.cid, ns, func, kwargs, "call", None, enc, endpoint, headers)
        except TransportClosed as exc:
            await explain_loss(chan, exc, pending.what)
            raise
        chan.opened += 1
        actor.calls_total += 1
        try:
            if chan.transport.unsent > HIGH_WATER:
                await chan.transport.wait_below_mark()
            reply = await pending.wait()
        except (trio.Cancelled, KeyboardInterrupt):
            await _cancel_call(pending)
            raise
        finally:
            chan.note_closed()
        if type(reply) is Error:
            raise ended_by(reply, chan, actor, calling_code())
        return result_of(reply, chan, actor, endpoint)
    except BaseException as exc:
        if told is not None:
            told.failed(exc, actor.aid.uid)
        raise
    finally:
        if told is not None:
            told.end()


async def _cancel_call(pending: PendingCall) -> None:
    """Have the remote task cancelled and wait, bounded, for its end."""
    if pending.reply is not None:
        return
    request_cancel(pending.chan, pending.cid)
    if not await came_in_time(pending.wait, f"the end of {pending.what} in {pending.chan.peer}"):
        pending.chan.forget(pending.cid)


async def came_in_time(
    wait: Callable[[], Awaitable[object]], what: str, limit: float = CANCEL_TIMEOUT
) -> bool:
    """Wait, shielded, at most ``limit`` seconds for what a cancel request leads to; whether it came."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + limit) as bound:
        await wait()
    if bound.cancelled_caught:
        log.warning("%s did not come within %s s of the cancel request", what, limit)
    return not bound.cancelled_caught


def result_of(
    reply: MsgType | BaseException,
    chan: Channel,
    actor: Host,
    endpoint: Endpoint | None = None,
    caller: Caller | None = None,
) -> Any:
    """The value of a reply, or its error raised.

    A codec of the task's that has payload types decides on what a value must be; else the function's annotation.
    """
    if isinstance(reply, Return):
        decoder = codec_in_force().pld_dec
        declared = None if endpoint is None else endpoint.conversions.result
        if declared is not None and decoder is ANY_DEC:
            assert endpoint is not None
            try:
                return declared.decode(reply.pld)
            except RecursionError:
                # Once more, on a stack that is deep enough.
                return decode_result(reply.pld, declared, endpoint.name, reply.cid)
            except Exception as exc:
                raise result_error(reply.pld, declared, endpoint.name, exc, reply.cid) from exc
        try:
            return decoder.dec.decode(reply.pld)
        except Exception as exc:
            raise payload_type_error(
                Return, reply.pld, decoder.spec_str, cid=reply.cid, bad_msg=reply, cause=exc
            ) from exc
    if isinstance(reply, CancelAck):
        return reply.pld
    if isinstance(reply, BaseException):
        raise reply
    raise ended_by(reply, chan, actor, caller)


def ended_by(
    msg: Any, chan: Channel, actor: Host, caller: Caller | None = None
) -> RemoteActorError | ActorBusy:
    """As :func:`boxed`, of a message that ends a dialog of the program's; unless it was cancelled, that is counted."""
    if msg.src_type_path != _CANCELLED:
        actor.errors_total += 1
    return boxed(msg, chan, actor, caller)


def boxed(
    msg: Any, chan: Channel, actor: Host, caller: Caller | None = None
) -> RemoteActorError | ActorBusy:
    """The exception that an ``Error`` message carries; ``caller``: the code here that has asked for what failed."""
    if msg.src_type_path == _BUSY and not msg.relay_path:
        # An actor that refuses names no source: no task of it has raised that.
        return ActorBusy(msg.message)
    exc = unpack_error(msg, chan, enabled_modules=actor.enabled)
    assert exc is not None
    exc.note_caller(caller, actor_of(actor.aid.uid, actor.aid.pid or 0))
    _origins[exc] = chan
    return exc


class OneWayReceiver(DialogEnd):
    """The caller's side of a one-way stream; its port always uses credit."""

    def __init__(self, chan: Channel, actor: Host, what: str, caller: Caller | None = None) -> None:
        self.chan = chan
        self.actor = actor
        self.caller = caller
        self.cid = chan.open(self)
        self.what = what
        self.port = StreamPort(chan, self.cid, what=what)
        self.acked = trio.Event()
        self.over = trio.Event()
        self._told: ToldDialog | None = None

    async def begin(self, ns: str, func: str, kwargs: dict[str, Any], endpoint: Endpoint) -> None:
        """Have the generator begin.  Raises as :func:`put_start`."""
        chan = self.chan
        told = None
        if TOLD.dialogs:
            told = self._told = told_call(chan, self.cid, ns, self.what, Kind.ASYNCGEN)
        headers = None if told is None else told.headers
        try:
            put_start(chan, self.cid, ns, func, kwargs, "asyncgen", None, None, endpoint, headers)
        except BaseException as exc:
            if isinstance(exc, TransportClosed):
                await explain_loss(chan, exc, self.what)
            if told is not None:
                told.failed(exc, self.actor.aid.uid)
                told.end()
            raise
        chan.opened += 1
        tell_stream(self.port, True)

    def tell_end(self) -> None:
        """Tell instruments that it has ended, with what the other side has said of that."""
        tell_stream(self.port, False)
        if self._told is not None:
            if self.port.error is not None:
                self._told.failed(self.port.error, self.actor.aid.uid)
            self._told.end()

    def end(self, error: BaseException | None) -> None:
        self.chan.forget(self.cid)
        self.port.end(self.port.error or error)
        self.acked.set()
        self.over.set()

    def on_start_ack(self, msg: StartAck) -> None:
        if msg.functype == "asyncgen":
            self.acked.set()
        else:
            self._out_of_grammar(msg)

    def on_yield(self, msg: Yield[Any]) -> None:
        if self.port.push(msg.pld) is not Admission.HOLD and not self.port.closed:
            self.end(MessagingError(f"{self.chan.peer} sent beyond its credit in {self.what}"))
            request_cancel(self.chan, self.cid)

    def on_yields(self, msgs: list[Yield[Any]]) -> bool:
        return self.port.push_many([msg.pld for msg in msgs])

    def on_stop(self, msg: Stop) -> None:
        self.end(None)

    def on_error(self, msg: Error) -> None:
        self.end(ended_by(msg, self.chan, self.actor, self.caller))

    def on_lost(self, exc: TransportClosed) -> None:
        self.end(lost(self.chan, self.what, exc))

    def _out_of_grammar(self, msg: MsgType) -> None:
        self.end(
            MessagingError(
                f"a {type(msg).__name__!r} message does not belong in the stream {self.what}"
            )
        )
        request_cancel(self.chan, self.cid)

    def bad_yield(self, raw: Any, exc: Exception) -> MsgTypeError:
        """End the stream because of a payload that is not of the codec's type; the error to raise."""
        error = payload_type_error(
            Yield,
            raw,
            self.port.rx.pld_dec.spec_str,
            cid=self.cid,
            bad_msg=Yield(self.cid, raw),
            cause=exc,
        )
        if not self.over.is_set():
            # The dialog stays until the generator has ended: the block is not left before.
            self.port.fail(self.port.error or error)
            request_cancel(self.chan, self.cid)
        return error

    async def stop(self) -> None:
        """Cancel the remote generator, if it still runs, and wait (at most 0.616 s, shielded) for its end."""
        if self.over.is_set():
            return
        request_cancel(self.chan, self.cid)
        if not await came_in_time(self.over.wait, f"the end of {self.what} in {self.chan.peer}"):
            self.chan.forget(self.cid)
