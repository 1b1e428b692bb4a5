"""The receiving and sending ends of one dialog's stream, shared by contexts and one-way streams.

A port is fed by its channel's reader, synchronously; it never blocks there.  Who waits in :meth:`StreamPort.get`
is woken by a direct reschedule.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import trio
from msgspec import Raw

from tractor._errors import TransportClosed
from tractor._proto.flow import Admission, ReceiveWindow, SendWindow
from tractor.ipc._chan import Channel
from tractor.ipc._transport import HIGH_WATER, NO_COPY_ABOVE
from tractor.msg._codec import codec_in_force
from tractor.msg._payload import refuse_garbage, unencodable_error
from tractor.msg._pld_rx import PldRx
from tractor.msg.types import Credit, Yield

__all__ = ["StreamPort"]

SENDS_PER_TURN = 32
"""Messages that one port sends before it lets other tasks run; every send is a cancellation point."""

RECEIVES_PER_TURN = 32
"""Messages at hand that one port gives before it lets other tasks run; every one is a cancellation point."""


class StreamPort:
    """Buffers, windows and waiters of one side of a stream.

    Attributes:
        rx: how payloads are encoded and decoded.
        error: once set, readers get it after what is buffered, and senders at once.
        ended: the peer will send nothing more; readers get EndOfChannel after what is buffered.
        closed: this side has closed the stream.
    """

    __slots__ = (
        "_gets",
        "_readers",
        "_senders",
        "_sends",
        "buffer",
        "chan",
        "cid",
        "closed",
        "discarded",
        "end_was_read",
        "ended",
        "error",
        "overflowed",
        "received",
        "recv",
        "rx",
        "send",
    )

    def __init__(
        self,
        chan: Channel,
        cid: int,
        size: int,
        *,
        limited: bool = False,
        rx: PldRx | None = None,
    ) -> None:
        self.chan = chan
        self.cid = cid
        self.buffer: deque[Any] = deque()
        self.recv = ReceiveWindow(size, limited)
        self.send = SendWindow(limited)
        self.rx = rx or PldRx()
        self.error: BaseException | None = None
        self.ended = False
        self.end_was_read = False
        self.closed = False
        self.received = 0
        self.discarded = 0
        self.overflowed = 0
        self._readers: deque[trio.lowlevel.Task] = deque()
        self._senders = trio.lowlevel.ParkingLot()
        self._sends = 0
        self._gets = 0

    # -- fed by the reader ----------------------------------------------------------------------------

    def push(self, raw: Any) -> bool:
        """Take a message; whether it could be held (else it is an overrun)."""
        buffer = self.buffer
        held = len(buffer)
        if held >= self.recv.size and not self.recv.limited:
            if self.recv.admit(held) is Admission.OVERRUN:
                return False
            self.overflowed += 1
        buffer.append(raw)
        self.received += 1
        if self._readers:
            trio.lowlevel.reschedule(self._readers.popleft())
        return True

    def drop(self, n: int = 1) -> None:
        """Count messages as discarded; their credit is granted again, since nobody will read them."""
        self.discarded += n
        for _ in range(n):
            grant = self.recv.read()
            if grant:
                self._put_credit(grant)

    def drop_buffer(self) -> None:
        """Discard what is buffered."""
        held = len(self.buffer)
        self.buffer.clear()
        self.drop(held)

    def wake(self) -> None:
        """Let every waiting reader and sender look again."""
        while self._readers:
            trio.lowlevel.reschedule(self._readers.popleft())
        self._senders.unpark_all()

    def grant(self, n: int) -> None:
        """Take a ``Credit(n)`` of the peer; the first one switches back pressure on."""
        first = not self.recv.limited
        self.recv.limit()
        self.send.grant(n)
        if first:
            self.announce()
        self._senders.unpark_all()

    def announce(self) -> None:
        """Grant what a buffer larger than the sender's first window allows."""
        extra = self.recv.opening_grant()
        if extra:
            self._put_credit(extra)

    def switch_on_back_pressure(self) -> None:
        """Ask for back pressure in both directions; the announcement goes out before anything else."""
        if not self.recv.limited:
            self.recv.limit()
            self.send.limit()
            self._put_credit(0)
        self.announce()

    def _put_credit(self, n: int) -> None:
        try:
            self.chan.transport.put(Credit(self.cid, n))
        except TransportClosed:
            # The channel's reader tells this dialog.
            return

    # -- reading --------------------------------------------------------------------------------------

    async def get(self) -> Any:
        """The next message, undecoded.

        Raises:
            trio.EndOfChannel: the peer closed the stream and all was read.
            trio.ClosedResourceError: this side closed it.
            BaseException: the dialog's error.
        """
        self._gets += 1
        if self.buffer and self._gets < RECEIVES_PER_TURN:
            await trio.lowlevel.checkpoint_if_cancelled()
            return self._pop()
        self._gets = 0
        await trio.lowlevel.checkpoint()
        while not self.buffer:
            self.raise_if_over()
            await self._park_reader()
        return self._pop()

    def get_nowait(self) -> Any:
        """The next message, undecoded.  Raises as :meth:`get`, and trio.WouldBlock."""
        if not self.buffer:
            self.raise_if_over()
            raise trio.WouldBlock
        return self._pop()

    def raise_if_over(self) -> None:
        """Raise the reason why no message will come, if there is one."""
        if self.closed:
            raise trio.ClosedResourceError("this side has closed the stream")
        if self.error is not None:
            raise self.error
        if self.ended:
            self.end_was_read = True
            raise trio.EndOfChannel

    async def _park_reader(self) -> None:
        task = trio.lowlevel.current_task()
        self._readers.append(task)

        def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
            self._readers.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _pop(self) -> Any:
        if self.closed:
            raise trio.ClosedResourceError("this side has closed the stream")
        raw = self.buffer.popleft()
        grant = self.recv.read()
        if grant:
            self._put_credit(grant)
        return raw

    # -- writing --------------------------------------------------------------------------------------

    async def put(self, data: Any) -> None:
        """Send one message; waits for credit where back pressure is on, and while the channel is full.

        Raises:
            MsgTypeError: the value can't be encoded; nothing was sent.
            MessagingError: it is over the frame limit; nothing was sent.
            TransportClosed: the connection is gone.
            trio.ClosedResourceError: this side closed the stream meanwhile.
            BaseException: the dialog's error.
        """
        self._sends += 1
        if self._sends >= SENDS_PER_TURN:
            self._sends = 0
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        self.raise_if_unsendable()
        send = self.send
        # A peer that has closed its side reads, and grants, nothing more: what is sent now it discards.
        while send.limited and send.credit <= 0 and not self.ended:
            await self._senders.park()
            self.raise_if_unsendable()
        transport = self.chan.transport
        if transport.unsent > HIGH_WATER:
            await transport.wait_below_mark()
            self.raise_if_unsendable()
        if type(data) is bytes and len(data) >= NO_COPY_ABOVE:
            transport.put_bytes(self.cid, data)
        else:
            if type(data) is Raw:
                refuse_garbage(data, "Yield", cid=self.cid)
            try:
                transport.put(Yield(self.cid, data), self.rx.fixed_encoder or codec_in_force().enc)
            except TypeError as exc:
                raise unencodable_error(data, "Yield", exc, cid=self.cid) from exc
        send.spend()

    def raise_if_unsendable(self) -> None:
        """Raise the reason why nothing can be sent, if there is one."""
        if self.closed:
            raise trio.ClosedResourceError("this side has closed the stream")
        if self.error is not None:
            raise self.error
        if self.end_was_read:
            raise trio.EndOfChannel
