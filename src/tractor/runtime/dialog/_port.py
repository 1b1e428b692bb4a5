"""The receiving and sending ends of one dialog's stream, shared by contexts and one-way streams.

Theory of operation.  A port is fed by its channel's reader, synchronously; it never blocks there.  Who waits in
:meth:`StreamPort.get` is woken by a direct reschedule.  How much may be under way is counted by the windows
(``_proto/dialog/flow.py``): the reader's task grants what it reads, the sender's task waits for it.

When :meth:`StreamPort.put` returns, the kernel has the message: the caller may compute for seconds next.  For the same
reason a grant leaves at once.  Each message is a cancellation point and gives way to tasks that were made ready in the
meantime (``_util/_turns.py``).

Why races are safe.  Between a check here and the step that relies on it nothing awaits, so no other task, and not the
channel's reader, comes in between.  Who waits is woken by each change that may concern it, and looks again; several who
wait for one message or one grant are woken in order, and those who find nothing wait on.  An end that comes behind
messages does not hide them: readers look at the buffer first, then at ``closed``, ``error`` and ``ended``.  A sender
whose connection has broken waits a moment for the reader to have read what came before the break, since that says more.
A grant that meets a peer which has ended is ignored there.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from time import monotonic_ns
from typing import Any

import trio
from msgspec import Raw

from tractor import log as _log
from tractor._errors import TransportClosed
from tractor._proto.dialog.flow import STRICT_BUFFER_SIZE, Admission, ReceiveWindow, SendWindow
from tractor._util._turns import LARGE, current_turns
from tractor._util._waiters import Waiters
from tractor.ipc._chan import Channel
from tractor.msg._codec import codec_in_force
from tractor.msg._payload import refuse_garbage, unencodable_error
from tractor.msg._pld_rx import PldRx
from tractor.msg.types import Credit, Yield
from tractor.runtime.dialog._telling import tell_credit, tell_message
from tractor.runtime.seen._told import TOLD
from tractor.transport._stream import HIGH_WATER, NO_COPY_ABOVE

log = _log.get_logger()

END_TIMEOUT = 0.5
"""Seconds that a sender whose connection broke waits for the reader to say how the dialog ended."""

QUIET_TIMEOUT = 10.0
"""Seconds without a grant after which a sender logs that the other side shows no sign of reading."""

_AT_HAND = (list, tuple, range, deque, set, frozenset, dict, str, bytes, bytearray)
"""Iterables that run no code between their values."""


class Rerouted(Exception):
    """The stream's messages go through a broadcaster from now on: the direct reader must ask there."""


class StreamPort:
    """Buffers, windows and waiters of one side of a stream.

    Attributes:
        what: the dialog, for people.
        rx: how payloads are encoded and decoded.
        error: once set, readers get it after what is buffered, and senders at once.
        ended: the peer will send nothing more, and reads nothing more; readers and senders get EndOfChannel after
            what is buffered.
        closed: this side has closed the stream.
        lossy: what comes beyond the window is discarded, because somebody waits for the result and no stream is open.
        lost: that has happened.
        shared: a broadcaster reads, and nobody else.
    """

    __slots__ = (
        "_envelope",
        "_readers",
        "_said_strict",
        "_senders",
        "_turns",
        "buffer",
        "chan",
        "cid",
        "closed",
        "discarded",
        "ended",
        "error",
        "heard",
        "lossy",
        "lost",
        "overflowed",
        "received",
        "recv",
        "rx",
        "send",
        "shared",
        "what",
    )

    def __init__(
        self,
        chan: Channel,
        cid: int,
        strict_size: int = STRICT_BUFFER_SIZE,
        *,
        rx: PldRx | None = None,
        what: str = "",
    ) -> None:
        self.chan = chan
        self.cid = cid
        self.what = what
        self.buffer: deque[Any] = deque()
        self.recv = ReceiveWindow(strict_size)
        self.send = SendWindow()
        self.rx = rx or PldRx()
        self.error: BaseException | None = None
        self.ended = False
        self.closed = False
        self.lossy = False
        self.lost = False
        self.shared = False
        # Something of the peer's stream has come: it is open there.
        self.heard = False
        self.received = 0
        self.discarded = 0
        self.overflowed = 0
        self._said_strict = False
        # Bytes of an encoded `Yield` of this dialog that are not its payload.
        self._envelope = 3 if cid < 128 else 4 if cid < 256 else 5 if cid < 65_536 else 7
        self._turns = current_turns()
        self._readers = Waiters()
        self._senders = Waiters()

    # -- fed by the reader ----------------------------------------------------------------------------

    def push(self, raw: Any) -> Admission:
        """Take a message; unless it is held, nothing has changed."""
        buffer = self.buffer
        recv = self.recv
        held = len(buffer)
        admission = recv.admit(held, len(raw))
        if admission is not Admission.HOLD:
            return admission
        self.heard = True
        if self.lossy and held >= recv.size:
            self.lost = True
            self.drop(len(raw))
            return admission
        buffer.append(raw)
        self.received += 1
        if TOLD.message_received is not None:
            tell_message(self, len(raw), False)
        if recv.strict and held >= recv.size:
            self.overflowed += 1
        if self._readers:
            trio.lowlevel.reschedule(self._readers.popleft())
        return admission

    def push_many(self, raws: list[Any]) -> bool:
        """Take messages at once; ``False``: they must come one by one, and nothing has changed."""
        recv = self.recv
        if recv.strict or self.lossy or not recv.admit_many(len(raws), sum(map(len, raws))):
            return False
        self.heard = True
        self.buffer.extend(raws)
        self.received += len(raws)
        if TOLD.message_received is not None:
            for raw in raws:
                tell_message(self, len(raw), False)
        self._readers.wake(len(raws))
        return True

    def is_full(self) -> bool:
        """Whether another message would be an overrun, unless a reader takes one first."""
        return self.recv.strict and len(self.buffer) >= self.recv.capacity()

    def drop(self, size: int, n: int = 1) -> None:
        """Count ``n`` messages of ``size`` bytes as discarded; they are granted again, since nobody will read them."""
        self.discarded += n
        self._grant(self.recv.read(n, size))

    def drop_buffer(self) -> None:
        """Discard what is buffered."""
        buffer = self.buffer
        if buffer:
            size, n = sum(map(len, buffer)), len(buffer)
            buffer.clear()
            self.drop(size, n)

    def wake(self) -> None:
        """Let every waiting reader and sender look again."""
        if self._readers:
            self._readers.wake_all()
        if self._senders:
            self._senders.wake_all()

    def end(self, error: BaseException | None = None) -> None:
        """The peer will send nothing more; ``error``: why, if that is one."""
        self.ended = True
        if error is not None:
            self.error = error
        self.wake()

    def fail(self, error: BaseException) -> None:
        """Have readers get ``error`` after what is buffered, and senders at once."""
        self.error = error
        self.wake()

    def close(self, discard: bool = False) -> None:
        """This side has closed the stream; ``discard``: nobody will read what is buffered."""
        if discard:
            self.drop_buffer()
        self.closed = True
        self.wake()

    def take_credit(self, n: int, size: int) -> None:
        """Take a ``Credit`` of the peer: a grant, or ``(-1, 0)``, by which it says that the dialog is strict.

        Raises:
            ValueError: it is neither.
        """
        if (n, size) == (-1, 0) and not self.recv.marked:
            self.recv.marked = True
            self.be_strict()
        else:
            self.send.grant(n, size)
            self.heard = True
        self._senders.wake_all()

    def be_strict(self) -> None:
        """Have no credit on this dialog, in both directions; the peer is told before anything else."""
        self.recv.strict = self.send.strict = True
        if not self._said_strict:
            self._said_strict = True
            self.chan.tell(Credit(self.cid, -1, 0), now=True)

    def open(self) -> None:
        """Grant what a buffer larger than the first window allows."""
        self._grant(self.recv.due())

    def begin_loss(self, on: bool) -> None:
        """Keep the window and discard what comes beyond it; or hold everything again."""
        self.lossy = on
        self.recv.widen(on)
        self._grant(self.recv.due())

    def _grant(self, due: tuple[int, int] | None) -> None:
        # A peer that has ended, or closed its side, sends nothing more.
        if due is not None and not self.ended:
            self.chan.tell(Credit(self.cid, *due), now=True)

    # -- reading --------------------------------------------------------------------------------------

    async def get(self, shared: bool = False) -> Any:
        """The next message, undecoded.

        Args:
            shared: the broadcaster asks.

        Raises:
            trio.EndOfChannel: the peer closed the stream and all was read.
            trio.ClosedResourceError: this side closed it.
            Rerouted: a broadcaster reads from now on.
            BaseException: the dialog's error.
        """
        turns = self._turns
        waited = False
        if self.buffer:
            if turns.must_pass():
                await turns.let_pass()
            else:
                await trio.lowlevel.checkpoint_if_cancelled()
        while not self.buffer:
            if self.shared and not shared:
                raise Rerouted
            if self.over():
                # The end was there already: this call must be a checkpoint, too.
                if not waited:
                    await trio.lowlevel.checkpoint_if_cancelled()
                await trio.lowlevel.cancel_shielded_checkpoint()
                self.raise_if_over()
            await self._readers.park()
            waited = True
            turns.began()
        if self.shared and not shared:
            raise Rerouted
        return self._pop()

    def get_nowait(self) -> Any:
        """The next message, undecoded.  Raises as :meth:`get`, and trio.WouldBlock."""
        if not self.buffer:
            self.raise_if_over()
            raise trio.WouldBlock
        return self._pop()

    def peek(self, limit: int) -> list[Any]:
        """Messages at hand, undecoded, at most ``limit``, maybe none."""
        return list(itertools.islice(self.buffer, limit))

    def skip(self, raws: list[Any]) -> None:
        """Take the first messages of a :meth:`peek`; they are granted once."""
        buffer = self.buffer
        if len(raws) == len(buffer):
            buffer.clear()
        else:
            for _ in raws:
                buffer.popleft()
        self._grant(self.recv.read(len(raws), sum(map(len, raws))))

    def limit_turn(self) -> float:
        """When the calling task, which handles several messages, is to let others have a turn (``perf_counter()``)."""
        return self._turns.limit()

    async def give_way(self) -> None:
        """Let others have a turn, if it is time for that, between two messages."""
        await self._turns.give_way()
        self._turns.limit()

    def over(self) -> bool:
        """Whether no message will come."""
        return self.closed or self.error is not None or self.ended

    def raise_if_over(self) -> None:
        """Raise the reason why no message will come, if there is one."""
        if self.closed:
            raise trio.ClosedResourceError("this side has closed the stream")
        if self.error is not None:
            raise self.error
        if self.ended:
            raise trio.EndOfChannel

    def share(self) -> None:
        """Have the broadcaster alone read from now on; direct readers that wait are sent there."""
        self.shared = True
        self._readers.wake_all()

    def _pop(self) -> Any:
        if self.closed:
            raise trio.ClosedResourceError("this side has closed the stream")
        raw = self.buffer.popleft()
        size = len(raw)
        if size > LARGE:
            self._turns.limit()
        due = self.recv.read(1, size)
        if due is not None:
            self._grant(due)
        return raw

    # -- writing --------------------------------------------------------------------------------------

    async def put(self, data: Any) -> None:
        """Send one message; waits for credit, and until the kernel has it.

        Cancelled while it waits for credit, it has sent nothing; later, the message leaves all the same.

        Raises:
            MsgTypeError: the value can't be encoded; nothing was sent.
            MessagingError: it is over the frame limit; nothing was sent.
            TransportClosed: the connection is gone.
            trio.ClosedResourceError: this side closed the stream meanwhile.
            trio.EndOfChannel: the peer has closed its side, or ended, and nothing is left to read here.
            BaseException: the dialog's error.
        """
        turns = self._turns
        if turns.must_pass():
            await turns.let_pass()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        try:
            # Is true at once, but for a peer that is behind.
            if not self.may_put():
                await self._wait_may_put()
            self._put(data)
            if self.chan.transport.unsent:
                await self.chan.transport.wait_written()
        except TransportClosed:
            await self._wait_error()
            raise

    async def put_many(self, values: Iterable[Any]) -> None:
        """Send messages in order; one turn for others, and few system calls, for all of them.  Raises as :meth:`put`.

        Cancelled while it waits for credit, it has sent the values before; ``send.sent`` counts them.
        """
        await self._turns.give_way()
        transport = self.chan.transport
        # Where the next value comes from may be code of the user's that computes: what it gave before must not wait.
        lazy = not isinstance(values, _AT_HAND)
        try:
            rest = iter(values)
            while True:
                if not self.may_put():
                    transport.write_now()
                    await self._wait_may_put()
                if self._put_some(rest, lazy):
                    break
            transport.write_now()
            if transport.unsent:
                await transport.wait_written()
        except TransportClosed:
            await self._wait_error()
            raise
        finally:
            transport.write_now()

    def _put_some(self, values: Iterator[Any], lazy: bool) -> bool:
        """Put what may go now, at least one value; whether there are no more.  ``lazy``: write each at once."""
        transport, send, cid, envelope = self.chan.transport, self.send, self.cid, self._envelope
        encoder = self.rx.fixed_encoder or codec_in_force().enc
        put = transport.put_unwritten
        free = send.strict or self.ended
        for value in values:
            kind = type(value)
            if kind is bytes or kind is Raw:
                self._put(value, now=False)
            else:
                try:
                    size = put(Yield(cid, value), encoder)
                except TypeError as exc:
                    raise unencodable_error(value, "Yield", exc, cid=cid) from exc
                send.spend(size - envelope)
                if TOLD.message_sent is not None:
                    tell_message(self, size - envelope, True)
            if lazy or transport.write_is_due:
                transport.write_now()
            if transport.unsent > HIGH_WATER or not (free or send.may_send()):
                return False
        return True

    def may_put(self) -> bool:
        """Whether a message can be put now.  Raises the reason why none ever can."""
        self.raise_if_unsendable()
        transport = self.chan.transport
        # A peer that has closed its side grants nothing more: what is sent now it discards.
        return (self.send.may_send() or self.ended) and (
            transport.unsent <= HIGH_WATER or not transport.connected()
        )

    async def _wait_may_put(self) -> None:
        transport = self.chan.transport
        began = 0
        while not self.may_put():
            if self.send.may_send() or self.ended:
                await transport.wait_below_mark()
                continue
            began = began or (monotonic_ns() if TOLD.credit_waited is not None else 0)
            if self.heard:
                await self._senders.park()
            else:
                await self._wait_heard()
        if began:
            tell_credit(self, began)
        self._turns.began()

    async def _wait_heard(self) -> None:
        """Wait for a grant of a peer that has shown no sign of an open stream; say so once if that takes long."""
        with trio.move_on_after(QUIET_TIMEOUT) as patience:
            await self._senders.park()
        if patience.cancelled_caught and not self.heard:
            self.heard = True
            log.warning(
                "send() has waited %s s for %s to read: %d messages of %s are unread there, and no stream seems to be"
                " open on that side",
                QUIET_TIMEOUT,
                self.chan.peer,
                self.send.sent,
                self.what,
            )

    def _put(self, data: Any, now: bool = True) -> None:
        transport = self.chan.transport
        if type(data) is bytes and len(data) >= NO_COPY_ABOVE:
            size = transport.put_bytes(self.cid, data)
        else:
            if type(data) is Raw:
                refuse_garbage(data, "Yield", cid=self.cid)
            encoder = self.rx.fixed_encoder or codec_in_force().enc
            try:
                if now:
                    size = transport.put_now(Yield(self.cid, data), encoder)
                else:
                    size = transport.put_unwritten(Yield(self.cid, data), encoder)
            except TypeError as exc:
                raise unencodable_error(data, "Yield", exc, cid=self.cid) from exc
        self.send.spend(size - self._envelope)
        if TOLD.message_sent is not None:
            tell_message(self, size - self._envelope, True)

    async def _wait_error(self) -> None:
        """After a broken connection: wait, bounded, for the reader to learn how the dialog ended, and raise that.

        What the peer sent before it left is still read, and tells more than the break.
        """
        with trio.move_on_after(END_TIMEOUT):
            while self.error is None and not self.closed:
                await self._senders.park()
        if self.error is not None:
            raise self.error

    def raise_if_unsendable(self) -> None:
        """Raise the reason why nothing can be sent, if there is one."""
        if self.closed:
            raise trio.ClosedResourceError("this side has closed the stream")
        if self.error is not None:
            raise self.error
        if self.ended and not self.buffer:
            raise trio.EndOfChannel
