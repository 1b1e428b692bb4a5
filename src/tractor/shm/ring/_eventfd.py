"""Linux eventfds: a counter in the kernel that can be waited for.  Elsewhere every call is `NotImplementedError`."""

from __future__ import annotations

import os
import sys

import trio


def require_linux(what: str) -> None:
    """Raise NotImplementedError elsewhere than on Linux; ``what`` is what is missing there."""
    if sys.platform != "linux":
        raise NotImplementedError(
            f"{what} need Linux's eventfds, which {sys.platform} does not have: use a stream of a context, or a socket"
        )


def open_eventfd(initval: int = 0, flags: int = 0) -> int:
    """A new eventfd.

    Args:
        initval: the counter at its beginning.
        flags: of ``os.EFD_CLOEXEC``, ``os.EFD_NONBLOCK``, ``os.EFD_SEMAPHORE``.

    Returns:
        Its descriptor, to be closed by :func:`close_eventfd`.

    Raises:
        NotImplementedError: this is not Linux.
        OSError: as the kernel says, with its errno: unknown flags (EINVAL), out of descriptors (EMFILE, ENFILE).
        OverflowError: ``initval`` is negative or has more than 32 bits.
    """
    require_linux("eventfds")
    if sys.platform != "linux":
        raise NotImplementedError
    return os.eventfd(initval, flags)


def read_eventfd(fd: int) -> int:
    """Take the counter, which is 0 afterwards (with ``EFD_SEMAPHORE``: take 1 of it).

    Blocks the thread while it is 0, unless the descriptor does not block.

    Raises:
        NotImplementedError: this is not Linux.
        OSError: as the kernel says: the counter is 0 (`BlockingIOError`), ``fd`` is not an open eventfd (EBADF,
        EINVAL).
    """
    require_linux("eventfds")
    if sys.platform != "linux":
        raise NotImplementedError
    return os.eventfd_read(fd)


def write_eventfd(fd: int, value: int) -> None:
    """Add to the counter; wakes who waits for it.

    Args:
        fd: the descriptor.
        value: what to add, at most 2**64 - 2.

    Raises:
        NotImplementedError: this is not Linux.
        OSError: as the kernel says: the counter would overflow (`BlockingIOError`), 2**64 - 1 (EINVAL), no eventfd
            (EBADF, EINVAL).
        OverflowError: ``value`` is negative or has more than 64 bits.
    """
    require_linux("eventfds")
    if sys.platform != "linux":
        raise NotImplementedError
    os.eventfd_write(fd, value)


def close_eventfd(fd: int) -> None:
    """Close the descriptor.

    Raises:
        NotImplementedError: this is not Linux.
        OSError: it is not open (EBADF).
    """
    require_linux("eventfds")
    os.close(fd)


def eventfd_id(fd: int) -> int | None:
    """What tells one eventfd from all others of this machine; ``None`` where an old kernel does not say.

    Raises:
        ValueError: ``fd`` is not an eventfd of this process.
    """
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as info:
            fields = dict(line.rstrip("\n").split(":", 1) for line in info if ":" in line)
        target = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        target, fields = "closed", {}
    if target != "anon_inode:[eventfd]":
        raise ValueError(f"descriptor {fd} is not an eventfd of this process: it is {target}")
    number = fields.get("eventfd-id", "").strip()
    return int(number) if number.isdecimal() else None


class EventFD:
    """An eventfd in a trio program; closed at the end of a ``with`` block.

    Args:
        fd: the descriptor, owned by this object from now on, and made non-blocking.  Default: a new one.

    Raises:
        NotImplementedError: this is not Linux.
        OSError: ``fd`` is not open, or there is no descriptor left.
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int | None = None) -> None:
        require_linux("eventfds")
        self._fd = -1 if fd is None else fd
        if sys.platform != "linux":
            raise NotImplementedError
        if fd is None:
            self._fd = open_eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            os.set_blocking(fd, False)

    @property
    def fd(self) -> int:
        """The descriptor; -1 once it is closed."""
        return self._fd

    def fileno(self) -> int:
        """As :attr:`fd`."""
        return self._fd

    def read_nowait(self) -> int:
        """Take the counter; 0 when there is nothing.

        Raises:
            trio.ClosedResourceError: it was closed on this side.
            OSError: as :func:`read_eventfd`.
        """
        self._require_open()
        try:
            return read_eventfd(self._fd)
        except BlockingIOError:
            return 0

    async def read(self) -> int:
        """Wait until the counter is not 0, and take it.  One task at a time.

        Raises:
            trio.ClosedResourceError: it was closed on this side, possibly while this task waited.
            trio.BusyResourceError: another task waits.
            OSError: as :func:`read_eventfd`.
        """
        await trio.lowlevel.checkpoint()
        while not (value := self.read_nowait()):
            await trio.lowlevel.wait_readable(self._fd)
        return value

    def write(self, value: int = 1) -> None:
        """Add to the counter.  Raises as :func:`write_eventfd`; trio.ClosedResourceError after :meth:`close`."""
        self._require_open()
        write_eventfd(self._fd, value)

    def close(self) -> None:
        """Close the descriptor; a task that waits gets trio.ClosedResourceError.  Idempotent."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        if trio.lowlevel.in_trio_run():
            trio.lowlevel.notify_closing(fd)
        close_eventfd(fd)

    def _require_open(self) -> None:
        if self._fd < 0:
            raise trio.ClosedResourceError("this eventfd was closed on this side")

    def __enter__(self) -> EventFD:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<EventFD {'closed' if self._fd < 0 else self._fd}>"
