"""The record of shared memory segments: which are ours, and whose.

One small file for each segment in ``shm/`` of the runtime directory.  A segment without one is never
taken for ours, whatever its name; one that was replaced by another program's under the same name is
told apart by its inode.

The order that leaves nothing behind, wherever the process dies: *create, record* and *unlink the
segment, remove the record*.  Only a death between the first two leaves a segment that no record
lists; on Linux there is no such moment if the segment gets its name after the record is made
(``O_TMPFILE`` in ``/dev/shm``, `add_record`, then `os.link`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from pathlib import Path

import msgspec

from tractor.process._dirs import (
    SHM_RECORDS,
    ensure_private_dir,
    get_runtime_dir,
    runtime_dir_path,
)
from tractor.process._stat import ProcessId, process_start_time, still_runs
from tractor.process.host._host_id import HostId, host_id

SUBDIRECTORY = SHM_RECORDS
MAX_SIZE = 4096
"""Bytes.  A larger file is not a record."""
MAX_KEY = 255
"""Bytes that a segment's name can have at most, on any platform."""


class SegmentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one segment."""

    key: str
    """Its name, without the leading slash."""
    pid: int
    """The owner's process id."""
    start_time: float | None = None
    """The owner's `process_start_time`; ``None`` where the platform does not tell."""
    device: int = 0
    inode: int = 0
    """With `device`: which segment of that name.  Both are 0 where the platform does not tell."""
    host: HostId = ""
    """The id of the host on which the pid is one, and the segment was made."""

    @property
    def filename(self) -> str:
        """The record's file; two segments that had the same key at different times have two."""
        # Case folding and unsafe characters in keys are no matter in a digest.
        digest = hashlib.blake2s(self.key.encode(), digest_size=12).hexdigest()
        return f"{digest}.{self.device:x}.{self.inode:x}.{self.pid}"


def checked_key(key: str) -> str:
    """The key without its leading slash.

    Raises:
        ValueError: it can't be the name of a segment: it is empty, too long, ``.`` or ``..``, or has
            a slash or NUL inside.
    """
    name = key.removeprefix("/")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as exc:
        raise ValueError(f"shared memory key {key!r} can't be encoded") from exc
    if name in ("", ".", "..") or "/" in name or "\0" in name or size > MAX_KEY:
        raise ValueError(
            f"shared memory key {key!r} can't name a segment: give 1 to {MAX_KEY} bytes without "
            "'/' and NUL"
        )
    return name


def add_record(key: str, fd: int, pid: int | None = None) -> SegmentRecord:
    """Record a segment.

    Afterwards ``tractor-reap`` may remove it once its owner is dead and no process holds it.

    Args:
        key: the segment's name; a leading slash is dropped.
        fd: open on the segment.
        pid: the owner; default: this process.

    Returns:
        The record, to be removed after the segment was unlinked.

    Raises:
        ValueError: ``key`` can't be the name of a segment, or ``pid`` is not positive.
        PermissionError: the runtime directory is not private to the own user.
        OSError: ``fd`` is not open, or the file could not be written; nothing was recorded.
    """
    owner = os.getpid() if pid is None else pid
    if owner <= 0:
        raise ValueError(f"a process id is positive, not {owner}")
    info = os.fstat(fd)
    record = SegmentRecord(
        key=checked_key(key),
        pid=owner,
        start_time=process_start_time(owner),
        device=info.st_dev,
        inode=info.st_ino,
        host=host_id(),
    )
    directory = get_runtime_dir(SUBDIRECTORY)
    # A name that no reader takes for a record, until it is complete.
    draft = directory / f".{host_id()}.{os.getpid()}.{secrets.token_hex(8)}"
    try:
        draft.write_bytes(msgspec.json.encode(record))
        draft.replace(directory / record.filename)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    return record


def remove_record(record: SegmentRecord) -> bool:
    """Remove a record; to be called after its segment was unlinked.

    Returns:
        Whether there was one.

    Raises:
        OSError: its file could not be removed.
    """
    try:
        (runtime_dir_path() / SUBDIRECTORY / record.filename).unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def list_records(pid: int | None = None) -> list[SegmentRecord]:
    """All records of the own user, by key; nothing is made or changed.

    Files that are not whole records of tractor's are passed over.

    Args:
        pid: only those of owners with this number, which costs a look at names only where there are none.

    Raises:
        PermissionError: the runtime directory is not private to the own user, so what is in there
            may be somebody else's.
        OSError: it can't be read.
    """
    of = "" if pid is None else f".{pid}"
    found = (
        _read(path)
        for path in _entries()
        if not path.name.startswith(".") and path.name.endswith(of)
    )
    records = [record for record in found if record is not None]
    return sorted(records, key=lambda record: (record.key, record.inode))


def _entries() -> list[Path]:
    directory = runtime_dir_path()
    for path in (directory, directory / SUBDIRECTORY):
        if not os.path.lexists(path):
            return []
        ensure_private_dir(path)
    return list((directory / SUBDIRECTORY).iterdir())


def _read(path: Path) -> SegmentRecord | None:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    # Opening a FIFO must not wait for its writer.
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        fd = os.open(path, flags)
    except OSError:
        return None
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_SIZE:
            return None
        if os.name == "posix" and info.st_uid != os.getuid():  # type: ignore[attr-defined, unused-ignore]
            return None
        record = msgspec.json.decode(os.read(fd, MAX_SIZE), type=SegmentRecord)
        is_whole = checked_key(record.key) == record.key and 0 < record.pid < 2**31
    except (OSError, ValueError):  # of which msgspec's errors are
        return None
    finally:
        os.close(fd)
    return record if is_whole and record.filename == path.name else None


def remove_drafts() -> None:
    """Remove what writers that died at it have left.

    Raises:
        PermissionError: the runtime directory is not private to the own user.
        OSError: it can't be read.
    """
    for path in _entries():
        host, _, rest = path.name[1:].rpartition(".")[0].rpartition(".")
        if path.name.startswith(".") and rest.isdecimal() and 0 < int(rest) < 2**31:
            with contextlib.suppress(OSError):
                if still_runs(ProcessId(host, int(rest), None)) is False:
                    path.unlink()


def owner_alive(record: SegmentRecord) -> bool | None:
    """Whether the segment's owner runs; ``None`` where that is another pid namespace's to know (a container's)."""
    return still_runs(ProcessId(record.host, record.pid, record.start_time))
