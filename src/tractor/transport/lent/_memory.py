"""Memory that one process lends another, without a name: it is gone with the last who holds it, however that ends.

The lender keeps a descriptor open, which the borrower opens through ``/proc``.  So nothing has to be recorded or
removed, and it takes no room in ``/dev/shm``.  Linux only.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
import weakref
from typing import Any


def can_lend() -> bool:
    """Whether this platform has such memory."""
    return sys.platform == "linux"


def make_memory(size: int) -> tuple[int, memoryview]:
    """Memory to lend: a descriptor, which the caller closes, and a mapping that stays while the view is used.

    Raises:
        OSError: there is no room for it, or no descriptor.
    """
    if sys.platform != "linux":
        raise NotImplementedError(f"memory without a name can't be lent on {sys.platform}")
    import fcntl

    fd = os.memfd_create("tractor-lent", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        # Who has it mapped would be ended by SIGBUS if it became smaller.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        return fd, _mapped(fd, size)
    except BaseException:
        os.close(fd)
        raise


class Lent:
    """A copy of some bytes that is lent.

    Attributes:
        place: what :func:`borrow` takes, besides the lender: a descriptor there, and the size.
    """

    __slots__ = ("_fd", "_pid", "place")

    _fd: int
    _pid: int
    place: tuple[int, int]

    def __init__(self, data: Any) -> None:
        """Lend a copy of ``data``, a flat buffer of bytes.  Raises OSError: there is no room for it."""
        if sys.platform != "linux":
            raise NotImplementedError(f"memory without a name can't be lent on {sys.platform}")
        import fcntl

        view = memoryview(data).cast("B")
        fd = os.memfd_create("tractor-lent", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            done = 0
            while done < len(view):
                done += os.write(fd, view[done:])
            # Who has it mapped would be ended by SIGBUS if it became smaller.
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        self._pid = os.getpid()
        self.place = (fd, len(view))

    def close(self) -> None:
        """Lend it no more; who has borrowed it keeps it.  Idempotent, and without effect in a fork."""
        fd, self._fd = self._fd, -1
        if fd >= 0 and self._pid == os.getpid():
            os.close(fd)

    def __del__(self) -> None:
        if hasattr(self, "_pid"):
            self.close()


def borrow(pid: int, place: tuple[int, int]) -> memoryview:
    """Memory that the process ``pid`` lends: not a copy, and writable.  It stays while the view is used.

    Raises:
        OSError: that process does not lend it (any more), or is gone.
        ValueError: it is no such memory, or of another size.
    """
    if sys.platform != "linux":
        raise NotImplementedError(f"memory without a name can't be borrowed on {sys.platform}")
    import fcntl

    number, size = place
    fd = os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        try:
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
            seals = 0
        if not seals & fcntl.F_SEAL_SHRINK or os.fstat(fd).st_size != size or size < 1:
            raise ValueError(
                f"descriptor {number} of process {pid} is not {size} bytes that it lends"
            )
        return _mapped(fd, size)
    finally:
        os.close(fd)


def _mapped(fd: int, size: int) -> memoryview:
    """A mapping that holds no descriptor: a program may have thousands of them."""
    if sys.version_info >= (3, 13):
        return memoryview(mmap.mmap(fd, size, trackfd=False))
    if sys.platform != "linux":
        raise NotImplementedError
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    )
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    address = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    octets = (ctypes.c_ubyte * size).from_address(address)
    # Views keep the object; at the end of the interpreter they may outlive all that is called then.
    weakref.finalize(octets, libc.munmap, address, size).atexit = False
    return memoryview(octets).cast("B")
