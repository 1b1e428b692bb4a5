"""Writes a trace to a file, so that the file can be read whatever becomes of the disk."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from tractor.observe.tracing._format import Trace

CHUNK = 2000
"""Records that are written at a time."""

_GZIP = 31
_END = b"\n]}\n"


class Written(NamedTuple):
    """What was written.

    Attributes:
        records: so many are in the file.
        left_out: so many are not, for want of room.
        size: bytes of the file.
        error: why some are left out; ``None``: none are.
    """

    records: int
    left_out: int
    size: int
    error: OSError | None


class TraceFile:
    """A file to be; it is there from the beginning, so that a place which can't be written to is told at once.

    Args:
        path: where; compressed if the name ends in ``.gz``.

    Raises:
        OSError: that can't be written.
    """

    def __init__(self, path: Path) -> None:
        self._is_new = not path.exists()
        self._path = path
        # Not emptied yet: what is there stays until something else is to be written.
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        self._packs = path.suffix == ".gz"

    def give_up(self) -> None:
        """Leave things as they were."""
        os.close(self._fd)
        if self._is_new:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def write(self, trace: Trace) -> Written:
        """Write a trace, and close the file.

        A disk that is full, or another error, cuts it: what is in the file then is the beginning of the trace, and can
        be read.

        Raises:
            OSError: not even the beginning could be written.
        """
        try:
            if os.path.isfile(self._path):
                os.ftruncate(self._fd, 0)
            return self._write(trace)
        finally:
            os.close(self._fd)

    def _write(self, trace: Trace) -> Written:
        pack = zlib.compressobj(wbits=_GZIP) if self._packs else None
        head = {"displayTimeUnit": "ms", "metadata": trace.metadata}
        text = msgspec.json.encode(head)[:-1] + b',"traceEvents":[\n'
        size = records = 0
        error: OSError | None = None
        chunks = _chunks(trace)
        # The end for what is in the file: only what can still be ended is written.
        end = pack
        number = 0
        while text:
            end = pack.copy() if pack is not None else None
            try:
                data = text if pack is None else pack.compress(text) + pack.flush(zlib.Z_SYNC_FLUSH)
                _write_all(self._fd, data)
            except OSError as exc:
                error = exc
                break
            size += len(data)
            records += number
            end = pack
            number, text = next(chunks, (0, b""))
        if error is not None and not size:
            raise error
        tail = _END if end is None else end.compress(_END) + end.flush()
        left_out = 0
        if error is not None:
            left_out = number + sum(more for more, _ in chunks)
            os.ftruncate(self._fd, size)
            os.lseek(self._fd, size, os.SEEK_SET)
        _write_all(self._fd, tail)
        return Written(records, left_out, size + len(tail), error)


def _chunks(trace: Trace) -> Iterator[tuple[int, bytes]]:
    """The records, some at a time, with how many they are; each but the first begins with a comma."""
    records = trace.records()
    comma = b""
    encode = msgspec.json.Encoder().encode
    while some := list(islice(records, CHUNK)):
        yield len(some), comma + b",\n".join(map(encode, some))
        comma = b",\n"


def _write_all(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
