"""Finding and removing socket files of actors that died: by users, by the next root, by a registrar.

The pid in a file's name is one of the host that has made it, and several pid namespaces may share a directory.  So it
only ever speaks for a file, where a process of that number lives here.  What speaks against it is the kernel, which
all of them share: under the lock that actors hold while they bind, nobody accepts there.  A runtime directory is one
machine's: what its kernel does not know to be listened at, is not.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tractor.address._types import UDSAddress
from tractor.process._dirs import get_runtime_dir, runtime_dir_path
from tractor.process._file_mark import FileMark, file_mark
from tractor.process._stat import ProcessId, pid_alive, process_start_time, still_runs
from tractor.process.host._host_id import host_id

if sys.platform != "win32":
    import fcntl

RECORDS = "sockets"
"""The part of the runtime directory with a record of each socket file whose name does not tell its process."""

SOCKET_NAME = re.compile(r".+@(?P<pid>[1-9]\d{0,9})\.sock", re.DOTALL)

BIND_LOCK_TIMEOUT = 1.0
REAP_LOCK_TIMEOUT = 2.0
"""Seconds to wait for an actor that is just binding, to bind and to remove."""
LOCK_INTERVAL = 0.005

CLOCK_SLACK = 5.0
"""Seconds by which a process must be younger than a file to be none that made it."""


def answers(path: str) -> bool:
    """Whether something accepts at a socket file, or might: only a refusal tells that nobody does.

    Raises:
        OSError: this process is out of descriptors.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:  # type: ignore[attr-defined, unused-ignore]
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True


@contextlib.contextmanager
def bind_lock(directory: Path, timeout: float, flags: int = 0) -> Iterator[int]:
    """Hold the lock of a directory under which actors bind in it; yields a descriptor of the directory.

    Args:
        directory: where the socket files are.
        timeout: seconds to wait for the lock.  Never without a limit: its holder may be stopped, and in a directory
            that others may enter anybody can hold it for ever.
        flags: more flags for opening the directory.

    Raises:
        TimeoutError: another process keeps the lock.
        OSError: the directory can't be opened.
    """
    if sys.platform == "win32":
        raise NotImplementedError
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | flags)
    try:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[name-defined, unused-ignore]
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(
                        errno.ETIMEDOUT, "a process keeps the lock for binding in", str(directory)
                    ) from None
            time.sleep(LOCK_INTERVAL)
        yield fd
    finally:
        os.close(fd)


def own_file_mark(path: Path) -> FileMark | None:
    """As :func:`file_mark`, but only in a directory that is the own user's and that nobody else may write to."""
    try:
        _require_own_dir(path.parent)
    except OSError:
        return None
    return file_mark(path)


def remove_if_dead(path: Path, mark: FileMark) -> bool:
    """Remove a socket file at which nobody listens any more.  Never waits.

    Args:
        path: the file.
        mark: its :func:`file_mark` while somebody listened; another file is left alone.

    Returns:
        Whether that is settled: the file is gone, or is another one; ``False``: something answers, or another process
        is just binding in that directory.
    """
    if file_mark(path) != mark:
        return True
    if answers(str(path)):
        return False
    try:
        with bind_lock(path.parent, 0):
            # Once more: nobody can begin to listen there now.
            if file_mark(path) == mark and not answers(str(path)):
                os.unlink(path)
    except TimeoutError:
        return False
    except OSError:
        # Gone, or in a directory that can't be written to.
        return True
    return True


def note_bound(path: Path) -> Callable[[], None]:
    """Record that this process listens at a socket file, unless its name tells so, for a later root.

    Returns:
        Removes the record.
    """
    mark = file_mark(path)
    if mark is None or SOCKET_NAME.fullmatch(path.name):
        return lambda: None
    pid = os.getpid()
    text = "\n".join([repr(process_start_time(pid)), *map(str, mark), os.path.abspath(path)])
    try:
        record = get_runtime_dir(RECORDS) / f"{host_id()}.{pid}.{mark[1]}"
        record.write_text(text, errors="surrogateescape")
    except OSError:
        # Without a record the file just stays, should this process be killed.
        return lambda: None
    return lambda: record.unlink(missing_ok=True)


def sweep(directory: str | os.PathLike[str]) -> list[Path]:
    """Remove what dead actors have left in a directory where a root is about to live; nothing is waited for.

    Args:
        directory: where sockets are; its subdirectories are looked into only if it is the runtime directory.

    Returns:
        The removed files.
    """
    top = Path(directory)
    found: list[Path] = []
    with contextlib.suppress(OSError):
        if top == runtime_dir_path():
            found = find_orphaned_uds(top)
        else:
            names = [name for name in os.listdir(top) if SOCKET_NAME.fullmatch(name)]
            found = [path for path in map(top.joinpath, names) if _why_not_orphaned(path) is None]
    marked = {path: mark for path in found if (mark := file_mark(path)) is not None}
    marked.update(_recorded_by_dead(top))
    for path, mark in marked.items():
        remove_if_dead(path, mark)
    return [path for path in marked if not os.path.lexists(path)]


def _recorded_by_dead(directory: Path) -> Iterator[tuple[Path, FileMark]]:
    """The socket files in ``directory`` that processes have recorded which are dead; the records go."""
    with contextlib.suppress(OSError):
        for record in (runtime_dir_path() / RECORDS).iterdir():
            with contextlib.suppress(OSError, ValueError):
                start, *mark, path = record.read_text(errors="surrogateescape").split("\n", 4)
                host, pid, _ = record.name.rsplit(".", 2)
                owner = ProcessId(host, int(pid), None if start == "None" else float(start))
                if still_runs(owner) is False and Path(path).parent == Path(
                    os.path.abspath(directory)
                ):
                    device, inode, changed = map(int, mark)
                    yield Path(path), (device, inode, changed)
                    record.unlink()


def find_orphaned_uds(directory: str | os.PathLike[str] | None = None) -> list[Path]:
    """The socket files that dead actors have left.

    These are files ``<name>@<pid>.sock`` that are sockets of the own user, whose process is dead, and
    where nothing accepts; of ``registry@1616.sock``, which is named after a port, only the latter counts.
    Symlinks are not followed, and directories of other users are not entered.

    Args:
        directory: where to look, with its subdirectories; default: the runtime directory.

    Returns:
        Paths, sorted; none if there is no such directory.

    Raises:
        PermissionError: it is not a directory of the own user's, or others may write to it.
        OSError: it can't be read.
    """
    top = runtime_dir_path() if directory is None else Path(directory)
    if not os.path.lexists(top) or not hasattr(os, "getuid"):
        return []
    _require_own_dir(top)
    return sorted(path for path in _socket_files(top) if _why_not_orphaned(path) is None)


def reap_uds(
    paths: Iterable[str | os.PathLike[str]],
) -> tuple[list[Path], list[tuple[Path, OSError]]]:
    """Remove socket files of dead actors.

    Everything that `find_orphaned_uds` asks for is checked once more, under the lock that actors hold while they
    bind: none can begin to listen between that check and the removal.

    Args:
        paths: socket files, as found.

    Returns:
        The removed files, and pairs of a path and the error for those left alone: `FileNotFoundError` if it is gone
        by now, `PermissionError` if it is not one to be removed, `TimeoutError` if an actor kept the lock.
    """
    removed: list[Path] = []
    errors: list[tuple[Path, OSError]] = []
    for path in dict.fromkeys(map(Path, paths)):
        try:
            _reap_one(path)
        except OSError as exc:
            errors.append((path, exc))
        else:
            removed.append(path)
    return removed, errors


def _reap_one(path: Path) -> None:
    if sys.platform == "win32":
        raise NotImplementedError
    _require_own_dir(path.parent)
    with bind_lock(path.parent, REAP_LOCK_TIMEOUT, os.O_NOFOLLOW) as directory:
        os.stat(path.name, dir_fd=directory, follow_symlinks=False)
        reason = _why_not_orphaned(path)
        if reason is not None:
            raise PermissionError(errno.EPERM, reason, str(path))
        os.unlink(path.name, dir_fd=directory)


def _require_own_dir(directory: Path) -> None:
    if sys.platform == "win32":
        raise NotImplementedError
    info = directory.lstat()
    if not stat.S_ISDIR(info.st_mode):
        raise PermissionError(errno.EPERM, "it is not a directory, or a symlink", str(directory))
    if info.st_uid != os.getuid():
        raise PermissionError(errno.EPERM, f"it belongs to uid {info.st_uid}", str(directory))
    if info.st_mode & 0o022:
        raise PermissionError(errno.EPERM, "others may write to it", str(directory))


def _socket_files(directory: Path) -> Iterator[Path]:
    with os.scandir(directory) as entries:
        for entry in entries:
            # Gone by now, or not ours to look into.
            with contextlib.suppress(OSError):
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid():  # type: ignore[attr-defined, unused-ignore]
                    yield from _socket_files(Path(entry.path))
                elif stat.S_ISSOCK(info.st_mode):
                    yield Path(entry.path)


def _why_not_orphaned(path: Path) -> str | None:
    """What speaks against removing a file; ``None``: nothing does."""
    if sys.platform == "win32":
        raise NotImplementedError
    match = SOCKET_NAME.fullmatch(path.name)
    if match is None:
        return "its name is not <name>@<pid>.sock"
    try:
        info = path.lstat()
    except FileNotFoundError:
        return "it is gone by now"
    if not stat.S_ISSOCK(info.st_mode):
        return "it is not a socket"
    if info.st_uid != os.getuid():
        return f"it belongs to uid {info.st_uid}"
    is_registry = path.name == UDSAddress.get_root().filename
    if not is_registry and _made_by_living(int(match["pid"]), info.st_mtime):
        return f"process {match['pid']} lives"
    # Last, because a listener takes notice: a fork of the dead process may have kept its listener.
    return "something answers there" if answers(str(path)) else None


def _made_by_living(pid: int, made: float) -> bool:
    """Whether the process runs, and is old enough to have made a file.

    Args:
        pid: a process id.
        made: when the file was made, in seconds of the epoch.
    """
    if pid >= 2**31 or not pid_alive(pid):
        return False
    start_time = process_start_time(pid)
    boot_time = _boot_time()
    if start_time is None or boot_time is None:
        return True
    return boot_time + start_time <= made + CLOCK_SLACK


@functools.cache
def _boot_time() -> float | None:
    """When the machine started, in seconds of the epoch, on Linux; else ``None``."""
    if sys.platform != "linux":
        return None
    try:
        with open("/proc/stat", "rb") as file:
            return float(file.read().partition(b"\nbtime ")[2].split(maxsplit=1)[0])
    except (OSError, IndexError, ValueError):
        return None
