"""One shared memory segment: whether it is the one that was recorded, and who holds it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator

from tractor.process._proc import OUT_OF_RESOURCES, all_pids
from tractor.process.host._host_id import is_same_boot
from tractor.shm._record import SegmentRecord
from tractor.shm._segment import SHM_DIR, stat_segment

if sys.platform != "win32":
    import fcntl

PROCSTAT_LIMIT = 30
"""Seconds that FreeBSD's ``procstat`` may take."""


class SegmentHeldError(OSError):
    """A process has the segment open or mapped."""


def is_there(record: SegmentRecord) -> bool:
    """Whether the name leads to the segment that was recorded, and that is the own user's.

    Raises OSError when that can't be told.  No segment outlives the machine's run: one that looks like it is another.
    """
    if not is_same_boot(record.host):
        return False
    try:
        info = stat_segment(record.key)
    except FileNotFoundError:
        return False
    return (
        stat.S_ISREG(info.st_mode)
        and info.st_uid == os.getuid()  # type: ignore[attr-defined, unused-ignore]
        and (info.st_dev, info.st_ino) == (record.device, record.inode)
    )


def exists(key: str) -> bool:
    """Whether any segment has that name.  Raises OSError when that can't be told."""
    try:
        stat_segment(key)
    except FileNotFoundError:
        return False
    return True


def is_gone(record: SegmentRecord) -> bool:
    """Whether there is no such segment; another mount of ``/dev/shm`` may have what ours has not."""
    if sys.platform == "linux" and os.stat(SHM_DIR).st_dev != record.device:
        return False
    return not is_there(record)


@contextlib.contextmanager
def held_by_nobody(record: SegmentRecord) -> Iterator[None]:
    """A block in which no process has the segment open or mapped, and on Linux none can open it.

    On Linux a write lease sees to that; it also sees users and containers that ``/proc`` does not show.

    Raises:
        SegmentHeldError: somebody holds it.
        PermissionError: it was replaced meanwhile.
        OSError: it can't be looked at, or is gone.
    """
    if holders := _holders(record):
        text = ", ".join(map(str, sorted(holders)))
        raise SegmentHeldError(errno.EBUSY, f"it is held by process {text}", record.key)
    if sys.platform != "linux":
        yield
        return
    path = f"{SHM_DIR}/{record.key}"
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(path, flags)
    try:
        # Whoever opens it meanwhile has us told by a signal, and waits; the default one would end us.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # type: ignore[name-defined, unused-ignore]
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)  # type: ignore[name-defined, unused-ignore]
        except OSError as exc:
            if exc.errno == errno.EAGAIN:
                raise SegmentHeldError(
                    errno.EBUSY, "it is held by a process that can't be seen from here", record.key
                ) from None
            # No leases on this file system; then the look at all processes must do.
        if not is_there(record):
            raise PermissionError(errno.EPERM, "it was replaced just now", record.key)
        yield
    finally:
        os.close(fd)


# -- who holds it --


def _holders(record: SegmentRecord) -> set[int]:
    """Processes that have a segment open or mapped, of those that one may look at."""
    if sys.platform == "linux":
        return set(_linux_holders(record))
    try:
        done = subprocess.run(
            ["procstat", "-a", "-f"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROCSTAT_LIMIT,
            check=True,
        )
    except subprocess.SubprocessError as exc:
        raise OSError(errno.EIO, f"procstat can't tell who holds it: {exc}", record.key) from exc
    return set(procstat_holders(done.stdout, record.key))


def _linux_holders(record: SegmentRecord) -> Iterator[int]:
    if sys.platform == "win32":
        raise NotImplementedError
    identity = (record.device, record.inode)
    mapped = f" {os.major(record.device):02x}:{os.minor(record.device):02x} {record.inode} "
    looks: tuple[Callable[[int], bool], ...] = (
        lambda pid: _has_open(pid, identity),
        lambda pid: _has_mapped(pid, mapped),
    )
    for pid in all_pids():
        if any(_looked(look, pid) for look in looks):
            yield pid


def _looked(look: Callable[[int], bool], pid: int) -> bool:
    """What a look at a process tells.  Raises OSError when this process is out of descriptors: that tells nothing."""
    try:
        return look(pid)
    except OSError as exc:
        if exc.errno in OUT_OF_RESOURCES:
            raise
        # Gone by now, or not ours to look at.
        return False


def _has_open(pid: int, identity: tuple[int, int]) -> bool:
    folder = f"/proc/{pid}/fd"
    for fd in os.listdir(folder):
        with contextlib.suppress(OSError):
            # Every descriptor need not be looked into: a link tells where most of them lead.
            if os.readlink(f"{folder}/{fd}").startswith("/"):
                info = os.stat(f"{folder}/{fd}")
                if (info.st_dev, info.st_ino) == identity:
                    return True
    return False


def _has_mapped(pid: int, mapped: str) -> bool:
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
        return any(mapped in line for line in maps)


def procstat_holders(table: str, key: str) -> Iterator[int]:
    """The pids in the output of FreeBSD's ``procstat -a -f`` that have the segment *key* open.

    Python keeps a segment's descriptor open for as long as it is mapped.
    """
    for line in table.splitlines():
        words = line.split(maxsplit=9)
        # PID COMM FD T V FLAGS REF OFFSET PRO NAME; type h is shared memory.
        if len(words) == 10 and words[0].isdecimal():
            kind, name = words[3], words[9].strip().removeprefix("/")
            if kind == "h" and name == key:
                yield int(words[0])
