"""The transport contract, and the one implementation of it over any non-blocking byte pipe.

A transport carries messages between two peers: it frames, encodes and decodes, and it gathers what is sent so
that many small messages leave in one system call.  Which bytes pipe is below it (TCP, UDS, memory) is a
:class:`ByteIO`.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, ClassVar, Protocol, runtime_checkable

import msgspec
import trio

from tractor._errors import MessagingError, TransportClosed
from tractor._proto.auth import Handshake, HandshakeError, Step
from tractor._proto.framing import DEFAULT_MAX_FRAME_SIZE, HEADER, FrameBuffer
from tractor.ipc._addr import Address
from tractor.ipc._maddr import mk_maddr
from tractor.msg.types import MsgType, Yield

__all__ = ["ByteIO", "MsgTransport", "MsgpackTransport"]

CHUNK = 262_144
"""Bytes taken from the pipe at a time while more is waiting there."""

FIRST_CHUNK = 65_536
"""Bytes asked for while little is expected: a buffer of this size comes from the allocator's heap, while one of
``CHUNK`` is mapped, faulted in and unmapped each time, which takes 12 us."""

HIGH_WATER = 262_144
"""Bytes waiting to leave above which senders wait."""

NO_COPY_ABOVE = 65_536
"""Bytes; a payload of at least this size leaves as it is, without a copy into the outgoing buffer."""

CLOSE_FLUSH_TIMEOUT = 0.2
"""Seconds that a graceful close may take to get rid of what is waiting to leave."""

_HEADER_ROOM = b"\0\0\0\0"

_UNENCODABLE = (OverflowError, UnicodeError, RecursionError)
"""What msgspec raises, beside TypeError, for a number, a text or a depth that msgpack can't carry."""


class ByteIO(Protocol):
    """A non-blocking, bidirectional byte pipe."""

    def recv_nowait(self, max_bytes: int) -> bytes | None:
        """What is there, at most ``max_bytes``; ``b''`` at the end; ``None`` when it would block.  Raises OSError."""

    def send_nowait(self, buffers: list[bytes | bytearray | memoryview]) -> int:
        """Write a prefix of the joined buffers; the bytes taken, 0 when it would block.  Raises OSError."""

    async def wait_readable(self) -> None:
        """Wait until ``recv_nowait`` would not block.  Raises trio.ClosedResourceError after ``close``."""

    async def wait_writable(self) -> None:
        """Wait until ``send_nowait`` would not block.  Raises trio.ClosedResourceError after ``close``."""

    def send_eof(self) -> None:
        """Close the sending half.  Raises OSError."""

    def close(self) -> None:
        """Close at once; idempotent, never raises."""


@runtime_checkable
class MsgTransport(Protocol):
    """What a Channel needs of the road that it takes."""

    codec_key: ClassVar[str]
    layer_key: ClassVar[int]
    address_type: ClassVar[type[Address]]

    async def send(self, msg: MsgType) -> None:
        """Send one message.  Raises TransportClosed, MessagingError (too large), TypeError (can't be encoded)."""

    async def recv(self) -> MsgType:
        """The next message.  Raises TransportClosed at the end of the stream, however it came."""

    def drain(self) -> list[MsgType]:
        """The messages that have arrived and that nobody took."""

    def __aiter__(self) -> AsyncIterator[MsgType]:
        """Messages until the end; a graceful end stops the iteration."""

    def connected(self) -> bool:
        """Whether both directions are believed to be open."""

    @classmethod
    def key(cls) -> tuple[str, str]:
        """``(codec, protocol)`` of this transport."""

    @classmethod
    async def connect_to(cls, addr: Any) -> MsgTransport:
        """Connect to an address of :attr:`address_type`.  Raises OSError."""

    @classmethod
    def get_stream_addrs(cls, stream: Any) -> tuple[Address, Address]:
        """The local and the peer's address of a connected stream."""

    @property
    def laddr(self) -> Address:
        """The local address."""

    @property
    def raddr(self) -> Address:
        """The peer's address."""

    @property
    def maddr(self) -> str:
        """The peer's address as a multiaddr string."""


class MsgpackTransport:
    """msgpack frames over a :class:`ByteIO`.

    Sending is split: :meth:`put` encodes into the outgoing buffer, and a *flusher* task, while one runs
    (:meth:`run_flusher`), moves the buffer out.  The first message of a burst is written at once by its sender;
    with the second one the transport is *corked* until the flusher has run, so what follows within the same turn of
    the loop leaves in one system call.  Without a flusher the sender itself writes.

    A frame is never cut by a cancelled sender: what was put stays in the buffer and leaves with the next write.
    """

    codec_key: ClassVar[str] = "msgpack"
    layer_key: ClassVar[int] = 4
    address_type: ClassVar[type[Address]]

    def __init__(
        self,
        io: ByteIO,
        laddr: Address,
        raddr: Address,
        *,
        max_frame_size: int = DEFAULT_MAX_FRAME_SIZE,
    ) -> None:
        self.io = io
        self.max_frame_size = max_frame_size
        self._laddr = laddr
        self._raddr = raddr
        self._frames = FrameBuffer(max_frame_size)
        self._encoder = msgspec.msgpack.Encoder()
        self._decode = msgspec.msgpack.Decoder(MsgType).decode
        self._out = bytearray()
        # Sealed buffers that leave before `_out`.
        self._sealed: deque[bytes | bytearray | memoryview] = deque()
        self._sealed_size = 0
        self._inbox: deque[MsgType] = deque()
        self._corked = False
        # One message may leave without the flusher, which is a task switch and a turn of the loop.  Given anew by
        # every chunk that arrives and at the end of every burst: one answer to what came is no burst.
        self._may_write_alone = True
        self._flusher: trio.lowlevel.Task | None = None
        self._flusher_parked = False
        self._write_lock = trio.Lock()
        # Who waits for bytes to leave; woken after every write and at the end.
        self._written = trio.lowlevel.ParkingLot()
        # Why nothing more can be sent.  What has arrived can still be read, unless `_deaf`, too.
        self._closed_by: TransportClosed | None = None
        self._deaf = False
        self._may_have_more = False
        self.sent = 0
        self.received = 0

    # -- state ----------------------------------------------------------------------------------------

    @property
    def laddr(self) -> Address:
        """The local address."""
        return self._laddr

    @property
    def raddr(self) -> Address:
        """The peer's address."""
        return self._raddr

    @property
    def maddr(self) -> str:
        """The peer's address as a multiaddr string."""
        return mk_maddr(self._raddr)

    @classmethod
    def key(cls) -> tuple[str, str]:
        """``(codec, protocol)`` of this transport."""
        return (cls.codec_key, cls.address_type.proto_key)

    @classmethod
    async def connect_to(cls, addr: Any) -> MsgpackTransport:
        """Connect to an address.  Raises OSError; NotImplementedError for a kind that has none to connect to."""
        raise NotImplementedError(f"{cls.__name__} can't connect to an address such as {addr!r}")

    @classmethod
    def get_stream_addrs(cls, stream: Any) -> tuple[Address, Address]:
        """The local and the peer's address of a connected stream.  Raises NotImplementedError for a kind without."""
        raise NotImplementedError(f"{cls.__name__} is not made of a stream such as {stream!r}")

    def connected(self) -> bool:
        """Whether both directions are believed to be open."""
        return self._closed_by is None

    def set_max_frame_size(self, size: int) -> None:
        """Bound messages, both ways, by another number of bytes from now on."""
        self.max_frame_size = size
        self._frames.max_frame_size = size

    @property
    def unsent(self) -> int:
        """Bytes that wait to leave."""
        return len(self._out) + self._sealed_size

    # -- sending --------------------------------------------------------------------------------------

    def put(self, msg: MsgType, encoder: msgspec.msgpack.Encoder | None = None) -> None:
        """Encode a message into the outgoing buffer and see that it leaves soon.

        Args:
            msg: the message.
            encoder: for a dialog with an encoder of its own.

        Raises:
            TransportClosed: the connection is gone.
            MessagingError: the frame would be over ``max_frame_size``; nothing was written.
            TypeError: the message holds a value that msgpack can't carry; nothing was written.
        """
        if self._closed_by is not None:
            raise self._gone()
        out = self._out
        start = len(out)
        out += _HEADER_ROOM
        try:
            (encoder or self._encoder).encode_into(msg, out, start + 4)
        except BaseException as exc:
            del out[start:]
            if isinstance(exc, _UNENCODABLE):
                raise TypeError(f"msgpack can't carry a value of the message: {exc}") from exc
            raise
        size = len(out) - start - 4
        if size > self.max_frame_size:
            del out[start:]
            raise _too_large(msg, size, self.max_frame_size)
        HEADER.pack_into(out, start, size)
        self.sent += 1
        if not self._corked:
            self._write_first()

    def put_bytes(self, cid: int, payload: bytes) -> None:
        """Like ``put(Yield(cid, payload))``, without copying the payload.

        Raises:
            TransportClosed, MessagingError: as :meth:`put`.
        """
        if self._closed_by is not None:
            raise self._gone()
        if len(payload) > self.max_frame_size:
            raise _too_large(Yield(cid, b""), len(payload), self.max_frame_size)
        # An envelope is a fixarray [tag, cid, pld]: encode it around an empty `bin` and widen that header.
        head = (
            self._encoder.encode(Yield(cid, b""))[:-2] + b"\xc6" + len(payload).to_bytes(4, "big")
        )
        size = len(head) + len(payload)
        if size > self.max_frame_size:
            raise _too_large(Yield(cid, b""), size, self.max_frame_size)
        self._out += HEADER.pack(size)
        self._out += head
        self._sealed.append(self._out)
        self._sealed.append(payload)
        self._sealed_size += len(self._out) + len(payload)
        self._out = bytearray()
        self.sent += 1
        if not self._corked:
            self._write_first()

    async def send(self, msg: MsgType, encoder: msgspec.msgpack.Encoder | None = None) -> None:
        """Send one message; waits while more than the high-water mark is waiting to leave.

        Raises:
            TransportClosed: the connection is gone; whether the peer got the message is unknown.
            MessagingError: the frame would be over ``max_frame_size``; nothing was written.
            TypeError: the message holds a value that msgpack can't carry; nothing was written.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self.put(msg, encoder)
        if self._flusher is None:
            await self.flush()
        elif self.unsent > HIGH_WATER:
            await self.wait_below_mark()

    async def wait_below_mark(self) -> None:
        """Wait until fewer than the high-water mark of bytes wait to leave, or the connection is gone."""
        while self.unsent > HIGH_WATER and self._closed_by is None:
            await self._written.park()

    async def flush(self) -> None:
        """Write until nothing waits to leave.

        Raises:
            TransportClosed: the connection broke.
        """
        while self.unsent:
            if self._closed_by is not None:
                raise self._gone()
            if self._flusher is not None:
                await self._written.park()
                continue
            async with self._write_lock:
                await self._flush_alone()

    async def _flush_alone(self) -> None:
        """Write while no flusher does; a flusher takes the lock before it begins."""
        while self.unsent and self._closed_by is None:
            if self._write_some():
                self._written.unpark_all()
            else:
                await self._wait_writable()

    async def run_flusher(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Move out what is put, until cancelled or the connection is gone.  Run one for each transport."""
        # Whoever writes now goes on to the end of the buffer: two tasks can't wait for one pipe.
        async with self._write_lock:
            self._flusher = trio.lowlevel.current_task()
        task_status.started()
        try:
            while self._closed_by is None:
                if not self.unsent:
                    # Nothing gathered during the last turn: the burst is over.
                    self._corked = False
                    self._may_write_alone = True
                    await self._park_flusher()
                    continue
                if self._write_some():
                    self._written.unpark_all()
                    await trio.lowlevel.checkpoint()
                else:
                    await self._wait_writable()
        except TransportClosed:
            pass
        finally:
            self._flusher = None
            self._corked = False
            self._written.unpark_all()

    async def _park_flusher(self) -> None:
        def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
            self._flusher_parked = False
            return trio.lowlevel.Abort.SUCCEEDED

        self._flusher_parked = True
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _write_first(self) -> None:
        """Write the first message of a burst right away; cork with the next one, or when this one did not fit."""
        if self._flusher is None:
            return
        if self._may_write_alone:
            self._may_write_alone = False
            try:
                self._write_some()
            except TransportClosed:
                # The reader delivers what has arrived, meets the same end and tells every dialog.
                return
            if not self.unsent:
                return
        self._corked = True
        self._wake_flusher()

    def _wake_flusher(self) -> None:
        if self._flusher_parked and self._flusher is not None:
            self._flusher_parked = False
            trio.lowlevel.reschedule(self._flusher)

    def _write_some(self) -> bool:
        """Write what the pipe takes now; whether it took anything."""
        sealed = self._sealed
        try:
            if not sealed:
                out = self._out
                done = self.io.send_nowait([out])
                if done == len(out):
                    out.clear()
                elif done:
                    del out[:done]
                return done > 0
            if self._out:
                sealed.append(self._out)
                self._sealed_size += len(self._out)
                self._out = bytearray()
            done = taken = self.io.send_nowait(list(sealed))
        except OSError as exc:
            raise self._mute("the connection broke while sending", exc) from exc
        self._sealed_size -= done
        while done:
            head = sealed[0]
            if done >= len(head):
                done -= len(head)
                sealed.popleft()
            else:
                sealed[0] = memoryview(head)[done:]
                done = 0
        return taken > 0

    async def _wait_writable(self) -> None:
        try:
            await self.io.wait_writable()
        except OSError as exc:
            raise self._mute("the connection broke while sending", exc) from exc
        except trio.ClosedResourceError as exc:
            raise self._fail("the connection was closed on this side", exc) from exc

    # -- receiving ------------------------------------------------------------------------------------

    async def recv_batch(self) -> list[MsgType]:
        """Every message that the next chunk of bytes completes; at least one, in order.

        Raises:
            TransportClosed: the stream ended, broke, or carried what is no message.
        """
        if self._inbox:
            await trio.lowlevel.checkpoint()
            batch = list(self._inbox)
            self._inbox.clear()
            return batch
        while True:
            data = await self._recv_bytes()
            try:
                frames = self._frames.feed(data)
                decode = self._decode
                msgs = [decode(frame) for frame in frames]
            except Exception as exc:
                # Beside its own errors msgspec lets UnicodeDecodeError and RecursionError through.
                raise self._fail(f"the peer sent what is no message: {exc}", exc) from exc
            if msgs:
                self.received += len(msgs)
                return msgs

    async def recv(self) -> MsgType:
        """The next message.

        Raises:
            TransportClosed: the stream ended, broke, or carried what is no message.
        """
        if self._inbox:
            await trio.lowlevel.checkpoint()
        while not self._inbox:
            self._inbox.extend(await self.recv_batch())
        return self._inbox.popleft()

    def push_back(self, msgs: list[MsgType]) -> None:
        """Return messages that were taken with a batch but belong to the next reader."""
        self._inbox.extendleft(reversed(msgs))

    def drain(self) -> list[MsgType]:
        """The messages that have arrived and that nobody took; they are taken by this call."""
        msgs = list(self._inbox)
        self._inbox.clear()
        return msgs

    def __aiter__(self) -> AsyncIterator[MsgType]:
        """Messages until the peer's graceful end.  No generator: leaving a loop early leaves nothing to clean up."""
        return self

    async def __anext__(self) -> MsgType:
        try:
            return await self.recv()
        except TransportClosed as exc:
            if exc.src_exc is None:
                raise StopAsyncIteration from None
            raise

    async def _recv_bytes(self) -> bytes:
        """The next chunk.

        A chunk that was cut short by the size limit is followed by another read at once (after a checkpoint);
        otherwise the pipe is most likely empty and waiting for it is the checkpoint.
        """
        io = self.io
        try:
            if self._closed_by is not None:
                await trio.lowlevel.checkpoint()
                return self._last_bytes()
            if self._may_have_more:
                await trio.lowlevel.checkpoint()
            else:
                await io.wait_readable()
            want = CHUNK if self._may_have_more or self._frames.pending else FIRST_CHUNK
            want = max(want, min(self._frames.missing(), 16 * CHUNK))
            while (data := io.recv_nowait(want)) is None:
                await io.wait_readable()
        except OSError as exc:
            raise self._fail("the connection broke", exc) from exc
        except trio.ClosedResourceError as exc:
            raise self._fail("the connection was closed on this side", exc) from exc
        self._may_have_more = len(data) == want
        self._may_write_alone = True
        if not data:
            if self._frames.pending:
                cut = EOFError(
                    f"the stream ended within a frame, after {self._frames.pending} bytes"
                )
                raise self._fail(str(cut), cut) from None
            raise self._fail("the peer closed the connection", None) from None
        return data

    def _last_bytes(self) -> bytes:
        """What arrived before nothing more could be sent: a peer that has gone may have answered first."""
        data = None if self._deaf else self.io.recv_nowait(CHUNK)
        if not data:
            error = self._gone()
            self.abort()
            raise error
        return data

    # -- handshake ------------------------------------------------------------------------------------

    async def authenticate(self, machine: Handshake, early: MsgType | None = None) -> None:
        """Carry out the opening exchange; what the peer pipelined behind it is kept for :meth:`recv_batch`.

        Args:
            machine: the exchange.
            early: the first message of this side.  Where nothing has to be proven it leaves with the opening,
                without waiting for the peer's; else it leaves right after the proof.

        Raises:
            TransportClosed: the peer failed it, or left.
        """
        self._out += machine.start()
        pipelined = early is not None and not machine.keyed
        if early is not None and pipelined:
            self.put(early)
        await self.flush()
        while True:
            step = await self._auth_step(machine, await self._recv_bytes())
            self._out += step.send
            if step.done:
                break
            await self.flush()
        if early is not None and not pipelined:
            self.put(early)
        await self.flush()
        if step.rest:
            self._take_early(step.rest)

    async def _auth_step(self, machine: Handshake, data: bytes) -> Step:
        try:
            return machine.receive(data)
        except HandshakeError as exc:
            raise self._fail(f"the opening exchange failed: {exc}", exc) from exc

    def _take_early(self, data: bytes) -> None:
        try:
            early = [self._decode(frame) for frame in self._frames.feed(data)]
        except Exception as exc:
            raise self._fail(f"the peer sent what is no message: {exc}", exc) from exc
        self.received += len(early)
        self._inbox.extend(early)

    # -- the end --------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Flush (for at most 0.2 s), then close.  Idempotent; never raises for a connection that is gone."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_FLUSH_TIMEOUT):
            try:
                if self._closed_by is None and self.unsent:
                    await self.flush()
            except TransportClosed:
                pass
        self.abort()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def abort(self) -> None:
        """Close at once, without flushing.  Idempotent."""
        self._fail(
            "the connection was closed on this side",
            trio.ClosedResourceError("this side has closed the connection"),
        )

    def _fail(self, what: str, exc: BaseException | None) -> TransportClosed:
        """Note the end of the connection, close it, and return the error to raise."""
        self._deaf = True
        error = self._note_end(what, exc)
        self.io.close()
        return error

    def _mute(self, what: str, exc: BaseException) -> TransportClosed:
        """Note that nothing more can be sent, and return the error to raise; what has arrived stays readable."""
        error = self._note_end(what, exc)
        with contextlib.suppress(OSError):
            self.io.send_eof()
        return error

    def _note_end(self, what: str, exc: BaseException | None) -> TransportClosed:
        error = TransportClosed(f"{what}; peer {self._raddr}", src_exc=exc)
        if self._closed_by is None:
            self._closed_by = error
        self._wake_flusher()
        self._written.unpark_all()
        return error

    def _gone(self) -> TransportClosed:
        """A fresh error for a use after the end: one exception object must not be raised twice."""
        first = self._closed_by
        assert first is not None
        return TransportClosed(str(first), src_exc=first.src_exc)


def _too_large(msg: object, size: int, limit: int) -> MessagingError:
    return MessagingError(
        f"a {type(msg).__name__!r} message of {size} bytes is over the frame limit of {limit} bytes; "
        f"send less at a time or raise `max_frame_size`"
    )
