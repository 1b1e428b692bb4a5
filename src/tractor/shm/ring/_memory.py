"""The memory of one byte ring: a header page that says who is at its ends, then the bytes.

What one side writes there and the other reads is written *before* the eventfd that tells of it, and read after it: the
kernel's lock on the eventfd orders the two on every processor.  The positions are not in here at all, see
:mod:`tractor._proto.ring`.
"""

from __future__ import annotations

import enum
import os

import msgspec

from tractor.process._stat import process_start_time
from tractor.process.host._host_id import pid_space

HEADER_SIZE = 4096
"""Bytes before the ring's own: a page, so that these are aligned."""

_MAGIC = 0x3130_474E_4952_5254  # "TRRING01"


class Side(enum.IntEnum):
    """The two ends; the value is where the header has the end's record, in words."""

    WRITER = 16
    READER = 32


class RingState(enum.IntEnum):
    """What has become of an end."""

    NOBODY = 0
    OPEN = 1
    CLOSED = 2


END_OF = {Side.WRITER: Side.READER, Side.READER: Side.WRITER}
"""The end at the other side."""

# Offsets in an end's record.
_STATE, _PID, _START, _SPACE = range(4)


class PeerRecord(msgspec.Struct, frozen=True):
    """Who is at the other end.

    Attributes:
        pid: its process id.
        start: in ms after the machine's boot, which tells it from a later process of that number; 0: not known.
        space: the pid namespace in which its pid is one; 0: not known.
    """

    pid: int
    start: int
    space: int


class RingMemory:
    """Header and bytes of a ring in some mapped memory.

    Args:
        memory: header and bytes; writable.

    Raises:
        ValueError: this is not a ring's memory.
    """

    __slots__ = ("_words", "capacity", "data")

    def __init__(self, memory: memoryview) -> None:
        # In words of the machine, each of which is read and written at once.
        self._words = memory[:HEADER_SIZE].cast("Q")
        magic, capacity = self._words[0], self._words[1]
        if magic != _MAGIC or not 0 < capacity <= len(memory) - HEADER_SIZE:
            self._words.release()
            raise ValueError("this shared memory holds no ring")
        self.capacity = capacity
        self.data = memory[HEADER_SIZE : HEADER_SIZE + capacity]

    @classmethod
    def format(cls, memory: memoryview, capacity: int, ids: tuple[int, int] = (0, 0)) -> None:
        """Make an empty ring of memory that is all zeros.

        Args:
            memory: at least ``HEADER_SIZE + capacity`` bytes.
            capacity: bytes of the ring.
            ids: of its eventfds, see ``eventfd_id``; 0: not known.
        """
        with memory[:HEADER_SIZE].cast("Q") as words:
            words[1] = capacity
            words[2], words[3] = ids
            words[0] = _MAGIC

    @property
    def ids(self) -> tuple[int, int]:
        """The ids of its eventfds; 0: not known."""
        return self._words[2], self._words[3]

    def state(self, side: Side) -> int:
        """What has become of an end, as a :class:`State`."""
        return self._words[side + _STATE]

    def claim(self, side: Side) -> None:
        """Sit down at an end.

        Raises:
            RuntimeError: somebody sits there, or did: a ring has one writer and one reader in its life.
        """
        words = self._words
        if words[side + _STATE] != RingState.NOBODY:
            raise RuntimeError(
                f"this ring has had its {side.name.lower()} already, process {words[side + _PID]}: "
                "open a new ring; one has one sender and one receiver"
            )
        start = process_start_time(os.getpid())
        words[side + _START] = 0 if start is None else round(start * 1000)
        words[side + _SPACE] = pid_space()
        words[side + _PID] = os.getpid()
        words[side + _STATE] = RingState.OPEN

    def leave(self, side: Side) -> None:
        """Leave an end for good."""
        self._words[side + _STATE] = RingState.CLOSED

    def peer_at(self, side: Side) -> PeerRecord | None:
        """Who sits at an end; ``None``: nobody does."""
        words = self._words
        if words[side + _STATE] != RingState.OPEN:
            return None
        return PeerRecord(words[side + _PID], words[side + _START], words[side + _SPACE])

    def release(self) -> None:
        """Let go of the memory.  Idempotent."""
        self._words.release()
        self.data.release()


def start_in_ms(pid: int) -> int:
    """When a process started, as in a :class:`PeerRecord`; 0: there is none."""
    start = process_start_time(pid)
    return 0 if start is None else round(start * 1000)
