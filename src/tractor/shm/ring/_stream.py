"""A ring as a raw channel: one sender, one receiver, in whichever processes of this host."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import msgspec
import trio

from tractor._proto.ring import MAX_CAPACITY
from tractor.shm._segment import Segment
from tractor.shm.ring._ends import ReadEnd, WriteEnd
from tractor.shm.ring._eventfd import close_eventfd, eventfd_id, open_eventfd, require_linux
from tractor.shm.ring._memory import HEADER_SIZE, RingMemory

DEFAULT_SIZE = 10_240
"""Bytes of a ring's buffer."""

CHUNK = 262_144
"""Bytes that a receiver takes at a time when it was not told how many."""

TURN = 32
"""Every so many calls that did not have to wait, other tasks run."""

EndT = TypeVar("EndT", ReadEnd, WriteEnd)


class RBToken(msgspec.Struct, frozen=True):
    """What names a ring; travels as a payload.

    Attributes:
        shm_name: the key of its shared memory.
        write_eventfd, wrap_eventfd: descriptors *of the process that holds the token*.  A process that is started with
            ``proc_kwargs={'pass_fds': token.fds}`` has the same ones; every other one gets a token of its own from
            ``fd_share.open_ringbuf()``.
        buf_size: bytes of the buffer.
    """

    shm_name: str
    write_eventfd: int
    wrap_eventfd: int
    buf_size: int

    @property
    def fds(self) -> tuple[int, int]:
        """The descriptors, as ``pass_fds`` takes them."""
        return self.write_eventfd, self.wrap_eventfd

    def as_msg(self) -> dict[str, Any]:
        """Plain data that msgpack can carry."""
        return msgspec.structs.asdict(self)

    @classmethod
    def from_msg(cls, msg: dict[str, Any] | RBToken) -> RBToken:
        """The token that :meth:`as_msg` was called on; a token is returned as it is.

        Raises:
            msgspec.ValidationError: ``msg`` is none.
        """
        return msg if isinstance(msg, cls) else msgspec.convert(msg, cls)


@contextmanager
def open_ringbuf(
    shm_name: str,
    buf_size: int = DEFAULT_SIZE,
    write_efd_flags: int = 0,
    wrap_efd_flags: int = 0,
) -> Iterator[RBToken]:
    """Make a ring, for one :class:`RingBuffSender` and one :class:`RingBuffReceiver`.

    At the end of the block its name and this process's descriptors are gone; ends that are open then stay usable.

    Args:
        shm_name: the key of its shared memory.
        buf_size: bytes that it can hold.
        write_efd_flags: flags for the eventfd by which the sender announces bytes, beside ``EFD_NONBLOCK`` and
            ``EFD_CLOEXEC``, which are always set.
        wrap_efd_flags: the same for the one by which the receiver gives room back.

    Yields:
        Its token.

    Raises:
        NotImplementedError: this is not Linux.
        FileExistsError: there is shared memory of that name.
        ValueError: the name can't be one, or ``buf_size`` or a flag is not possible.
        OSError: out of descriptors or memory.
    """
    require_linux("rings")
    if sys.platform != "linux":
        raise NotImplementedError
    if not 1 <= buf_size <= MAX_CAPACITY:
        raise ValueError(f"a ring has 1 to {MAX_CAPACITY} bytes, not buf_size={buf_size!r}")
    with ExitStack() as stack:
        fds = []
        for flags in (write_efd_flags, wrap_efd_flags):
            if flags & os.EFD_SEMAPHORE:
                raise ValueError(
                    "a ring's eventfds count bytes: EFD_SEMAPHORE would take one at a time"
                )
            fds.append(open_eventfd(0, flags | os.EFD_NONBLOCK | os.EFD_CLOEXEC))
            stack.callback(close_eventfd, fds[-1])
        segment = Segment.create(shm_name, HEADER_SIZE + buf_size)
        stack.callback(segment.close)
        stack.callback(segment.unlink)
        ids = (eventfd_id(fds[0]) or 0, eventfd_id(fds[1]) or 0)
        RingMemory.format(segment.buf, buf_size, ids)
        yield RBToken(shm_name, fds[0], fds[1], buf_size)


class _Attached:
    """A ring that one end has mapped, with descriptors of its own."""

    def __init__(self, token: RBToken) -> None:
        require_linux("rings")
        with ExitStack() as undo:
            segment = Segment.attach(token.shm_name)
            undo.callback(segment.close)
            self.memory = RingMemory(segment.buf)
            undo.callback(self.memory.release)
            if self.memory.capacity != token.buf_size:
                raise ValueError(
                    f"the ring {token.shm_name!r} has {self.memory.capacity} bytes, the token says {token.buf_size}"
                )
            fds = []
            for fd, known in zip(token.fds, self.memory.ids, strict=True):
                _check_eventfd(token, fd, known)
                # Its owner may close the token's, and the number may then be something else's.
                fds.append(os.dup(fd))
                undo.callback(os.close, fds[-1])
                os.set_blocking(fds[-1], False)  # type: ignore[attr-defined, unused-ignore]
            self.announce, self.credit = fds
            self._undo = undo.pop_all()

    def close(self) -> None:
        self._undo.close()


def _check_eventfd(token: RBToken, fd: int, known: int) -> None:
    """Raise ValueError unless ``fd`` is the ring's eventfd in this process."""
    try:
        number = eventfd_id(fd)
        fault = "it is another eventfd" if known and number and number != known else ""
    except ValueError as exc:
        fault = str(exc)
    if fault:
        raise ValueError(
            f"{token!r} is of another process ({fault}): start this one with proc_kwargs={{'pass_fds': token.fds}}, "
            "or get a token by tractor.ipc.fd_share.open_ringbuf()"
        )


class _Stream:
    """What sender and receiver have in common."""

    _end: ReadEnd | WriteEnd

    def __init__(self, token: RBToken, make: Callable[[RingMemory, int, int], None]) -> None:
        self._token = token
        self._ring = _Attached(token)
        try:
            make(self._ring.memory, self._ring.announce, self._ring.credit)
        except BaseException:
            self._ring.close()
            raise
        self._busy = False
        self._is_warm = False
        self._turn = TURN

    @property
    def token(self) -> RBToken:
        """The ring's token."""
        return self._token

    @property
    def ptr(self) -> int:
        """The position in the buffer of the next byte."""
        return self._end.cursor.position

    def _begin(self) -> None:
        """Only one task at a time; :attr:`_busy` is reset by the caller."""
        if self._busy:
            raise trio.BusyResourceError("another task uses this end of the ring")
        if self._end.closed:
            raise trio.ClosedResourceError("this end of the ring was closed on this side")
        self._busy = True

    async def _let_others_run(self) -> None:
        """Every few calls other tasks run, and a sender looks whether its receiver is still there."""
        self._turn = TURN
        await trio.lowlevel.checkpoint()
        if self._end.closed:
            raise trio.ClosedResourceError("this end of the ring was closed on this side")
        if isinstance(self._end, WriteEnd):
            self._end.look_around()

    async def _wait(self) -> None:
        """Wait until the peer has done something, or is gone.  Spurious returns are possible.

        Whoever was busy until now gives the peer one turn of trio's loop to go on: to be woken from sleep, and to have
        to wake, costs both sides more than that.
        """
        if self._is_warm:
            self._is_warm = False
            await trio.lowlevel.checkpoint()
        elif self._end.is_ready():
            await trio.lowlevel.checkpoint()
        else:
            await self._end.bell.wait()
        if self._end.closed:
            raise trio.ClosedResourceError("this end of the ring was closed on this side")

    def close(self) -> None:
        """Leave the ring at once, outside of trio, too.  Idempotent; the peer is told."""
        if not self._end.closed:
            self._end.close()
            self._ring.close()

    async def aclose(self) -> None:
        """Leave the ring; the peer is told at once.  Idempotent."""
        self.close()
        await trio.lowlevel.checkpoint()


class RingBuffSender(_Stream, trio.abc.SendStream):
    """The sending end of a ring: a trio send stream.  A ring has one in its life.

    Args:
        token: the ring's, with descriptors of this process.
        start_ptr: the position in the buffer of the first byte; the receiver's must be the same.

    Raises:
        NotImplementedError: this is not Linux.
        FileNotFoundError: the ring is gone.
        RuntimeError: it has had a sender already.
        ValueError: the token is not of this process, or does not fit the ring; ``start_ptr`` is not in it.
        OSError: out of descriptors or memory.
    """

    _end: WriteEnd

    def __init__(self, token: RBToken, start_ptr: int = 0) -> None:
        def make(memory: RingMemory, announce: int, credit: int) -> None:
            self._end = WriteEnd(memory, announce, credit, start_ptr)

        self._sent = 0
        super().__init__(RBToken.from_msg(token), make)

    @property
    def sent(self) -> int:
        """The bytes that the receiver has, or will have while this process and its own last."""
        return self._sent

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, and wait while there is no room.

        A call that is cancelled, or fails, has sent a prefix of ``data``, without gap or repetition:
        :attr:`sent` has grown by its length, and what is sent next follows right behind it.

        Raises:
            trio.BrokenResourceError: the receiver has left, or is dead.
            trio.ClosedResourceError: it was closed on this side, possibly while this task waited.
            trio.BusyResourceError: another task is sending.
        """
        self._begin()
        try:
            self._turn -= 1
            if self._turn:
                await trio.lowlevel.checkpoint_if_cancelled()
            else:
                await self._let_others_run()
            if isinstance(data, bytes | bytearray):
                size = len(data)
                if self._end.write_whole(data, size):
                    self._sent += size
                    return
            with memoryview(data) as whole, whole.cast("B") as octets:
                await self._send_parts(octets)
        finally:
            self._busy = False

    async def _send_parts(self, octets: memoryview) -> None:
        done, size = self._write(octets), len(octets)
        while done < size:
            await self._wait()
            with octets[done:] as rest:
                done += self._write(rest)

    def _write(self, data: memoryview) -> int:
        try:
            done = self._end.write((data,))
        except OSError as exc:
            raise trio.BrokenResourceError(str(exc)) from exc
        self._sent += done
        self._is_warm = done > 0
        return done

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room, or the receiver is gone.

        Raises:
            trio.BrokenResourceError: the receiver has broken the ring's rules.
            trio.ClosedResourceError, trio.BusyResourceError: as from :meth:`send_all`.
        """
        self._begin()
        try:
            await trio.lowlevel.checkpoint()
            while not self._end.is_ready():
                await self._end.bell.wait()
        except OSError as exc:
            raise trio.BrokenResourceError(str(exc)) from exc
        finally:
            self._busy = False


class RingBuffReceiver(_Stream, trio.abc.ReceiveStream):
    """The receiving end of a ring: a trio receive stream.  A ring has one in its life.

    Args:
        token, start_ptr: as of :class:`RingBuffSender`.
        flags: of the eventfds, beside ``EFD_NONBLOCK`` and ``EFD_CLOEXEC``, which are always set; no other fits.

    Raises:
        ValueError: and all others as from :class:`RingBuffSender`.
    """

    _end: ReadEnd

    def __init__(self, token: RBToken, start_ptr: int = 0, flags: int = 0) -> None:
        def make(memory: RingMemory, announce: int, credit: int) -> None:
            if sys.platform != "linux":
                raise NotImplementedError
            if flags & ~(os.EFD_NONBLOCK | os.EFD_CLOEXEC):
                raise ValueError(
                    f"flags={flags:#x}: a ring's eventfds have EFD_NONBLOCK and EFD_CLOEXEC only"
                )
            self._end = ReadEnd(memory, announce, credit, start_ptr)

        super().__init__(RBToken.from_msg(token), make)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes; ``b""`` once the sender has closed and all was received.

        A call that is cancelled has taken nothing.

        Args:
            max_bytes: at least 1; ``None``: what is there, up to 256 KiB.

        Raises:
            trio.BrokenResourceError: the sender is dead, and all that it sent was received.
            trio.ClosedResourceError: it was closed on this side, possibly while this task waited.
            trio.BusyResourceError: another task is receiving.
            ValueError, TypeError: ``max_bytes`` is below 1, or no whole number.
        """
        if max_bytes is None:
            max_bytes = CHUNK
        elif operator.index(max_bytes) < 1:
            raise ValueError(f"max_bytes={max_bytes} is below 1")
        self._begin()
        try:
            self._turn -= 1
            if self._turn:
                await trio.lowlevel.checkpoint_if_cancelled()
            else:
                await self._let_others_run()
            while (found := self._end.read(max_bytes)) is None:
                await self._wait()
            self._is_warm = True
            return found
        except OSError as exc:
            raise trio.BrokenResourceError(str(exc)) from exc
        finally:
            self._busy = False

    async def receive_into(self, buffer: Any) -> int:
        """As :meth:`receive_some`, into memory at hand: the way with the fewest copies.

        Args:
            buffer: writable and contiguous: a bytearray, a memoryview, an array.

        Returns:
            How many bytes came, at least 1; 0 at the end, or where ``buffer`` is empty.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError: as :meth:`receive_some`.
            TypeError, BufferError: ``buffer`` is no such memory.
        """
        self._begin()
        try:
            with memoryview(buffer) as whole, whole.cast("B") as octets:
                await trio.lowlevel.checkpoint_if_cancelled()
                if not octets:
                    return 0
                while (size := self._end.read_into(octets)) is None:
                    await self._wait()
                self._is_warm = True
                return size
        except OSError as exc:
            raise trio.BrokenResourceError(str(exc)) from exc
        finally:
            self._busy = False
