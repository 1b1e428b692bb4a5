"""The sending half of a transport: frames gathered in a buffer, and moved out in few system calls."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any

import msgspec
import trio

from tractor._errors import MessagingError, TransportClosed
from tractor._proto.connection.framing import CONTROL, FIRST_CONTROL, HEADER
from tractor._util._plain import class_name, safe_str
from tractor._util._waiters import Waiters
from tractor.address._types import Address
from tractor.msg._arrays import BLOB, MARK, carried
from tractor.msg.bounded._bounded import COUNTED_ABOVE, refuse_crowded
from tractor.msg.types import MsgType, Return, Start, Started, Yield
from tractor.transport._contract import ByteIO
from tractor.transport.lent._slots import LEND_ABOVE, LENT, BadControl, Lender

HIGH_WATER = 262_144
"""Bytes waiting to leave above which senders wait."""

NO_COPY_ABOVE = 65_536
"""Bytes; a payload of at least this size leaves as it is, without a copy into the outgoing buffer."""

BURST = 0.001
"""Seconds without a write after which the next message is written at once."""

_AROUND: dict[type, int] = {Start: 2, Started: 1, Yield: 1, Return: 1}
"""Containers of the messages that carry values of the user's: the envelope, and in a request the caller's uid."""

_HEADER_ROOM = b"\0\0\0\0"


class FrameSender:
    """Sends msgpack frames over a :class:`~tractor.transport._contract.ByteIO`, and knows when that has ended.

    Theory of operation.  There are two ways out, and both encode into the same outgoing buffer, so messages leave in
    the order in which they were put.

    :meth:`put_now` writes before it returns, as much as the pipe takes; :meth:`wait_written` waits for the rest.  It
    is for whatever returns to the user's code, which may compute for seconds next.

    :meth:`put` is for a task that parks or ends right after (a reply, a final message, a call's request).  The first
    message of a burst is written at once; with the second one the transport is *corked* until its *flusher* task has
    run (:meth:`run_flusher`), so what follows within the same turn of the loop leaves in one system call.  A burst
    also ends :data:`BURST` seconds after the last write: a task that computed before it replies holds nothing back.

    The flusher writes what is left, whenever the pipe takes more.  Without one the sender itself writes.

    A frame is never cut by a cancelled sender: what was put stays in the buffer and leaves with the next write.
    """

    # CPython finds the attributes of an object quickly while its dict has no more than 30: these are apart.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_blocked",
        "_closed_by",
        "_corked",
        "_deaf",
        "_dropped",
        "_encoder",
        "_flusher",
        "_flusher_parked",
        "_held",
        "_last_write",
        "_lender",
        "_may_write_alone",
        "_out",
        "_owed",
        "_put_bytes",
        "_raddr",
        "_sealed",
        "_sealed_size",
        "_write_lock",
        "_written",
    )

    def __init__(self, io: ByteIO, raddr: Address, max_frame_size: int) -> None:
        self.io = io
        self.max_frame_size = max_frame_size
        self._raddr = raddr
        self._encoder = msgspec.msgpack.Encoder()
        self._out = bytearray()
        # Sealed buffers that leave before `_out`.
        self._sealed: deque[bytes | bytearray | memoryview] = deque()
        self._sealed_size = 0
        self._corked = False
        # One message may leave without the flusher, which is a task switch and a turn of the loop.  Given anew by
        # every chunk that arrives and at the end of every burst: one answer to what came is not a burst.
        self._may_write_alone = True
        self._flusher: trio.lowlevel.Task | None = None
        self._flusher_parked = False
        self._write_lock = trio.Lock()
        self._last_write = 0.0
        # The flusher waits until the pipe takes more: an attempt before that is in vain.
        self._blocked = False
        # Bytes that were ever put; some were dropped at the end of the connection.
        self._put_bytes = 0
        self._dropped = False
        # Called once after a write with no more than `drain_mark` bytes left, where somebody awaits that.
        self.on_drained: Callable[[], None] | None = None
        self.drain_mark = 0
        self.drain_is_awaited = False
        # With more bytes than this unsent replies wait: in `wait_drained()`, until no more than `drain_mark` are left.
        self.hold_above = math.inf
        self._held = Waiters()
        # More bytes than this of what `put()` takes without waiting end the connection.
        self.abort_above = math.inf
        # Who waits for bytes to leave; woken after every write of a rest and at the end.
        self._written = Waiters()
        # Why nothing more can be sent.  What has arrived can still be read, unless `_deaf`, too.
        self._closed_by: TransportClosed | None = None
        self._deaf = False
        # Hands large frames over in shared memory; `None`: the peer can't have any.  And whether something is in all
        # of it: as a number, that counts as unsent, so that senders wait until the peer has taken some.
        self._lender: Lender | None = None
        self._owed = 0
        # Over its life: messages that were put, and bytes that the pipe took.
        self.sent = 0
        self.bytes_out = 0

    def connected(self) -> bool:
        """Whether both directions are believed to be open."""
        return self._closed_by is None

    @property
    def unsent(self) -> int:
        """Bytes that wait to leave, and one more while the peer must take a large frame before the next one."""
        return len(self._out) + self._sealed_size + self._owed

    @property
    def _unwritten(self) -> int:
        return len(self._out) + self._sealed_size

    def put(self, msg: MsgType, encoder: msgspec.msgpack.Encoder | None = None) -> int:
        """Encode a message into the outgoing buffer and see that it leaves soon: this task parks or ends next.

        Args:
            msg: the message.
            encoder: for a dialog with an encoder of its own.

        Returns:
            The bytes of the message, without its frame's header.

        Raises:
            TransportClosed: the connection is gone.
            MessagingError: the frame would be over ``max_frame_size``; nothing was written.
            TypeError: the message holds a value that msgpack can't carry; nothing was written.
        """
        size = self.put_unwritten(msg, encoder)
        if self._flusher is not None:
            if (self._may_write_alone and not self._corked) or self.write_is_due:
                self._may_write_alone = False
                self.write_now()
            elif not self._corked:
                self._corked = True
                self._wake_flusher()
            if (self._out or self._sealed) and self.unsent > self.abort_above:
                what = f"{self.unsent} bytes of replies were not taken by the peer"
                self._fail(what, MessagingError(what))
        return size

    def put_now(self, msg: MsgType, encoder: msgspec.msgpack.Encoder | None = None) -> int:
        """Like :meth:`put`, but write it, and what was put before, as far as the pipe takes it now."""
        size = self.put_unwritten(msg, encoder)
        self.write_now()
        return size

    def put_unwritten(self, msg: MsgType, encoder: msgspec.msgpack.Encoder | None = None) -> int:
        """Like :meth:`put`, but leave the writing to the caller, who has more to put."""
        if self._closed_by is not None:
            raise self._gone()
        encoder = encoder or self._encoder
        # A hook may send on this very channel: nothing of this message may be in the buffer then.
        body = None
        if encoder.enc_hook is not None:
            if self._lender is not None:
                return self._put_parts(msg, _encode_in_parts(msg, encoder))
            body = _encode_apart(msg, encoder)
        out = self._out
        start = len(out)
        out += _HEADER_ROOM
        try:
            if body is None:
                encoder.encode_into(msg, out, start + 4)
            else:
                out += body
        except BaseException as exc:
            del out[start:]
            if isinstance(exc, TypeError) or not isinstance(exc, Exception):
                raise
            raise _cannot_carry(exc) from exc
        size = len(out) - start - 4
        if size > self.max_frame_size:
            del out[start:]
            raise _too_large(msg, size, self.max_frame_size)
        if size > COUNTED_ABOVE and type(msg) in _AROUND:
            try:
                with memoryview(out) as view, view[start + 4 :] as frame:
                    refuse_crowded(frame, _AROUND[type(msg)])
            except BaseException:
                del out[start:]
                raise
        if size >= LEND_ABOVE and body is None and self._lender is not None:
            with memoryview(out) as view, view[start + 4 :] as frame:
                number = self._fill(size, frame)
            if number is not None:
                del out[start:]
                self._put_lent(number, size)
                return size
        HEADER.pack_into(out, start, size)
        self.sent += 1
        self._put_bytes += size + 4
        if size >= LEND_ABOVE and self._lender is not None:
            self._lender.offer(size)
        return size

    def _put_parts(self, msg: MsgType, parts: list[bytes | memoryview]) -> int:
        """Put a frame that consists of these parts; of three the second one is the bytes of an array."""
        size = sum(map(len, parts))
        if size > self.max_frame_size:
            raise _too_large(msg, size, self.max_frame_size)
        if len(parts[0]) > COUNTED_ABOVE and type(msg) in _AROUND:
            refuse_crowded(parts[0], _AROUND[type(msg)])
        if size >= LEND_ABOVE and self._lender is not None:
            number = self._fill(size, *parts)
            if number is not None:
                self._put_lent(number, size, len(parts[0]) if len(parts) > 1 else 0)
                return size
            self._lender.offer(size)
        self._out += HEADER.pack(size)
        for part in parts:
            self._out += part
        self.sent += 1
        self._put_bytes += size + 4
        return size

    # -- shared memory --------------------------------------------------------------------------------

    def lend(self) -> None:
        """Hand large frames over in shared memory from now on: the peer is a process of this host, on Linux."""
        if self._lender is None and self.max_frame_size < FIRST_CONTROL and self._closed_by is None:
            self._lender = Lender(self.tell)

    def tell(self, kind: int, *numbers: int) -> None:
        """Put a record between two frames; the caller sees that it leaves."""
        if self._closed_by is None:
            self._out += CONTROL.pack(kind, *numbers)
            self._put_bytes += CONTROL.size

    def _lend(self, size: int, *parts: bytes) -> bool:
        """Put a frame that consists of these parts into shared memory, if there is room in it."""
        number = self._fill(size, *parts)
        if number is not None:
            self._put_lent(number, size)
        return number is not None

    def _fill(self, size: int, *parts: bytes | memoryview) -> int | None:
        """Copy a frame into a slot; its number, or ``None``: none is free."""
        lender = self._lender
        # Without one nobody reads what the peer says of its slots.
        if lender is None or self._flusher is None or self._closed_by is not None:
            return None
        slot = lender.take(size)
        if slot is None:
            return None
        pos = 0
        for part in parts:
            end = pos + len(part)
            slot.memory[pos:end] = part
            pos = end
        return slot.number

    def _put_lent(self, number: int, size: int, array: int = 0) -> None:
        assert self._lender is not None
        self.tell(LENT, number, size, array)
        self.sent += 1
        if self._lender.is_spent:
            self._owed = 1
            # With a second one the next frame is filled in while this one is copied out.
            self._lender.offer_second(size)

    def slot_freed(self, number: int) -> None:
        """The peer says that a slot is free.  Raises BadControl."""
        if self._lender is None:
            raise BadControl(
                f"slot {number} of shared memory is said to be free, and there is none"
            )
        self._lender.freed(number)
        if self._owed:
            self._owed = 0
            self._written.wake_all()

    def slot_refused(self, number: int) -> None:
        """The peer takes no slots.  Raises BadControl."""
        if self._lender is None:
            raise BadControl(f"slot {number} of shared memory is refused, and there is none")
        self._lender.refused(number)

    def put_bytes(self, cid: int, payload: bytes) -> int:
        """Like ``put_now(Yield(cid, payload))``, without copying the payload.

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
        if size >= LEND_ABOVE and self._lender is not None:
            if self._lend(size, head, payload):
                self.write_now()
                return size
            self._lender.offer(size)
        self._out += HEADER.pack(size)
        self._out += head
        self._sealed.append(self._out)
        self._sealed.append(payload)
        self._sealed_size += len(self._out) + len(payload)
        self._out = bytearray()
        self.sent += 1
        self._put_bytes += size + 4
        self.write_now()
        return size

    async def send(self, msg: MsgType, encoder: msgspec.msgpack.Encoder | None = None) -> None:
        """Send one message; afterwards it is with the kernel.  Cancelled while it waits for that, it still leaves.

        Raises:
            TransportClosed: the connection is gone; whether the peer got the message is unknown.
            MessagingError: the frame would be over ``max_frame_size``; nothing was written.
            TypeError: the message holds a value that msgpack can't carry; nothing was written.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.unsent > HIGH_WATER and self._flusher is not None:
            await self.wait_below_mark()
        self.put_now(msg, encoder)
        if self.unsent:
            await self.wait_written()

    async def wait_written(self) -> None:
        """Wait until all that was put before is with the kernel.

        Raises:
            TransportClosed: the connection is gone; whether the peer got it is unknown.
        """
        mark = self._put_bytes
        if self._flusher is None:
            await self.flush()
        # At the end of the connection what waited to leave is dropped, and does not count as written.
        while self._put_bytes - self.unsent < mark or self._dropped:
            if self._closed_by is not None:
                raise self._gone()
            await self._written.park()

    async def wait_below_mark(self) -> None:
        """Wait until fewer than the high-water mark of bytes wait to leave, or the connection is gone."""
        while self.unsent > HIGH_WATER and self._closed_by is None:
            await self._written.park()

    async def wait_drained(self) -> None:
        """Where more than ``hold_above`` bytes wait to leave: wait until few do, or the connection is gone."""
        while self.unsent > self.hold_above and self._closed_by is None:
            self.drain_is_awaited = True
            await self._held.park()

    async def flush(self) -> None:
        """Write until nothing waits to leave.

        Raises:
            TransportClosed: the connection broke.
        """
        while self._unwritten:
            if self._closed_by is not None:
                raise self._gone()
            if self._flusher is not None:
                await self._written.park()
                continue
            async with self._write_lock:
                await self._flush_alone()
        if self._dropped:
            raise self._gone()

    async def _flush_alone(self) -> None:
        """Write while no flusher does; a flusher takes the lock before it begins."""
        while self._unwritten and self._closed_by is None:
            if self._write_some():
                self._written.wake_all()
            else:
                await self._wait_writable()

    @trio.lowlevel.enable_ki_protection
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
                if not self._unwritten:
                    # Nothing gathered during the last turn: the burst is over.
                    self._corked = False
                    self._may_write_alone = True
                    # Another sender may have written the last of it, between this task's waking and its turn.
                    self._written.wake_all()
                    if self.drain_is_awaited:
                        self._note_drained()
                    await self._park_flusher()
                    continue
                if self._write_some():
                    self._written.wake_all()
                    if self.drain_is_awaited:
                        self._note_drained()
                    await trio.lowlevel.checkpoint()
                else:
                    await self._wait_writable()
        except TransportClosed:
            pass
        finally:
            self._flusher = None
            self._corked = False
            self._written.wake_all()

    def _note_drained(self) -> None:
        if self.unsent <= self.drain_mark:
            self.drain_is_awaited = False
            self._held.wake_all()
            if self.on_drained is not None:
                self.on_drained()

    async def _park_flusher(self) -> None:
        def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
            self._flusher_parked = False
            return trio.lowlevel.Abort.SUCCEEDED

        self._flusher_parked = True
        await trio.lowlevel.wait_task_rescheduled(abort)

    @property
    def write_is_due(self) -> bool:
        """Whether the last write is so long ago that what was put must not wait for more."""
        return perf_counter() - self._last_write > BURST

    def write_now(self) -> None:
        """Write what was put, as far as the pipe takes it now; the flusher writes the rest.  Never raises."""
        if self._flusher is None or self._blocked or self._closed_by is not None:
            return
        if not (self._out or self._sealed):
            return
        try:
            self._write_some()
        except TransportClosed:
            # The reader delivers what has arrived, meets the same end and tells every dialog.
            return
        if self._out or self._sealed:
            self._corked = True
            self._wake_flusher()

    def _wake_flusher(self) -> None:
        if self._flusher_parked and self._flusher is not None:
            self._flusher_parked = False
            trio.lowlevel.reschedule(self._flusher)

    def _write_some(self) -> bool:
        """Write what the pipe takes now; whether it took anything."""
        sealed = self._sealed
        self._last_write = perf_counter()
        try:
            if not sealed:
                out = self._out
                done = self.io.send_nowait([out])
                self.bytes_out += done
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
            # Its frames hold what was to be sent.
            exc.__traceback__ = None
            raise self._mute("the connection broke while sending", exc) from exc
        self.bytes_out += done
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
        self._blocked = True
        try:
            await self.io.wait_writable()
        except OSError as exc:
            raise self._mute("the connection broke while sending", exc) from exc
        except trio.ClosedResourceError as exc:
            raise self._fail("the connection was closed on this side", exc) from exc
        finally:
            self._blocked = False

    # -- the end --------------------------------------------------------------------------------------

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
            # Now, not when the last reference goes: it may be much.
            self._dropped = self._unwritten > 0
            self._owed = 0
            if self._lender is not None:
                self._lender.close()
            # In place: a frame of the error's traceback may know it.
            try:
                self._out.clear()
            except BufferError:
                self._out = bytearray()
            self._sealed.clear()
            self._sealed_size = 0
        self._wake_flusher()
        self._written.wake_all()
        self._held.wake_all()
        return error

    def _gone(self) -> TransportClosed:
        """A fresh error for a use after the end: one exception object must not be raised twice."""
        first = self._closed_by
        assert first is not None
        return TransportClosed(str(first), src_exc=first.src_exc)


def _encode_apart(msg: MsgType, encoder: msgspec.msgpack.Encoder) -> bytes:
    try:
        return encoder.encode(msg)
    except TypeError:
        raise
    except Exception as exc:
        raise _cannot_carry(exc) from exc


def _encode_in_parts(msg: MsgType, encoder: msgspec.msgpack.Encoder) -> list[bytes | memoryview]:
    """A message, whole; or, where it holds a large array, what is before that, its bytes, and what follows."""
    found: list[memoryview] = []
    token = carried.set(found)
    try:
        body = _encode_apart(msg, encoder)
    finally:
        carried.reset(token)
    if not found:
        return [body]
    data = found[0]
    mark = b"\xd8" + bytes((BLOB,)) + MARK
    if body.count(mark) != 1:
        # A hook around this one has made something else of it.
        return [_encode_apart(msg, encoder)]
    head, _, tail = body.partition(mark)
    return [head + b"\xc9" + len(data).to_bytes(4, "big") + bytes((BLOB,)), data, tail]


def _cannot_carry(exc: BaseException) -> TypeError:
    """For a number, a text or a depth that msgpack can't carry; or a hook of the user's that failed in its own way."""
    return TypeError(
        f"msgpack can't carry a value of the message: {class_name(type(exc))}: {safe_str(exc)}"
    )


def _too_large(msg: object, size: int, limit: int) -> MessagingError:
    return MessagingError(
        f"a {type(msg).__name__!r} message of {size} bytes is over the frame limit of {limit} bytes; "
        f"send less at a time or raise `max_frame_size`"
    )
