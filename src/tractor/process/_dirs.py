"""Where tractor keeps its runtime files, and the checks that keep other users out of it."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path, PurePath


def runtime_dir_path() -> Path:
    """The path of the runtime directory; nothing is created or checked.

    On Linux ``$XDG_RUNTIME_DIR/tractor``; without that variable (or where it is not an absolute path,
    which the XDG standard says to ignore) and on other POSIX systems ``/tmp/tractor-<uid>``; on
    Windows ``tractor`` in the user's local application data.
    """
    if os.name == "nt":
        import platformdirs

        return platformdirs.user_data_path("tractor", appauthor=False)
    if sys.platform == "linux":
        base = os.environ.get("XDG_RUNTIME_DIR", "")
        if base.startswith("/"):
            return Path(base, "tractor")
    return Path(f"/tmp/tractor-{os.getuid()}")  # type: ignore[attr-defined, unused-ignore]


def get_runtime_dir(subdir: str | PurePath | None = None) -> Path:
    """The runtime directory, or ``subdir`` of it, made where it is missing.

    Args:
        subdir: a relative path without ``..``.

    Returns:
        A path that is a real directory of the own user with mode 0700; so is each level of
        ``subdir``.

    Raises:
        ValueError: ``subdir`` is absolute, has ``..`` in it, or holds a NUL byte.
        PermissionError: the directory is not the own user's, is a symlink or no directory, or is open
            to other users; or one above it belongs to another user than root, or is one whose
            entries others can replace.
        OSError: a directory could not be made.
    """
    parts = _checked_parts(subdir)
    path = runtime_dir_path()
    make_missing_dirs(path.parent)
    _check_way_to(path)
    ensure_private_dir(path)
    for part in parts:
        path = path / part
        ensure_private_dir(path)
    return path


get_rt_dir = get_runtime_dir


def _checked_parts(subdir: str | PurePath | None) -> tuple[str, ...]:
    if subdir is None:
        return ()
    pure = PurePath(subdir)
    if pure.is_absolute() or pure.drive or pure.root or ".." in pure.parts or "\0" in str(subdir):
        raise ValueError(
            f"runtime subdirectory {str(subdir)!r} leads out of the runtime directory: "
            "give a relative path without '..'"
        )
    return pure.parts


def _check_way_to(path: Path) -> None:
    """Refuse a path on which another user could put another directory in place.  Raises PermissionError."""
    if os.name == "nt":
        return
    # Symlinks on the way count, and so does the way that they lead.
    for above in dict.fromkeys(
        (*path.parents, *Path(os.path.realpath(path.parent) + "/x").parents)
    ):
        info = above.lstat()
        if info.st_uid not in (0, os.getuid()) and not _is_unmapped(info.st_uid):  # type: ignore[attr-defined, unused-ignore]
            why = f"belongs to uid {info.st_uid}"
        elif (
            stat.S_ISDIR(info.st_mode)
            and info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            and not info.st_mode & stat.S_ISVTX
        ):
            why = f"has mode {stat.S_IMODE(info.st_mode):04o}"
        else:
            continue
        raise PermissionError(
            f"directory {str(above)!r}, which leads to the runtime directory {str(path)!r}, {why}, so that another "
            "user can replace what is in it: set XDG_RUNTIME_DIR to a directory of your own"
        )


def _is_unmapped(uid: int) -> bool:
    """Whether a user namespace (a rootless container) shows that uid for all that it does not know, such as root."""
    try:
        whole = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
        return not whole and uid == int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return False


def make_missing_dirs(path: Path) -> None:
    """Make the directory ``path``, and those above it, where they are missing, each with mode 0700.

    Raises:
        OSError: one could not be made, or a file is in the way.
    """
    for missing in reversed([one for one in (path, *path.parents) if not one.exists()]):
        # Somebody else may have made it meanwhile.
        missing.mkdir(mode=0o700, exist_ok=True)


def ensure_private_dir(path: Path) -> None:
    """Make the directory ``path`` with mode 0700, or check that the one there is as good.

    The parent must exist. What is there is never changed: an open directory may already hold what
    another user has put into it.

    Raises:
        PermissionError: ``path`` is a symlink, is not a directory, belongs to another user, or can be
            entered by one.
        OSError: it could not be made.
    """
    # Whoever made it, even in a race just now: what is there is judged, not how it came to be.
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode):
        raise PermissionError(f"runtime directory {str(path)!r} is a symlink or a file: remove it")
    if os.name == "nt":
        return
    if info.st_uid != os.getuid():  # type: ignore[attr-defined, unused-ignore]
        raise PermissionError(
            f"runtime directory {str(path)!r} belongs to uid {info.st_uid}, not to the own uid "
            f"{os.getuid()}: remove it, or set XDG_RUNTIME_DIR to a directory of your own"  # type: ignore[attr-defined, unused-ignore]
        )
    mode = stat.S_IMODE(info.st_mode)
    if mode & 0o077:
        raise PermissionError(
            f"runtime directory {str(path)!r} has mode {mode:04o}, which lets others in: "
            "run chmod 700 on it"
        )


SHM_RECORDS = "shm"
"""The subdirectory of the runtime directory that has a file for each shared memory segment."""


def has_shm_records(pid: int) -> bool:
    """Whether some segment may be recorded as that process's, by a look at file names only."""
    try:
        names = os.listdir(runtime_dir_path() / SHM_RECORDS)
    except OSError:
        return False
    return any(name.endswith(f".{pid}") for name in names)
