"""The two-way message flow inside a context, and the receiving end of a one-way stream."""

from __future__ import annotations

import contextlib
import types
from collections.abc import AsyncIterator, Callable, Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
import trio

from tractor import log as _log
from tractor._errors import TransportClosed
from tractor._util._turns import SECONDS
from tractor.ipc._chan import Channel
from tractor.msg._codec import codec_in_force
from tractor.msg._conversion import any_value
from tractor.msg.bounded._bounded import plain_values
from tractor.msg.types import Yield
from tractor.runtime.dialog._caller import explain_loss
from tractor.runtime.dialog._generics import StreamRecvT, StreamSendT
from tractor.runtime.dialog._port import Rerouted, StreamPort
from tractor.trionics._broadcast import BroadcastReceiver, broadcast_receiver
from tractor.trionics._ki import ki_protected, ki_protected_manager

log = _log.get_logger()

T = TypeVar("T")


class StreamStatistics(msgspec.Struct, frozen=True):
    """Counters of one side of a stream.

    Attributes:
        buffered: messages received that nobody has read.
        buffer_size: messages that may be held unread.
        overflowed: messages that were held beyond the buffer, in the strict mode.
        sent, received: messages.
        discarded: messages that nobody will read, such as those that came after this side had closed.
        credit: messages that may still be sent without a grant; ``None`` in the strict mode.
        closed: this side has closed the stream.
    """

    buffered: int
    buffer_size: int
    overflowed: int
    sent: int
    received: int
    discarded: int
    credit: int | None
    closed: bool


def port_statistics(port: StreamPort) -> StreamStatistics:
    """The counters of a port, frozen."""
    return StreamStatistics(
        buffered=len(port.buffer),
        buffer_size=port.recv.size,
        overflowed=port.overflowed,
        sent=port.send.sent,
        received=port.received,
        discarded=port.discarded,
        credit=None if port.send.strict else port.send.credit,
        closed=port.closed,
    )


@ki_protected
class DialogStream(trio.abc.Channel[Any], Generic[StreamSendT, StreamRecvT]):
    """All of :class:`tractor.MsgStream` but the context that it may belong to."""

    def __init__(
        self,
        port: StreamPort,
        bad_payload: Callable[[Any, Exception], BaseException],
        close: Callable[[], None],
        receive_only: bool,
    ) -> None:
        self._port = port
        self._rx = port.rx
        self._bad_payload = bad_payload
        self._close = close
        self._receive_only = receive_only
        self._broadcaster: BroadcastReceiver[StreamRecvT] | None = None
        # A payload behind a batch, what it was to be decoded with, and why that has failed: it is the next one read.
        self._refused: tuple[Any, Callable[[Any], Any], Exception] | None = None

    if not TYPE_CHECKING:
        # Parameters may be left out, which `Generic` itself allows from Python 3.13 on only.
        __class_getitem__ = classmethod(types.GenericAlias)

    @property
    def chan(self) -> Channel:
        """The channel below."""
        return self._port.chan

    @property
    def closed(self) -> bool:
        """Whether this side has closed the stream."""
        return self._port.closed

    async def send(self, data: StreamSendT, hide_tb: bool = True) -> None:
        """Send one message to the peer.  When it returns, the kernel has the message.

        It waits while the peer is a whole window behind in reading (1,024 messages or 16 MiB, unless the peer has
        another buffer), and while the connection can't take more.  Cancelled while it waits for the peer, it has
        sent nothing; while it waits for the connection, the message still leaves.

        Args:
            data: the message.
            hide_tb: hide the runtime's frames in a traceback.

        Raises:
            MsgTypeError: the value can't be encoded; nothing was sent.
            MessagingError: it is over the frame limit; nothing was sent.
            trio.ClosedResourceError: this side has closed the stream.
            trio.EndOfChannel: the peer has closed it or has ended, and nothing is left to read here.
            RemoteActorError: the peer's task has failed, or was cancelled.
            TransportClosed: the connection is gone.
        """
        __tracebackhide__ = hide_tb
        if self._receive_only:
            raise _not_sendable()
        try:
            await self._port.put(data)
        except TransportClosed as exc:
            await explain_loss(self._port.chan, exc)
            raise

    async def send_many(self, values: Iterable[StreamSendT]) -> None:
        """Send messages in order, as one step: one cancellation point, and few system calls for all of them.

        Cancelled while it waits for the peer to read, it has sent the values before; ``statistics().sent`` says how
        many messages that makes in all.

        Args:
            values: an iterable, read as far as the messages go.  Only containers at hand (list, tuple, range, deque,
                set, dict) leave in few system calls: what any other gives is written before it is asked for more,
                because it may compute.

        Raises:
            Exception: as :meth:`send`; the values before have been sent.
        """
        if self._receive_only:
            raise _not_sendable()
        try:
            await self._port.put_many(values)
        except TransportClosed as exc:
            await explain_loss(self._port.chan, exc)
            raise

    async def receive(self, hide_tb: bool = True) -> StreamRecvT:
        """The next message.

        Args:
            hide_tb: hide the runtime's frames in a traceback.

        Raises:
            trio.EndOfChannel: the peer closed the stream, and all that it sent was read.
            trio.ClosedResourceError: this side has closed the stream.
            MsgTypeError: the message is not of the payload spec; the dialog is over.
            RemoteActorError: the peer's task has failed, or was cancelled.
            TransportClosed: the connection is gone.
        """
        __tracebackhide__ = hide_tb
        if self._broadcaster is not None:
            return await self._broadcaster.receive()
        try:
            raw = await self._port.get()
        except Rerouted:
            assert self._broadcaster is not None
            return await self._broadcaster.receive()
        decode = self._rx.fixed_decode or codec_in_force().pld_dec.dec.decode
        try:
            if self._refused is not None:
                self._refuse_again(raw, decode)
            value: StreamRecvT = decode(raw)
        except Exception as exc:
            raise self._bad_payload(raw, exc) from exc
        return value

    async def receive_msg(self) -> Yield[Any]:
        """The next message as it came, its payload undecoded.

        Raises:
            RuntimeError: subscribers share this stream: read through one.
            Exception: as :meth:`receive`.
        """
        self._not_shared()
        try:
            return Yield(self._port.cid, await self._port.get())
        except Rerouted:
            self._not_shared()
            raise

    def receive_msg_nowait(self) -> Yield[Any]:
        """As :meth:`receive_msg`, if one is there.  Raises also trio.WouldBlock."""
        self._not_shared()
        return Yield(self._port.cid, self._port.get_nowait())

    def _not_shared(self) -> None:
        if self._broadcaster is not None:
            raise RuntimeError(f"{self!r} is shared by its subscribers; read through one of them")

    async def receive_many(self, limit: int) -> list[StreamRecvT]:
        """The messages at hand, as one step; it waits only while there is none.

        Args:
            limit: how many at most.

        Returns:
            At least one message, in order; fewer than are at hand where to decode them takes long.

        Raises:
            ValueError: ``limit`` is less than 1.
            Exception: as :meth:`receive`.  Messages before one that is not of the payload spec are returned first.
        """
        _checked_limit(limit)
        if self._broadcaster is None:
            try:
                raw = await self._port.get()
            except Rerouted:
                pass
            else:
                until = self._port.limit_turn()
                values = [self._decode(raw)]
                if limit > 1 and self._port.buffer and perf_counter() < until:
                    values += self._decode_more(limit - 1, until)
                return values
        assert self._broadcaster is not None
        values = [await self._broadcaster.receive()]
        # What a broadcaster holds begins no turn of the port's.
        until = perf_counter() + SECONDS
        # Whatever ends the stream is final: the next call raises it.  A loss is told once, so it is left for that.
        with contextlib.suppress(Exception):
            while len(values) < limit and not self._broadcaster.lags and perf_counter() < until:
                values.append(self._broadcaster.receive_nowait())
        return values

    def _decode_more(self, limit: int, until: float) -> list[StreamRecvT]:
        """Take messages that are at hand, as many as are decoded by then, and none that can't be."""
        raws = self._port.peek(limit)
        decode = self._rx.fixed_decode or codec_in_force().pld_dec.dec.decode
        plain: list[Any] | None = plain_values(raws) if decode is any_value else None
        values: list[Any] = [] if plain is None else plain
        if plain is None:
            try:
                for raw in raws:
                    values.append(decode(raw))
                    if perf_counter() > until:
                        break
            except Exception as exc:
                # Those before it are returned first.
                self._refused = raws[len(values)], decode, exc.with_traceback(None)
        self._port.skip(raws[: len(values)])
        return values

    def _refuse_again(self, raw: Any, decode: Callable[[Any], Any]) -> None:
        """Raise why a payload can't be decoded, if that is known: to find out once more may take as long."""
        assert self._refused is not None
        (refused, by, why), self._refused = self._refused, None
        if refused is raw and by == decode:
            try:
                raise why
            finally:
                # Its traceback holds this frame.
                del why

    def batches(self, limit: int) -> AsyncIterator[list[StreamRecvT]]:
        """The messages in lists, each with what is at hand, until the peer closes the stream.

        Args:
            limit: messages in a list at most.

        Raises:
            ValueError: ``limit`` is less than 1.
            Exception: while iterating, as :meth:`receive_many`, but for ``trio.EndOfChannel``, which ends it.
        """
        return _Batches(self, _checked_limit(limit))

    def _decode(self, raw: Any) -> StreamRecvT:
        decode = self._rx.fixed_decode or codec_in_force().pld_dec.dec.decode
        try:
            if self._refused is not None:
                self._refuse_again(raw, decode)
            value: StreamRecvT = decode(raw)
        except Exception as exc:
            raise self._bad_payload(raw, exc) from exc
        return value

    async def _receive_direct(self) -> StreamRecvT:
        # Every subscriber is to have its turn between two messages.
        await trio.lowlevel.checkpoint()
        return self._decode(await self._port.get(shared=True))

    def receive_nowait(self) -> StreamRecvT:
        """The next message, if it is there.  Raises as :meth:`receive`, and trio.WouldBlock."""
        if self._broadcaster is not None:
            return self._broadcaster.receive_nowait()
        return self._decode(self._port.get_nowait())

    async def __anext__(self) -> StreamRecvT:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def aclose(self) -> list[Any]:  # type: ignore[override]
        """Close this side: the peer's ``receive()`` ends, and so do ours.  Shielded and idempotent.

        Returns:
            The messages that had arrived and that nobody read; as it came (``Raw``) what can't be decoded.
        """
        port = self._port
        undelivered: list[Any] = [] if port.closed else port.peek(len(port.buffer))
        if undelivered:
            log.cancel("a stream was closed with %d unread messages", len(undelivered))
            port.buffer.clear()
        self._close()
        await trio.lowlevel.cancel_shielded_checkpoint()
        with trio.CancelScope(shield=True):
            for number, raw in enumerate(undelivered):
                await port.give_way()
                with contextlib.suppress(Exception):
                    undelivered[number] = self._rx.decode(raw)
        return undelivered

    @ki_protected_manager
    async def subscribe(
        self, lossless: bool = False
    ) -> AsyncIterator[BroadcastReceiver[StreamRecvT]]:
        """A receiver of its own for another local task: every subscriber gets every message from now on.

        From the first call on, all reading of this stream in this actor goes through one broadcaster, whose buffer
        is as large as the stream's ``msg_buffer_size``; a task that waits in :meth:`receive` reads on through it.
        What it yields can also ``send()``.

        Args:
            lossless: the stream is read at this subscriber's pace, if it is the slowest, so that it loses nothing;
                then the peer waits, too.  Else a subscriber that falls a whole buffer behind gets ``Lagged``.
        """
        if self._broadcaster is None:
            self._broadcaster = broadcast_receiver(
                self,
                max(1, self._port.recv.size),
                receive_afunc=self._receive_direct,
                receive_nowait_func=lambda: self._decode(self._port.get_nowait()),
                send_afunc=self.send,
            )
            self._port.share()
        async with self._broadcaster.subscribe(lossless=lossless) as receiver:
            yield receiver

    def statistics(self) -> StreamStatistics:
        """A frozen record of plain values."""
        return port_statistics(self._port)

    def pformat(self) -> str:
        """One line for people."""
        state = "closed" if self.closed else "open"
        return f"<MsgStream {state}, dialog {self._port.cid} with {self._port.chan.peer}>"

    __repr__ = pformat


class _Batches(Generic[T]):
    """What :meth:`MsgStream.batches` gives.  No generator: leaving the loop early leaves nothing to clean up."""

    def __init__(self, stream: DialogStream[Any, T], limit: int) -> None:
        self._stream = stream
        self._limit = limit

    def __aiter__(self) -> _Batches[T]:
        return self

    async def __anext__(self) -> list[T]:
        try:
            return await self._stream.receive_many(self._limit)
        except trio.EndOfChannel:
            raise StopAsyncIteration from None


def _checked_limit(limit: int) -> int:
    if limit < 1:
        raise ValueError(f"`limit` must be at least 1, not {limit!r}")
    return limit


def _not_sendable() -> trio.ClosedResourceError:
    return trio.ClosedResourceError("a one-way stream can't be sent on from its receiving end")
