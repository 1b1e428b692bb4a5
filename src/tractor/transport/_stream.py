"""The one implementation of the transport contract, over any non-blocking byte pipe.

A transport carries messages between two peers: it frames, encodes and decodes, and it gathers what is sent so
that many small messages leave in one system call.  Which bytes pipe is below it (TCP, TLS, UDS, memory) is a
:class:`~tractor.transport._contract.ByteIO`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import trio

from tractor._errors import TransportClosed
from tractor._proto.connection.auth import Handshake, HandshakeError, Step
from tractor._proto.connection.framing import (
    DEFAULT_MAX_FRAME_SIZE,
    FIRST_CONTROL,
    FrameBuffer,
    FrameTooLarge,
)
from tractor.address._policy import maddr_of
from tractor.address._types import Address
from tractor.msg.bounded._bounded import SMALL
from tractor.msg.bounded._undecodable import decode_again
from tractor.msg.types import INCOMING, Incoming, MsgType, as_message, decode_large
from tractor.transport._contract import ByteIO as ByteIO
from tractor.transport._contract import MsgTransport as MsgTransport
from tractor.transport._sending import HIGH_WATER as HIGH_WATER
from tractor.transport._sending import NO_COPY_ABOVE as NO_COPY_ABOVE
from tractor.transport._sending import FrameSender
from tractor.transport.lent._memory import can_lend
from tractor.transport.lent._slots import FREE, LENT, OFFER, REFUSE, WITHDRAW, BadControl, Borrower

CHUNK = 262_144
"""Bytes taken from the pipe at a time while more is waiting there."""

FIRST_CHUNK = 65_536
"""Bytes asked for while little is expected: a buffer of this size comes from the allocator's heap, while one of
``CHUNK`` is mapped, faulted in and unmapped each time, which takes 12 us."""

CLOSE_FLUSH_TIMEOUT = 0.2
"""Seconds that a graceful close may take to get rid of what is waiting to leave."""


class MsgpackTransport(FrameSender):
    """msgpack frames over a :class:`~tractor.transport._contract.ByteIO`; how they are sent is :class:`FrameSender`'s.

    Args:
        io: the pipe, connected; owned by the transport from now on.
        laddr, raddr: the local and the peer's address.
        max_frame_size: bytes; bound for one message, both ways.
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
        super().__init__(io, raddr, max_frame_size)
        self._laddr = laddr
        self._frames = FrameBuffer(max_frame_size)
        self._decode = INCOMING.decode
        self._inbox: deque[Incoming] = deque()
        self._may_have_more = False
        # Takes large frames out of the peer's shared memory.
        self._borrower: Borrower | None = None
        # Over its life: messages, and bytes that were read.
        self.received = 0
        self.bytes_in = 0
        # Seconds in which a frame that has begun must bring another byte, and whom that does not concern.
        self.frame_progress = math.inf
        self.may_stall: Callable[[], bool] = bool

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
        return maddr_of(self._raddr)

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

    def set_max_frame_size(self, size: int) -> None:
        """Bound messages, both ways, by another number of bytes from now on."""
        self.max_frame_size = size
        self._frames.max_frame_size = size

    def take_lent(self) -> None:
        """Be ready for frames in shared memory; from whom, :meth:`share_memory` says later."""
        if self.max_frame_size < FIRST_CONTROL:
            self._borrower = Borrower(self.tell)
            self._frames.on_control = self._on_control

    @property
    def can_share(self) -> bool:
        """Whether this side takes large frames in shared memory."""
        return self._borrower is not None and can_lend()

    def share_memory(self, pid: int | None) -> None:
        """Hand large frames over in shared memory, where this transport can.

        Args:
            pid: the peer's process, which is one of this host; ``None``: it is not known to be, and shares none.
        """
        if self._borrower is not None:
            self._borrower.trust(pid)
            if pid is not None and can_lend():
                self.lend()
            self.write_now()

    def _on_control(self, kind: int, number: int, first: int, second: int) -> memoryview | None:
        """Carry out a record of the peer's; the frame that it brings.  Raises BadControl."""
        borrower = self._borrower
        assert borrower is not None
        if kind == LENT:
            return borrower.frame(number, first, self.max_frame_size, second)
        if kind == FREE:
            self.slot_freed(number)
        elif kind == OFFER:
            borrower.offered(number, first, second)
            self.write_now()
        elif kind == REFUSE:
            self.slot_refused(number)
        elif kind == WITHDRAW:
            borrower.withdrawn(number)
        else:
            raise BadControl(f"{kind:#x} is no kind of record")
        return None

    has_watch: ClassVar[bool] = False
    """Whether :meth:`watch` is to run beside the reader."""

    async def watch(self) -> None:
        """Give the connection up when the peer is gone though nothing says so; for kinds that can tell."""
        await trio.sleep_forever()

    def is_unheard(self, limit: float) -> bool:
        """Whether the peer's host has acknowledged nothing of what is due for ``limit`` seconds, as far as known."""
        return False

    def give_up(self, why: str) -> None:
        """Close at once; every use of it raises TransportClosed with that reason."""
        self._fail(why, TimeoutError(why))

    # -- receiving ------------------------------------------------------------------------------------

    async def recv_batch(self) -> list[Incoming]:
        """Every message that the next chunk of bytes completes; at least one, in order.

        Raises:
            TransportClosed: the stream ended, broke, or carried what is not a message.
        """
        if self._inbox:
            await trio.lowlevel.checkpoint()
            batch = list(self._inbox)
            self._inbox.clear()
            return batch
        while True:
            try:
                frames = await self._recv_frames()
            except (FrameTooLarge, BadControl) as exc:
                raise self._fail(f"the peer sent what is not a message: {exc}", exc) from exc
            if self._borrower is not None and self._borrower.settle():
                self.write_now()
            try:
                decode = self._decode
                msgs = [
                    decode(frame) if len(frame) <= SMALL else decode_large(frame)
                    for frame in frames
                ]
            except Exception:
                msgs = self._decode_again(frames)
            if msgs:
                self.received += len(msgs)
                return msgs

    async def recv(self) -> MsgType:
        """The next message.

        Raises:
            TransportClosed: the stream ended, broke, or carried what is not a message.
            msgspec.ValidationError: a request whose arguments can't be decoded.
        """
        if self._inbox:
            await trio.lowlevel.checkpoint()
        while not self._inbox:
            self._inbox.extend(await self.recv_batch())
        return as_message(self._inbox.popleft())

    def _decode_again(self, frames: list[bytes | memoryview]) -> list[Incoming]:
        """Decode a batch one of whose frames could not be decoded.  Raises TransportClosed: it is not a message."""
        try:
            return [decode_again(frame, decode_large) for frame in frames]
        except Exception as exc:
            # Beside its own errors msgspec lets UnicodeDecodeError and RecursionError through.
            raise self._fail(f"the peer sent what is not a message: {exc}", exc) from exc

    def drain(self) -> list[MsgType]:
        """The messages that have arrived and that nobody took; they are taken by this call."""
        msgs = [as_message(msg) for msg in self._inbox]
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

    async def _recv_frames(self) -> list[bytes | memoryview]:
        """The frames that the next chunk completes.  Raises TransportClosed, FrameTooLarge."""
        frames = self._frames
        if frames.pending < FIRST_CHUNK or self._closed_by is not None:
            return frames.feed(await self._recv_bytes())
        recv_into = getattr(self.io, "recv_into_nowait", None)
        room = None if recv_into is None else frames.room()
        if recv_into is None or room is None:
            return frames.feed(await self._recv_bytes())
        # A large frame has begun: its bytes are received where they stay.
        return frames.wrote(await self._recv_into(recv_into, room))

    async def _recv_into(
        self, recv_into: Callable[[memoryview], int | None], room: memoryview
    ) -> int:
        try:
            with room:
                if self._may_have_more:
                    await trio.lowlevel.checkpoint()
                else:
                    await self._wait_for_rest()
                while (n := recv_into(room)) is None:
                    await self._wait_for_rest()
                self._may_have_more = n == len(room)
        except OSError as exc:
            raise self._fail("the connection broke", exc) from exc
        except trio.ClosedResourceError as exc:
            raise self._closed_here(exc) from exc
        self.bytes_in += n
        self._may_write_alone = True
        if not n:
            raise self._ended()
        return n

    def _closed_here(self, exc: trio.ClosedResourceError) -> TransportClosed:
        if self._closed_by is not None:
            return self._gone()
        return self._fail("the connection was closed on this side", exc)

    def _ended(self) -> TransportClosed:
        """The error for the end of the stream, within a frame or between two."""
        if self._frames.pending:
            what = f"the stream ended within a frame, after {self._frames.pending} bytes"
            return self._fail(what, EOFError(what))
        return self._fail("the peer closed the connection", None)

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
            begun = self._frames.pending
            wait_readable = self._wait_for_rest if begun else io.wait_readable
            if self._may_have_more:
                await trio.lowlevel.checkpoint()
            else:
                await wait_readable()
            want = CHUNK if self._may_have_more or begun else FIRST_CHUNK
            if begun:
                want = max(want, min(self._frames.missing(), 16 * CHUNK))
            while (data := io.recv_nowait(want)) is None:
                await wait_readable()
        except OSError as exc:
            raise self._fail("the connection broke", exc) from exc
        except trio.ClosedResourceError as exc:
            raise self._closed_here(exc) from exc
        self.bytes_in += len(data)
        self._may_have_more = len(data) == want
        self._may_write_alone = True
        if not data:
            raise self._ended() from None
        return data

    async def _wait_for_rest(self) -> None:
        """Wait until there is more of a frame that has begun; raises TransportClosed where that takes too long."""
        while True:
            with trio.move_on_after(self.frame_progress) as scope:
                await self.io.wait_readable()
            if not scope.cancelled_caught:
                return
            if not self.may_stall():
                what = f"no byte came for {self.frame_progress:g} s of a message that had begun"
                raise self._fail(what, TimeoutError(what))

    def _last_bytes(self) -> bytes:
        """What arrived before nothing more could be sent: a peer that has gone may have answered first."""
        data = None if self._deaf else self.io.recv_nowait(CHUNK)
        if not data:
            error = self._gone()
            self.abort()
            raise error
        return data

    def _fail(self, what: str, exc: BaseException | None) -> TransportClosed:
        error = super()._fail(what, exc)
        if self._borrower is not None:
            self._borrower.close()
        return error

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
        await self._flush_opening()
        while True:
            step = self._auth_step(machine, await self._auth_bytes(machine))
            self._out += step.send
            if step.done:
                break
            await self._flush_opening()
        if early is not None and not pipelined:
            self.put(early)
        await self.flush()
        if step.rest:
            self._take_early(step.rest)

    async def _flush_opening(self) -> None:
        """As ``flush``; but one that refuses us may have said why before it left, and that is read first."""
        try:
            await self.flush()
        except TransportClosed:
            if self._deaf:
                raise

    async def _auth_bytes(self, machine: Handshake) -> bytes:
        try:
            return await self._recv_bytes()
        except TransportClosed as exc:
            if exc.src_exc is not None and not isinstance(exc.src_exc, ConnectionError):
                raise
            try:
                machine.receive_eof()
            except HandshakeError as why:
                text = f"the opening exchange failed: {why}"
                raise self._fail(text, exc.src_exc) from exc.src_exc

    def _auth_step(self, machine: Handshake, data: bytes) -> Step:
        try:
            return machine.receive(data)
        except HandshakeError as exc:
            raise self._fail(f"the opening exchange failed: {exc}", exc) from exc

    def _take_early(self, data: bytes) -> None:
        try:
            early = [decode_large(frame) for frame in self._frames.feed(data)]
        except Exception as exc:
            raise self._fail(f"the peer sent what is not a message: {exc}", exc) from exc
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
