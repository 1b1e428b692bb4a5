"""Code that was shipped here, by its content: kept for the next agent, and shared by all of this user's."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping

from tractor.hosts._frames import MAX_RAW

PREFIX = "sha256:"
"""Begins an entry of a child's path that stands for shipped code: ``sha256:HASH`` or ``sha256:HASH/NAME``."""

LIMIT = 512 * 1024 * 1024
"""Bytes that the shared folder is allowed; then what was not used for longest goes, but for what agents use now."""

_CHUNK = 1024 * 1024


class CodeStore:
    """Files in folders that have the sha256 of their content as a name.

    The folder of all is ``$XDG_CACHE_HOME/tractor/code``, or that in ``~/.cache``; where it can't be had or written to,
    a private one that is removed at the end.  What was found once is kept until this process ends, by a lock on its
    folder, which whoever cleans up must have alone.

    Args:
        environ: the variables that say where the cache is.
        limit: bytes that the folder of all is allowed.
    """

    def __init__(self, environ: Mapping[str, str], limit: int = LIMIT) -> None:
        self._environ = environ
        self._limit = limit
        self._held: dict[str, int] = {}
        self._shared: str | None = None
        self._private: str | None = None
        self._parts: dict[str, bytearray] = {}

    def missing(self, items: Iterable[object]) -> list[str]:
        """Those of ``HASH`` or ``HASH/NAME`` that are not here, whole and unchanged.

        Raises:
            ValueError: something is no such thing.
        """
        return [item for item in map(_checked, items) if self._find(item) is None]

    def take(self, digest: str, name: str, data: bytes, more: bool = False) -> int | None:
        """Take a file, or the next part of one.

        Args:
            digest: the sha256 of the whole content, in hexadecimal.
            name: the file's name.
            data: the content, or the next part.
            more: further parts follow.

        Returns:
            ``None``: it is here, whole; else the bytes so far.

        Raises:
            ValueError: no such digest or name, too large, or the content has another digest; its parts are forgotten.
            OSError: it can be written nowhere.
        """
        _checked(f"{digest}/{name}")
        content: bytes | bytearray = data
        if more or digest in self._parts:
            parts = self._parts.setdefault(digest, bytearray())
            parts += data
            if len(parts) > MAX_RAW:
                del self._parts[digest]
                raise ValueError(f"{name!r} is over the limit of {MAX_RAW} bytes")
            if more:
                return len(parts)
            content = self._parts.pop(digest)
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise ValueError(f"{name!r} has the sha256 {found}, not {digest}")
        self._write(digest, name, content)
        return None

    def resolve(self, entry: str) -> str:
        """An entry of a child's import path as a path here.

        Raises:
            ValueError: it stands for code that was not shipped.
        """
        if not entry.startswith(PREFIX):
            return entry
        path = self._find(_checked(entry.removeprefix(PREFIX)))
        if path is None:
            raise ValueError(f"{entry!r} in the import path is not here; ship it first")
        return path

    def close(self) -> None:
        """Remove what is nobody else's.  Idempotent."""
        private, self._private = self._private, None
        if private is not None:
            _remove(private)
        while self._held:
            os.close(self._held.popitem()[1])

    def _find(self, item: str) -> str | None:
        """The folder of ``HASH``, or the file of ``HASH/NAME``."""
        digest = item.partition("/")[0]
        for folder in (self._private, self._shared_folder()):
            if folder is None:
                continue
            path = os.path.join(folder, item)
            with contextlib.suppress(OSError):
                # Beside it may be what Python has compiled.
                names = os.listdir(path) if item == digest else [""]
                files = [os.path.join(path, name) if name else path for name in names]
                if any(os.path.isfile(file) and _digest_of(file) == digest for file in files):
                    # It is in use: whatever cleans caches goes by this.
                    os.utime(os.path.join(folder, digest))
                    if folder == self._private or self._hold(os.path.join(folder, digest)):
                        return path
        return None

    def _hold(self, folder: str) -> bool:
        """Keep a folder from being removed; ``False``: it is being removed."""
        if folder in self._held:
            return True
        fd = os.open(folder, os.O_RDONLY)
        try:
            with _no_locks_here():
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # type: ignore[attr-defined, unused-ignore]
            # Another one may have this name by now.
            if os.path.samestat(os.fstat(fd), os.stat(folder)):
                self._held[folder], fd = fd, -1
                return True
        except BlockingIOError:
            pass
        finally:
            if fd >= 0:
                os.close(fd)
        return False

    def _clean(self, shared: str) -> None:
        """Remove what was not used for longest, until the rest is within the limit."""
        found = []
        for digest in os.listdir(shared):
            with contextlib.suppress(OSError):
                path = os.path.join(shared, digest)
                found.append((os.stat(path).st_mtime, _size(path), path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._limit:
                return
            with contextlib.suppress(OSError):
                if path not in self._held and _remove_unused(path):
                    total -= size

    def _write(self, digest: str, name: str, content: bytes | bytearray) -> None:
        shared = self._shared_folder()
        if shared is not None and self._private is None:
            with contextlib.suppress(OSError):
                _write_into(shared, digest, name, content)
                # Held before there may be one too many.
                if self._hold(os.path.join(shared, digest)):
                    return self._clean(shared)
        # Full, read-only or none at all.
        if self._private is None:
            top = self._environ.get("TMPDIR") or "/tmp"
            folder = os.path.join(top, f"tractor-code-{os.getpid()}-{os.urandom(6).hex()}")
            os.mkdir(folder, 0o700)
            self._private = folder
        _write_into(self._private, digest, name, content)

    def _shared_folder(self) -> str | None:
        if self._shared is None:
            base = self._environ.get("XDG_CACHE_HOME", "")
            if not os.path.isabs(base):
                home = self._environ.get("HOME", "")
                if not os.path.isabs(home):
                    return None
                base = os.path.join(home, ".cache")
            folder = os.path.join(base, "tractor", "code")
            with contextlib.suppress(OSError):
                os.makedirs(folder, mode=0o700, exist_ok=True)
                if _is_ours_alone(folder):
                    self._shared = folder
        return self._shared


def _checked(item: object) -> str:
    if isinstance(item, str):
        digest, slash, name = item.partition("/")
        if re.fullmatch("[0-9a-f]{64}", digest) and (not slash or _is_name(name)):
            return item
    raise ValueError(
        f"shipped code is named by a sha256 and a file's name, not {str(item)[:120]!r}"
    )


def _is_name(name: str) -> bool:
    """Of a file, visible, and in no other folder."""
    return (
        bool(re.fullmatch(r"[^/\x00-\x1f.][^/\x00-\x1f]*", name)) and len(os.fsencode(name)) <= 255
    )


def _is_ours_alone(folder: str) -> bool:
    """Whether nobody else can put code there; takes others' rights away where they have any."""
    info = os.lstat(folder)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():  # type: ignore[attr-defined, unused-ignore]
        return False
    if info.st_mode & 0o077:
        os.chmod(folder, 0o700)
    return True


@contextlib.contextmanager
def _no_locks_here() -> Iterator[None]:
    """Goes on where a file system has none: there nothing is removed either."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError:
        pass


def _size(folder: str) -> int:
    """Bytes of all files in a folder."""
    found = 0
    for path, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                found += os.lstat(os.path.join(path, name)).st_size
    return found


def _remove_unused(folder: str) -> bool:
    """Remove a folder that no agent holds; ``False``: one does.  Raises OSError."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[attr-defined, unused-ignore]
        # Whole, or not at all: who comes now finds nothing of that name.
        away = f"{folder}.{os.urandom(6).hex()}"
        os.rename(folder, away)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    _remove(away)
    return True


def _remove(top: str) -> None:
    for folder, folders, files in os.walk(top, topdown=False):
        for name in (*files, *folders):
            with contextlib.suppress(OSError):
                path = os.path.join(folder, name)
                (os.unlink if name in files else os.rmdir)(path)
    with contextlib.suppress(OSError):
        os.rmdir(top)


def _digest_of(path: str) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def _write_into(folder: str, digest: str, name: str, content: bytes | bytearray) -> None:
    """Write a file so that others see it whole or not at all; they may be writing the same one.

    What imports it later can't tell a file that a crash of the machine has emptied: a content is looked at before use.
    """
    target = os.path.join(folder, digest)
    os.makedirs(target, mode=0o700, exist_ok=True)
    part = os.path.join(target, f".{os.getpid()}-{os.urandom(6).hex()}")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(content)
        os.replace(part, os.path.join(target, name))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
