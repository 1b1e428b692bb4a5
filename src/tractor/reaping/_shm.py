"""Finding and removing shared memory segments of actors that died."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterable, Iterator

from tractor.reaping._segment import exists, held_by_nobody, is_gone, is_there
from tractor.shm._record import (
    SegmentRecord,
    checked_key,
    list_records,
    owner_alive,
    remove_drafts,
    remove_record,
)
from tractor.shm._segment import unlink_segment


def find_orphaned_shm() -> list[str]:
    """The keys of segments that dead actors have left.

    These are segments that tractor's record lists, that are the very ones that were recorded, belong to the
    own user, whose owner is dead, and which no process has open or mapped.

    Raises:
        NotImplementedError: this platform does not tell who holds a segment: neither Linux nor
            FreeBSD.
        PermissionError: the runtime directory is not private to the own user.
        OSError: the record can't be read.
    """
    _require_platform()
    records = list_records()
    found = []
    for key in dict.fromkeys(record.key for record in records):
        with contextlib.suppress(OSError), _orphaned(key, records):
            found.append(key)
    return found


def reap_shm(keys: Iterable[str]) -> tuple[list[str], list[tuple[str, OSError]]]:
    """Remove segments of dead actors, and what the record says of segments that are gone.

    Everything that `find_orphaned_shm` asks for is checked once more.  On Linux nobody can open a segment between
    that check and its removal.

    Args:
        keys: names of segments, as found.

    Returns:
        The keys of removed segments, and pairs of a key and the error for those left alone:
        `FileNotFoundError` if the record lists no such segment, `PermissionError` if it is not the one that was
        recorded or its owner lives, `SegmentHeldError` if a process holds it.

    Raises:
        NotImplementedError, PermissionError, OSError: as from `find_orphaned_shm`.
        ValueError: a key can't be the name of a segment.  Nothing was done.
    """
    _require_platform()
    wanted = dict.fromkeys(map(checked_key, keys))
    records = list_records()
    removed: list[str] = []
    errors: list[tuple[str, OSError]] = []
    for key in wanted:
        try:
            with _orphaned(key, records):
                unlink_segment(key)
        except OSError as exc:
            errors.append((key, exc))
        else:
            removed.append(key)
    _prune()
    return removed, errors


@contextlib.contextmanager
def _orphaned(key: str, records: list[SegmentRecord]) -> Iterator[None]:
    """A block in which a segment is known to be an orphan; the errors are those that `reap_shm` gives."""
    listed = [record for record in records if record.key == key]
    meant = [record for record in listed if is_there(record)]
    for record in meant:
        # One that was handed over has two records.
        alive = owner_alive(record)
        if alive is not False:
            text = "lives" if alive else f"is of another pid namespace, host {record.host}"
            raise PermissionError(errno.EPERM, f"its owner, process {record.pid}, {text}", key)
    if meant:
        with held_by_nobody(meant[0]):
            yield
    elif listed and exists(key):
        raise PermissionError(errno.EPERM, "it is not the segment that was recorded", key)
    else:
        text = "it is gone by now" if listed else "tractor's record lists no such segment"
        raise FileNotFoundError(errno.ENOENT, text, key)


def _prune() -> None:
    """Drop records whose segment is gone with its owner, and half-written ones."""
    for record in list_records():
        with contextlib.suppress(OSError):
            if owner_alive(record) is False and is_gone(record):
                remove_record(record)
    remove_drafts()


def _require_platform() -> None:
    if sys.platform != "linux" and not sys.platform.startswith("freebsd"):
        raise NotImplementedError(
            f"no way to tell on {sys.platform} which shared memory is still in use: remove it by hand"
        )
