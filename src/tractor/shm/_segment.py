"""Named shared memory segments: made, attached, and removed with the actor that made them.

No resource tracker of :mod:`multiprocessing` has a part in it (what ``track=False`` asks for from Python 3.13 on): that
one would remove segments that a process has merely attached, and is one process more.  Instead every segment is
recorded (:mod:`tractor.shm._record`) before it has its name, and unlinked by its maker's ``lifetime_stack``; of a
maker that was killed its parent removes what the record lists, and ``tractor-reap`` is the net below that.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import mmap
import os
import secrets
import stat
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from tractor.process._state import ProcessVar, of_process
from tractor.shm._record import (
    SegmentRecord,
    add_record,
    checked_key,
    list_records,
    owner_alive,
    remove_record,
)
from tractor.transport._settings import lifetime

SHM_DIR = "/dev/shm"
MACOS_NAME = 31
"""Bytes of a segment's name on macOS, its slash included."""

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL


def random_key(prefix: str) -> str:
    """A key that nobody uses."""
    return f"{prefix}{os.getpid()}_{secrets.token_hex(8)}"


def system_name(key: str, platform: str = sys.platform) -> str:
    """The segment's name in the system, without a leading slash: the key, on macOS a digest of it.

    Raises:
        ValueError: ``key`` can't be the name of a segment.
    """
    name = checked_key(key)
    if platform == "darwin":
        return hashlib.blake2s(name.encode(), digest_size=(MACOS_NAME - 1) // 2).hexdigest()
    return name


class SegmentName:
    """The name of a segment, and its record where this process has made it; needs no mapping.

    Attributes:
        key: as it was given.
        identity: device and inode, which tell it from another segment that gets the name later.
        stack: what unlinks it, where that is an actor's.
    """

    __slots__ = ("_pid", "_record", "identity", "key", "stack")

    def __init__(self, key: str, identity: tuple[int, int], record: SegmentRecord | None) -> None:
        self.key = key
        self.identity = identity
        self.stack: ExitStack | None = None
        self._record = record
        self._pid = os.getpid()

    @property
    def is_own(self) -> bool:
        """Whether this process has made it and not removed it yet; a fork of its maker has not."""
        return self._record is not None and self._pid == os.getpid()

    def unlink(self) -> None:
        """Remove the name and the record; who has it mapped keeps it.  Idempotent; OSError if that can't be done."""
        name = system_name(self.key)
        if _identity(name) in (None, self.identity):
            with contextlib.suppress(FileNotFoundError):
                unlink_segment(name)
        record, self._record = self._record, None
        records = [record] if record is not None else _records_of(name, self.identity)
        for record in records:
            with contextlib.suppress(OSError):
                remove_record(record)
        _owned.discard(self)


class Segment:
    """A mapped segment.  Made by :meth:`create` and :meth:`attach`.

    Attributes:
        key: its name, as it was given.
        size: bytes that are mapped.
        readonly: the mapping can't be written to.
    """

    __slots__ = ("_map", "_tag", "_view", "key", "readonly", "size")

    def __init__(self, fd: int, readonly: bool, tag: SegmentName) -> None:
        self.key = tag.key
        self.size = os.fstat(fd).st_size
        self.readonly = readonly
        self._tag = tag
        if self.size == 0:
            raise ValueError(f"the shared memory {tag.key!r} is empty")
        self._map: mmap.mmap | None = _mapped(fd, self.size, readonly)
        self._view = memoryview(self._map)

    @classmethod
    def create(
        cls, key: str, size: int, fill: Callable[[memoryview], None] | None = None
    ) -> Segment:
        """A new segment, its memory reserved, recorded as this process's.

        It is unlinked at the end of this process's actor; without a runtime when the process exits.

        Args:
            key: its name.
            size: bytes.
            fill: writes what is to be in it from its beginning; zeros are there already.

        Raises:
            FileExistsError: a segment of that key exists.
            ValueError: the key can't name one, or ``size`` is not positive.
            NotImplementedError: on Windows.
            OSError: it can't be made; ENOSPC where there is no room for it.  Nothing is left of it.
        """
        if size < 1:
            raise ValueError(f"shared memory has at least 1 byte, not {size}")
        name = system_name(key)
        make = _make_on_linux if sys.platform == "linux" else _make_elsewhere
        fd, record = make(name, size, fill)
        try:
            info = os.fstat(fd)
            tag = SegmentName(key, (info.st_dev, info.st_ino), record)
            try:
                found = cls(fd, False, tag)
            except BaseException:
                tag.unlink()
                raise
        finally:
            os.close(fd)
        _unlink_at_end(tag)
        return found

    @classmethod
    def attach(cls, key: str, readonly: bool = False) -> Segment:
        """The segment of that key, which is left alone when this one is closed.

        Raises:
            FileNotFoundError: there is none.
            PermissionError: it is not the own user's.
            ValueError: the key can't name one, or the segment is empty.
            NotImplementedError: on Windows.
            OSError: it can't be opened.
        """
        if sys.platform == "win32":
            raise NotImplementedError
        fd = _open(system_name(key), os.O_RDONLY if readonly else os.O_RDWR)
        try:
            info = os.fstat(fd)
            if info.st_uid not in (os.geteuid(), 0):
                raise PermissionError(
                    errno.EPERM, f"it belongs to uid {info.st_uid}, not to this user", key
                )
            return cls(fd, readonly, SegmentName(key, (info.st_dev, info.st_ino), None))
        finally:
            os.close(fd)

    @property
    def name(self) -> str:
        """The key; as the standard library's ``SharedMemory`` calls it."""
        return self.key

    @property
    def buf(self) -> memoryview:
        """The memory.  Raises ValueError after :meth:`close`."""
        if self._map is None:
            raise ValueError(f"the shared memory {self.key!r} was closed on this side")
        return self._view

    @property
    def is_own(self) -> bool:
        """Whether this process has made it and not removed it yet."""
        return self._tag.is_own

    def close(self) -> None:
        """Unmap it; the segment itself stays.  Idempotent.

        Memory that an array or a memoryview still shows stays mapped until the last of these is gone.
        """
        mapped, self._map = self._map, None
        if mapped is None:
            return
        with contextlib.suppress(BufferError):
            self._view.release()
            mapped.close()

    def unlink(self) -> None:
        """Remove the name and the record; who has it mapped keeps it.  Idempotent.

        A segment that has meanwhile got the name is left alone.

        Raises:
            OSError: that can't be done.
        """
        self._tag.unlink()

    def __repr__(self) -> str:
        state = "closed" if self._map is None else f"{self.size} bytes"
        return f"<Segment {self.key!r}: {state}>"


# -- the system's part --


def _mapped(fd: int, size: int, readonly: bool = False) -> mmap.mmap:
    # The descriptor is of no use once the memory is mapped; before 3.13 `mmap` keeps a copy of it all the same.
    extra: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
    access = mmap.ACCESS_READ if readonly else mmap.ACCESS_WRITE
    return mmap.mmap(fd, size, access=access, **extra)


def _fill(fd: int, size: int, fill: Callable[[memoryview], None] | None) -> None:
    if fill is not None:
        with _mapped(fd, size) as mapped, memoryview(mapped) as view:
            fill(view)


def _make_on_linux(
    name: str, size: int, fill: Callable[[memoryview], None] | None
) -> tuple[int, SegmentRecord]:
    """Reserve, fill, record, and only then give it its name.

    So there is no moment at which a death leaves it unrecorded, or somebody else finds it half made.
    """
    if sys.platform != "linux":
        raise NotImplementedError
    folder = os.open(SHM_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = os.open(SHM_DIR, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        try:
            # Memory that is not there would end the process by SIGBUS, at the first touch.
            os.posix_fallocate(fd, 0, size)
            _fill(fd, size, fill)
            record = add_record(name, fd)
            try:
                # A directory descriptor has `os.link` follow the symlink that /proc has for the nameless file.
                os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=folder)
            except BaseException:
                remove_record(record)
                raise
        except FileExistsError as exc:
            os.close(fd)
            raise _exists(name) from exc
        except BaseException:
            os.close(fd)
            raise
    finally:
        os.close(folder)
    return fd, record


def _make_elsewhere(
    name: str, size: int, fill: Callable[[memoryview], None] | None
) -> tuple[int, SegmentRecord]:
    try:
        fd = _open(name, _CREATE)
    except FileExistsError as exc:
        raise _exists(name) from exc
    try:
        record = add_record(name, fd)
        try:
            os.ftruncate(fd, size)
            _fill(fd, size, fill)
        except BaseException:
            remove_record(record)
            raise
        return fd, record
    except BaseException:
        os.close(fd)
        unlink_segment(name)
        raise


def _exists(name: str) -> FileExistsError:
    return FileExistsError(
        errno.EEXIST, "shared memory of that key exists: attach to it, or choose another key", name
    )


def _open(name: str, flags: int) -> int:
    if sys.platform == "linux":
        # Opening what is not a segment, say a FIFO, must neither wait nor follow anything.
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(f"{SHM_DIR}/{name}", flags)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, "what has that name is not shared memory", name)
        return fd
    return int(_posixshmem().shm_open(f"/{name}", flags, mode=0o600))


def _identity(name: str) -> tuple[int, int] | None:
    """Which segment has the name now; ``None`` where the system does not tell, or there is none."""
    if sys.platform != "linux":
        return None
    try:
        info = stat_segment(name)
    except FileNotFoundError:
        return None
    return info.st_dev, info.st_ino


def stat_segment(name: str) -> os.stat_result:
    """What the system tells of the segment that has a name in the system.  Raises OSError."""
    if sys.platform == "linux":
        return os.lstat(f"{SHM_DIR}/{name}")
    fd: int = _posixshmem().shm_open(f"/{name}", os.O_RDONLY, mode=0o600)
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def unlink_segment(name: str) -> None:
    """Remove the name of a segment.  Raises OSError."""
    if sys.platform == "linux":
        os.unlink(f"{SHM_DIR}/{name}")
    else:
        _posixshmem().shm_unlink(f"/{name}")


def _posixshmem() -> Any:
    """The system calls below ``multiprocessing.shared_memory``, without that module's tracker."""
    if os.name != "posix":
        raise NotImplementedError(
            f"shared memory that outlives its maker's handles is not there on {sys.platform}: "
            "send arrays as payloads (tractor.msg.hooks.ndarray_hooks)"
        )
    import _posixshmem  # type: ignore[import-not-found, unused-ignore]

    return _posixshmem


# -- the end of the maker --

_owned: set[SegmentName] = of_process(set())
"""What was made here and not unlinked yet."""

_stacks: list[ExitStack] = of_process([])
"""The actors' stacks that were told: one, but for programs that open one runtime after the other."""

_at_exit = ProcessVar(lambda: False)


def _unlink_at_end(tag: SegmentName) -> None:
    tag.stack = lifetime()
    _owned.add(tag)
    if tag.stack is None:
        if not _at_exit.value:
            _at_exit.value = True
            atexit.register(_unlink_all, None)
    elif not any(known is tag.stack for known in _stacks):
        _stacks.append(tag.stack)
        tag.stack.callback(_unlink_all, tag.stack)


def _unlink_all(stack: ExitStack | None) -> None:
    _stacks[:] = [known for known in _stacks if known is not stack]
    for tag in [tag for tag in _owned if tag.stack is stack]:
        _owned.discard(tag)
        if tag.is_own:
            with contextlib.suppress(OSError):
                tag.unlink()


# -- the end of another maker --


def _records_of(name: str, identity: tuple[int, int]) -> list[SegmentRecord]:
    try:
        records = list_records()
    except OSError:
        return []
    return [r for r in records if r.key == name and (r.device, r.inode) == identity]


def remove_segments_of(pid: int) -> list[str]:
    """Remove the segments that a process has left which is dead; others that have them mapped keep them.

    Args:
        pid: the process that was; a later one with its number is told apart by its start time.

    Returns:
        The keys of what was removed.  Never raises for what can't be.
    """
    removed = []
    try:
        records = list_records(pid)
    except OSError:
        return []
    for record in records:
        if owner_alive(record) is not False:
            continue
        with contextlib.suppress(OSError):
            if sys.platform != "linux" or _identity(record.key) == (record.device, record.inode):
                unlink_segment(record.key)
                removed.append(record.key)
        with contextlib.suppress(OSError):
            remove_record(record)
    return removed
