"""One integer in shared memory, which publishes what was written before it."""

from __future__ import annotations

import os
import threading

from tractor.process._state import ProcessVar
from tractor.shm._segment import Segment

SIZE = 8

# Processors on which stores become visible in their order, and loads happen in theirs (x86's total store order).
_IN_ORDER = hasattr(os, "uname") and os.uname().machine in ("x86_64", "AMD64", "i686", "i386")
_lock = ProcessVar(threading.Lock)


def _fence() -> None:
    """Have memory accesses before it happen before those behind it.

    Python has no such instruction.  To take and give back a lock is one half of it each way: what comes after an
    acquire stays after it, what comes before a release stays before it, and a release comes before the next acquire.
    """
    if not _IN_ORDER:
        with _lock.value:
            pass
        with _lock.value:
            pass


class SharedInt:
    """An integer that one process writes and any number read.

    It is one aligned word, which is written and read at once, never in halves (as is true of all processors that
    CPython is built for).  Who reads a value also sees all that its writer had written to shared memory before it.

    Args:
        segment: its memory, owned by this object from now on.
    """

    __slots__ = ("_cell", "_segment")

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._cell = segment.buf[:SIZE].cast("q")

    @classmethod
    def create(cls, key: str, value: int) -> SharedInt:
        """A new one.  Raises as ``Segment.create``."""

        def fill(memory: memoryview) -> None:
            with memory[:SIZE].cast("q") as cell:
                cell[0] = value

        return cls(Segment.create(key, SIZE, fill))

    @classmethod
    def attach(cls, key: str, readonly: bool = True) -> SharedInt:
        """The one of that key.  Raises as ``Segment.attach``."""
        return cls(Segment.attach(key, readonly))

    @property
    def key(self) -> str:
        """The key of its memory."""
        return self._segment.key

    @property
    def value(self) -> int:
        """The value that was written last.  Raises ValueError after :meth:`close`."""
        value = self._cell[0]
        _fence()
        return value

    @value.setter
    def value(self, value: int) -> None:
        """Publish a value, and what was written before.  Raises TypeError: it was attached to be read only."""
        _fence()
        self._cell[0] = value

    def close(self) -> None:
        """Unmap it.  Idempotent."""
        self._cell.release()
        self._segment.close()

    def destroy(self) -> None:
        """Unmap it and remove it; others that have it mapped keep it.  Idempotent."""
        self.close()
        self._segment.unlink()

    def __repr__(self) -> str:
        return f"<SharedInt {self.key!r}>"
