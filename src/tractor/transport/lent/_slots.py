"""Slots of shared memory through which one side of a connection hands large frames to the other.

Theory of operation.  A side that has a large frame to send *offers* memory without a name: it makes a slot, and its
peer maps it, through ``/proc``, and says that it is *free*.  From then on a large frame is copied into a free slot, and
what travels is a short record that says in which one it is.  The peer's reader copies it out at once, into memory of
its own, and says that the slot is free again.  So a slot is never looked at while it can change, nobody who reads
slowly keeps one, and what comes after is as if the frame had come over the socket.  While no slot is free, or none is
large enough, frames go over the socket as all others do; the order of frames is that of the records.

What holds.  A frame whose record the kernel has is not lost when its sender ends, however that is: both sides have
mapped the slot, and its memory is gone with the last of them.  It has no name, so nothing is left in ``/dev/shm``.
A peer can make this process map no more than :data:`MAX_BYTES` in :data:`MAX_SLOTS` pieces, none of which can shrink;
it can announce a frame in a slot only after that was said to be free.  Whatever else it says ends the connection.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from tractor import log as _log
from tractor._proto.connection.framing import FIRST_CONTROL, spare
from tractor.process._at_fork import close_in_child
from tractor.process._state import ProcessVar
from tractor.transport.lent._memory import borrow, can_lend, make_memory

log = _log.get_logger()

OFFER, FREE, REFUSE, LENT, WITHDRAW = range(FIRST_CONTROL, FIRST_CONTROL + 5)
"""Kinds of records: a slot is offered (number, descriptor, bytes); it is free, or was refused, or is offered no more
(number); a frame is in it (number, bytes, and where in it the bytes of an array begin)."""

LEND_ABOVE = 2**18
"""Bytes from which on a frame is handed over in a slot."""

MAX_SLOTS = 4
"""Slots that one side of a connection offers: one is filled while another is copied out."""

MAX_BYTES = 2**26
"""Bytes of all slots that one side of a connection offers."""

MAX_TOTAL = 2**28
"""Bytes of all slots that a process offers, to all its peers."""

SMALLEST = 2**20
"""Bytes of a slot at least: frames of about the same size share one."""

ALIGNMENT = 16
"""Bytes; what memory from the allocator and the elements of arrays are aligned to at most."""

_offered = ProcessVar(lambda: 0)
"""Bytes of all slots that this process offers."""


class BadControl(ValueError):
    """A record that does not belong here; the byte stream is unusable from here on."""


class _Descriptor:
    """Of a slot, until the peer has mapped it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        close_in_child(self)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)


class Slot:
    """Memory that is offered.

    Attributes:
        number: which one it is on this connection.
        memory: mapped here.
        is_free: the peer has it mapped, and nothing is in it.
    """

    __slots__ = ("descriptor", "is_free", "memory", "number")

    def __init__(self, number: int, size: int) -> None:
        """Make one.  Raises OSError: there is no room."""
        fd, self.memory = make_memory(size)
        self.descriptor = _Descriptor(fd)
        self.number = number
        self.is_free = False


class Lender:
    """The slots that one side of a connection offers.

    Args:
        tell: puts a record into the outgoing stream, between two frames.
    """

    def __init__(self, tell: Callable[[int, int, int, int], None]) -> None:
        self._tell = tell
        self._slots: dict[int, Slot] = {}
        self._next = 0
        # The peer takes none: it is asked no more.
        self._is_refused = False
        self._is_closed = False

    @property
    def is_spent(self) -> bool:
        """Whether there are slots, and something is in each of them."""
        return bool(self._slots) and not any(slot.is_free for slot in self._slots.values())

    def take(self, size: int) -> Slot | None:
        """The smallest free slot for a frame of so many bytes, which is not free any more."""
        fit = [slot for slot in self._slots.values() if slot.is_free and len(slot.memory) >= size]
        if not fit:
            return None
        slot = min(fit, key=lambda one: len(one.memory))
        slot.is_free = False
        return slot

    def offer(self, size: int) -> None:
        """Have a slot for frames of so many bytes soon, unless one is on its way, or it would be too much."""
        room = max(SMALLEST, 1 << (size - 1).bit_length())
        if room > MAX_BYTES or self._is_refused or self._is_closed:
            return
        if any(slot.descriptor.fd >= 0 for slot in self._slots.values()):
            return
        for slot in list(self._slots.values()):
            if slot.is_free and len(slot.memory) < size and not self._has_room(room):
                self._drop(slot)
                self._tell(WITHDRAW, slot.number, 0, 0)
        if not self._has_room(room):
            return
        try:
            slot = Slot(self._next, room)
        except OSError as exc:
            log.debug("no memory of %s bytes to share with a peer: %s", room, exc)
            return
        self._next += 1
        self._slots[slot.number] = slot
        _offered.value += room
        self._tell(OFFER, slot.number, slot.descriptor.fd, room)

    def offer_second(self, size: int) -> None:
        """As :meth:`offer`, unless there are two slots for so many bytes."""
        if sum(len(slot.memory) >= size for slot in self._slots.values()) < 2:
            self.offer(size)

    def _has_room(self, size: int) -> bool:
        own = sum(len(slot.memory) for slot in self._slots.values())
        return (
            len(self._slots) < MAX_SLOTS
            and own + size <= MAX_BYTES
            and _offered.value + size <= MAX_TOTAL
        )

    def freed(self, number: int) -> None:
        """The peer says that a slot is free.  Raises BadControl."""
        slot = self._slots.get(number)
        if slot is None or slot.is_free:
            raise BadControl(
                f"slot {number} of shared memory is said to be free, and was not in use"
            )
        slot.descriptor.close()
        slot.is_free = True

    def refused(self, number: int) -> None:
        """The peer can't map a slot, so it gets none.  Raises BadControl."""
        slot = self._slots.get(number)
        if slot is None or slot.descriptor.fd < 0:
            raise BadControl(f"slot {number} of shared memory is refused, and was not offered")
        self._is_refused = True
        self._drop(slot)

    def _drop(self, slot: Slot) -> None:
        del self._slots[slot.number]
        slot.descriptor.close()
        _offered.value -= len(slot.memory)

    def close(self) -> None:
        """The connection is gone.  Idempotent."""
        self._is_closed = True
        for slot in list(self._slots.values()):
            self._drop(slot)


class Borrower:
    """The slots that the other side of a connection offers.

    Args:
        tell: puts a record into the outgoing stream, between two frames.
    """

    def __init__(self, tell: Callable[[int, int, int, int], None]) -> None:
        self._tell = tell
        # By number; and those that were said to be free, and nothing came in them since.
        self._slots: dict[int, memoryview] = {}
        self._free: set[int] = set()
        # Those whose frames were just copied out.  Each is said to be free once a chunk, so a peer can't have more
        # copied at once than its slots hold.
        self._copied: list[int] = []
        self._pid: int | None = None
        # Offers that came before it was known whose they are; `None`: that is known.
        self._early: list[tuple[int, int, int]] | None = []

    def trust(self, pid: int | None) -> None:
        """The peer is this process of this host; ``None``: it is not known to be, and nothing is borrowed of it."""
        early, self._early = self._early, None
        self._pid = pid
        for offer in early or ():
            self.offered(*offer)

    def offered(self, number: int, fd: int, size: int) -> None:
        """Map a slot.  Raises BadControl: the peer offers more than it may."""
        known = len(self._slots) + len(self._early or ())
        mapped = sum(map(len, self._slots.values())) + sum(one[2] for one in self._early or ())
        if known >= MAX_SLOTS or mapped + size > MAX_BYTES or number in self._slots:
            raise BadControl(
                f"slot {number} of shared memory, {size} bytes, is over the limit: {MAX_SLOTS}, of {MAX_BYTES} bytes"
            )
        if self._early is not None:
            self._early.append((number, fd, size))
            return
        try:
            if self._pid is None or not can_lend():
                raise OSError("it is of an unknown process")
            self._slots[number] = borrow(self._pid, (fd, size))
        except (OSError, ValueError) as exc:
            log.debug("the memory of %s bytes that a peer offers can't be mapped: %s", size, exc)
            self._tell(REFUSE, number, 0, 0)
            return
        self._say_free(number)

    def withdrawn(self, number: int) -> None:
        """A slot is offered no more.  Raises BadControl."""
        if number not in self._free:
            raise BadControl(f"slot {number} of shared memory is withdrawn, and was not free")
        self._free.discard(number)
        del self._slots[number]

    def frame(self, number: int, size: int, limit: int, offset: int = 0) -> memoryview:
        """A frame that came in a slot, in memory of this process's own.

        Args:
            number: of the slot.
            size: bytes of the frame.
            limit: of a frame's bytes.
            offset: where in it the bytes of an array begin, which are to lie as arrays do.

        Raises:
            BadControl: there is none.
        """
        memory = self._slots.get(number)
        if memory is None or number not in self._free or not 0 < size <= min(len(memory), limit):
            raise BadControl(f"a frame of {size} bytes can't be in slot {number} of shared memory")
        self._free.discard(number)
        first = -offset % ALIGNMENT
        last = first + size
        buffer = spare.take(last) or bytearray(last)
        with memoryview(buffer) as view:
            view[first:last] = memory[:size]
        spare.keep(buffer)
        self._copied.append(number)
        return memoryview(buffer)[first:last]

    def settle(self) -> bool:
        """After each chunk: say which slots are free again; whether there are any."""
        copied, self._copied = self._copied, []
        for number in copied:
            self._say_free(number)
        return bool(copied)

    def _say_free(self, number: int) -> None:
        self._free.add(number)
        self._tell(FREE, number, 0, 0)

    def close(self) -> None:
        """The connection is gone.  Idempotent."""
        self._slots.clear()
        self._free.clear()
        self._early = None
        self._pid = None
