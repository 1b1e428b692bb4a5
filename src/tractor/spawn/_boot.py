"""The boot pipe: what a child must have before it can connect, and its lifeline ever after.

The parent writes one record (4 bytes little-endian length, then msgpack) *before* it starts the
child, so that no write can fail or block once a process exists.  It then keeps the write end.  One
more byte on the child's side, or the end of file, means that the parent is gone.  The byte is for an
end that is told: a process that was forked off the parent may hold the write end, too, and so hide
the end of file.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import sys
import time
from collections.abc import Callable

import msgspec

from tractor.process._ancestry import lineage
from tractor.process._at_fork import on_fork
from tractor.process._stat import ProcessId
from tractor.process._state import of_process
from tractor.process._stdio import move_above_stdio
from tractor.transport.tls._config import TLSConfig

MAX_RECORD = 4096 - 4
"""Bytes.  With its header a record fits the smallest pipe of any kernel, so it never blocks."""

_HEADER = struct.Struct("<I")


class BootError(RuntimeError):
    """A child found no usable boot record, so it cannot know whose child it is."""


class BootRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a parent hands its child over the boot pipe."""

    claim: bytes = b""
    """What the child proves to its parent once that it is this child; see :class:`~tractor.msg.types.Aid`."""
    authkey: bytes | None = None
    key_is_explicit: bool = False
    """Somebody chose the key, so that the child may listen beyond this host with it."""
    tls: TLSConfig | None = None
    """Where the certificates for TCP are; ``None``: TCP is plain."""
    stderr_fd: int | None = None
    """The child's duplicate of the real stderr; ``None`` where fd 2 is the real one already."""
    tracker_fd: int | None = None
    """Where multiprocessing's resource tracker is told; ``None``: there is none, or its number is another one."""
    zygote: tuple[int, int] | None = None
    """The descriptors that lead to the tree's zygote; ``None``: there is none."""
    parent_pid: int = 0
    limits: dict[str, int] = {}
    """Of the kernel, by their names in :mod:`resource` without ``RLIMIT_``, in lower case."""
    sockets: dict[str, int] = {}
    """Descriptors of the child's that its program asks for by name."""
    start_method: str | None = None
    """The backend with which the child starts subactors of its own; ``None``: the default one."""
    preload: tuple[str, ...] = ()
    """Modules that a zygote is to load before it forks anything."""
    by_agent: bool = False
    """The lifeline is an agent's, on the child's own host; the parent is on another one."""
    ancestry: list[ProcessId] = msgspec.field(default_factory=lineage)
    """The processes above the child, root first, parent last."""

    def __repr__(self) -> str:
        # The key must not reach a log or a traceback.
        return f"<BootRecord stderr_fd={self.stderr_fd} parent_pid={self.parent_pid}>"


class LifelineEnd:
    """The parent's end of one child's boot pipe."""

    __slots__ = ("__weakref__",)

    def release(self) -> None:
        """Close it: the child sees its parent gone.  Idempotent, callable from any thread."""
        fd = _open_ends.pop(self, None)
        if fd is not None:
            _tell_end(fd)


# Whoever takes an entry out (one atomic dict operation, so no lock that a signal handler could
# deadlock on) is the one to close its descriptor; nobody closes a number that was reused since.
_open_ends: dict[LifelineEnd, int] = of_process({})


def release_all_lifelines() -> None:
    """Close every lifeline end of this process.  Callable from any thread or signal handler."""
    _pop_all(_tell_end)


def _forget_lifelines() -> None:
    """In what user code has forked off: the subactors are its parent's, and must see that one's end."""
    _pop_all(_close)


# A child that user code forks off would otherwise keep our subactors' lifelines open after our death.
on_fork(_forget_lifelines, always=True)


def _pop_all(end: Callable[[int], None]) -> None:
    while True:
        try:
            _, fd = _open_ends.popitem()
        except KeyError:
            return
        end(fd)


def _tell_end(fd: int) -> None:
    poll = select.poll()  # type: ignore[attr-defined, unused-ignore]
    poll.register(fd, select.POLLOUT)  # type: ignore[attr-defined, unused-ignore]
    # A pipe without a reader would give SIGPIPE, which a program may have set to end it.
    if poll.poll(0) == [(fd, select.POLLOUT)]:  # type: ignore[attr-defined, unused-ignore]
        with contextlib.suppress(OSError):
            os.write(fd, b"\0")
    _close(fd)


def packed_record(record: BootRecord) -> bytes:
    """A record as it is written to a boot pipe.

    Raises:
        ValueError: It is too large, as by an overlong key or certificate path, or hundreds of sockets.
    """
    data = msgspec.msgpack.encode(record)
    if len(data) > MAX_RECORD:
        raise ValueError(
            f"boot record of {len(data)} bytes is over the limit of {MAX_RECORD};"
            " use a shorter authkey, shorter paths in TLSConfig, and fewer sockets"
        )
    return _HEADER.pack(len(data)) + data


def open_boot_pipe(record: BootRecord) -> tuple[int, LifelineEnd]:
    """Make a pipe that holds ``record`` already.

    Returns:
        The read end (close-on-exec, owned by the caller, to be inherited by the child alone) and
        the write end.

    Raises:
        ValueError: The record is too large, as by an overlong key or certificate path, or hundreds of sockets.
        OSError: Out of descriptors.
    """
    data = packed_record(record)
    read_fd, write_fd = os.pipe()
    try:
        read_fd = move_above_stdio(read_fd)
        write_fd = move_above_stdio(write_fd)
        os.write(write_fd, data)
    except BaseException:
        _close(read_fd)
        _close(write_fd)
        raise
    end = LifelineEnd()
    _open_ends[end] = write_fd
    return read_fd, end


def read_boot_record(fd: int, *, timeout: float = 10.0) -> BootRecord:
    """Read the boot record, in the child.

    The descriptor stays open, to be watched by a :class:`~tractor.spawn._lifeline.Lifeline`, and is
    no longer inherited by this process's own children; nor is the record's ``stderr_fd``.

    Args:
        fd: The boot pipe's read end.
        timeout: Seconds to wait for the record.

    Raises:
        BootError: ``fd`` is not open, the parent is gone, the record is late or malformed.
    """
    deadline = time.monotonic() + timeout
    try:
        os.set_inheritable(fd, False)
        (size,) = _HEADER.unpack(_read_exactly(fd, _HEADER.size, deadline))
        if size > MAX_RECORD:
            raise BootError(f"boot pipe fd {fd}: a record of {size} bytes is over {MAX_RECORD}")
        data = _read_exactly(fd, size, deadline)
        record = msgspec.msgpack.decode(data, type=BootRecord)
        if record.stderr_fd is not None:
            os.set_inheritable(record.stderr_fd, False)
    except OSError as exc:
        raise BootError(
            f"boot pipe fd {fd} cannot be read ({exc}); subactors are started by a parent actor,"
            " never by hand"
        ) from exc
    except msgspec.DecodeError as exc:
        raise BootError(f"boot pipe fd {fd} held no boot record: {exc}") from exc
    return record


def restore_stderr(record: BootRecord) -> None:
    """Make fd 2 the real stderr; the parent's capture ends here.  Call once, in the child."""
    fd = record.stderr_fd
    if fd is None:
        return
    if sys.stderr is not None:
        # A stream that user code closed or replaced is no reason not to hand over.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
    os.dup2(fd, 2)
    os.close(fd)


def _read_exactly(fd: int, size: int, deadline: float) -> bytes:
    poll = select.poll()  # type: ignore[attr-defined, unused-ignore]
    poll.register(fd, select.POLLIN)  # type: ignore[attr-defined, unused-ignore]
    data = b""
    while len(data) < size:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise BootError(f"boot pipe fd {fd}: no boot record came in time")
        chunk = os.read(fd, size - len(data))
        if not chunk:
            raise BootError(f"boot pipe fd {fd}: the parent closed it before the boot record")
        data += chunk
    return data


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.close(fd)
