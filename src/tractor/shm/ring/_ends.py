"""The two ends of a ring, without waiting in reads and writes.

How much was written and how much was taken travels in two eventfds, whose counters add up by themselves.  No word in
shared memory is written by one side and relied on by the other without passing the kernel in between, so nothing is
assumed of the processor's memory order, and every write and every credit costs one short system call.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence

from tractor._proto.ring import NEWS, ReadCursor, RingError, WriteCursor, split_count
from tractor.shm.ring._bell import Bell
from tractor.shm.ring._memory import END_OF, RingMemory, RingState, Side

Buffer = bytes | bytearray | memoryview

ANNOUNCE = 262_144
"""Bytes: a longer write is announced in parts of this size, so that the reader copies beside the writer."""


class _End:
    """What both ends have.

    Args:
        memory: of the ring; the caller keeps it mapped.
        ring: the eventfd that tells the peer.
        heard: the eventfd that the peer tells by.
        side: which end this is.
        life: a socket whose other end closes with the peer; -1: the peer's process is watched, once it is there.

    The descriptors are the caller's and must stay open until :meth:`close`.
    """

    def __init__(self, memory: RingMemory, ring: int, heard: int, side: Side, life: int) -> None:
        self._memory = memory
        self._ring = ring
        self._heard = heard
        self._side = side
        self._other = END_OF[side]
        memory.claim(side)
        self.bell = Bell(heard)
        self.closed = False
        self._peer_left = False
        if life >= 0:
            self.bell.watch_socket(life)
        self._tell_news()
        self._look_at_peer()

    def _tell_news(self) -> None:
        # Blocks after 2**16 news that nobody has taken: there is no such peer.
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self._ring, NEWS)  # type: ignore[attr-defined, unused-ignore]

    def _look_at_peer(self) -> None:
        """There was news: see who the peer is, or that it has left."""
        memory = self._memory
        if memory.state(self._other) == RingState.CLOSED:
            self._peer_left = True
        elif not self.bell.watches and (peer := memory.peer_at(self._other)) is not None:
            self.bell.watch_process(peer)

    def _take_count(self) -> int:
        """Bytes that the peer has told of since the last call; looks at the peer where there is news of it."""
        try:
            value = os.eventfd_read(self._heard)  # type: ignore[attr-defined, unused-ignore]
        except BlockingIOError:
            return 0
        size, is_news = split_count(value)
        if is_news:
            self._look_at_peer()
        return size

    def close(self) -> None:
        """Leave the ring, and tell the peer; a task that waits gets trio.ClosedResourceError.  Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._memory.leave(self._side)
        self._tell_news()
        self.bell.close()


class WriteEnd(_End):
    """The writing end; arguments as described for both ends.

    Args:
        start: the position of the first byte.
    """

    def __init__(
        self, memory: RingMemory, announce: int, credit: int, start: int = 0, life: int = -1
    ) -> None:
        self.cursor = WriteCursor(memory.capacity, start)
        self._untold = 0
        super().__init__(memory, announce, credit, Side.WRITER, life)

    def write(self, buffers: Sequence[Buffer]) -> int:
        """Write a prefix of the joined buffers; memoryviews are of single bytes.

        Returns:
            The bytes taken; 0 when there is no room.

        Raises:
            BrokenPipeError: the reader has left, or is dead; or this end was closed.
            ConnectionAbortedError: the reader has broken the rules.
        """
        if self.closed or self._peer_left or self.bell.look() or self._has_left():
            raise self._broken()
        total = 0
        for buffer in buffers:
            size = len(buffer)
            taken = self._put_whole(buffer, size) or self._put_parts(buffer, size)
            total += taken
            if taken < size:
                break
        if self._untold:
            self._tell()
        return total

    def write_whole(self, buffer: bytes | bytearray, size: int) -> bool:
        """Write a small buffer at once, where that is simple; else do nothing, and leave it to :meth:`write`."""
        if self.closed or self._peer_left or self.bell.peer_gone or not 0 < size <= ANNOUNCE:
            return False
        start = self.cursor.place(size)
        if start < 0:
            return False
        self._memory.data[start : start + size] = buffer
        os.eventfd_write(self._ring, size)  # type: ignore[attr-defined, unused-ignore]
        return True

    def _put_whole(self, buffer: Buffer, size: int) -> int:
        """Copy a buffer that fits without a wrap; else 0."""
        if not 0 < size <= ANNOUNCE or (start := self.cursor.place(size)) < 0:
            return 0
        self._memory.data[start : start + size] = buffer
        self._untold += size
        return size

    def _put_parts(self, buffer: Buffer, size: int) -> int:
        """Copy what there is room for, in parts that are announced one by one."""
        data, cursor, done = self._memory.data, self.cursor, 0
        with memoryview(buffer) as octets:
            while done < size:
                if self._untold >= ANNOUNCE or not cursor.free:
                    self._tell()
                if not cursor.free and not self.find_room():
                    break
                for start, end in cursor.spans(min(size - done, ANNOUNCE)):
                    with octets[done : done + end - start] as part:
                        data[start:end] = part
                    done += end - start
                    cursor.wrote(end - start)
                    self._untold += end - start
        return done

    def _has_left(self) -> bool:
        """Whether the reader has left, also where its count was not taken yet."""
        self._peer_left = self._memory.state(self._other) == RingState.CLOSED
        return self._peer_left

    def look_around(self) -> None:
        """Ask whether the reader is still there; the next write raises if not."""
        if not self._has_left():
            self.bell.look(anew=True)

    def _tell(self) -> None:
        untold, self._untold = self._untold, 0
        if untold:
            os.eventfd_write(self._ring, untold)  # type: ignore[attr-defined, unused-ignore]

    def find_room(self) -> bool:
        """Take the reader's credit; whether there is room.  Raises ConnectionAbortedError: too much of it."""
        size = self._take_count()
        if size:
            try:
                self.cursor.credit(size)
            except RingError as exc:
                raise _broken_rules(exc) from exc
        return self.cursor.free > 0

    def is_ready(self) -> bool:
        """Whether :meth:`write` would take something, or raise.  Raises ConnectionAbortedError."""
        if self.closed or self._peer_left or self.cursor.free or self.bell.look():
            return True
        return self.find_room() or self._peer_left

    def _broken(self) -> BrokenPipeError:
        if self.closed:
            why = "this end of the ring was closed"
        elif self._peer_left:
            why = "the reader of the ring has left"
        else:
            why = "the reader of the ring is dead"
        return BrokenPipeError(errno.EPIPE, why)


class ReadEnd(_End):
    """The reading end; arguments as described for both ends.

    Args:
        start: the position of the first byte.
    """

    def __init__(
        self, memory: RingMemory, announce: int, credit: int, start: int = 0, life: int = -1
    ) -> None:
        self.cursor = ReadCursor(memory.capacity, start)
        self._at_end = False
        super().__init__(memory, credit, announce, Side.READER, life)

    def read(self, max_bytes: int) -> bytes | None:
        """The next bytes, at most ``max_bytes``; ``b""`` once the writer has left and all was read; ``None``: none now.

        Raises:
            ConnectionResetError: the writer is dead, and all that it had announced was read.
            ConnectionAbortedError: the writer has broken the rules.
        """
        cursor, data = self.cursor, self._memory.data
        if not cursor.unread and not self._find_bytes():
            return b"" if self._at_end else None
        spans = cursor.spans(max_bytes)
        if len(spans) == 1:
            start, stop = spans[0]
            found = data[start:stop].tobytes()
        else:
            found = b"".join([data[start:stop] for start, stop in spans])
        self._took(len(found))
        return found

    def read_into(self, target: memoryview) -> int | None:
        """As :meth:`read`, into memory of single bytes; how many, 0 at the end, ``None``: none now."""
        cursor, data, done = self.cursor, self._memory.data, 0
        if not cursor.unread and not self._find_bytes():
            return 0 if self._at_end else None
        for start, stop in cursor.spans(len(target)):
            with data[start:stop] as part:
                target[done : done + stop - start] = part
            done += stop - start
        self._took(done)
        return done

    def _took(self, size: int) -> None:
        credit = self.cursor.took(size)
        if credit:
            os.eventfd_write(self._ring, credit)  # type: ignore[attr-defined, unused-ignore]

    def _find_bytes(self) -> bool:
        """Whether there are bytes; if not, :attr:`_at_end` says whether any will come.  Raises as :meth:`read`."""
        # That the writer is dead is looked at first: what it had written before is found after that.
        is_dead = self.bell.look()
        if self._take_announced():
            return True
        # It left after its last count, and so before the one that was taken just now.
        self._at_end = self._peer_left
        if is_dead and not self._at_end:
            raise ConnectionResetError(errno.ECONNRESET, "the writer of the ring is dead")
        return False

    def _take_announced(self) -> bool:
        size = self._take_count()
        if size:
            try:
                self.cursor.announce(size)
            except RingError as exc:
                raise _broken_rules(exc) from exc
        return size > 0

    def is_ready(self) -> bool:
        """Whether :meth:`read` would give something, or raise."""
        return self.cursor.unread > 0 or self.closed or self._peer_left or self.bell.look()


def _broken_rules(exc: RingError) -> ConnectionAbortedError:
    return ConnectionAbortedError(
        errno.ECONNABORTED, f"the peer broke the rules of the ring: {exc}"
    )
