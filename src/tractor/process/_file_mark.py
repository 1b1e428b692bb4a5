"""Telling a socket file from a later one at its path."""

from __future__ import annotations

import os
import stat
from typing import TypeAlias

FileMark: TypeAlias = tuple[int, int, int]
"""Device, inode and time of change: inodes are used again, but not with the same time."""


def file_mark(path: str | os.PathLike[str]) -> FileMark | None:
    """What tells a socket file from a later one at its path; ``None``: there is no socket of the own user."""
    try:
        info = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISSOCK(info.st_mode) or info.st_uid != os.getuid():  # type: ignore[attr-defined, unused-ignore]
        return None
    return info.st_dev, info.st_ino, info.st_ctime_ns
