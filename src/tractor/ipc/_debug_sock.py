"""Where an actor listens for users: Unix sockets beside those of its peers."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable
from pathlib import Path

from tractor.address._types import HAS_UDS, UDSAddress
from tractor.process._at_fork import close_in_child
from tractor.process._dirs import get_runtime_dir, runtime_dir_path
from tractor.process._file_mark import file_mark
from tractor.transport._uds import bind_uds

DEBUG_DIR = "debug"
"""The part of the runtime directory for those who attach."""

CONTROL_DIR = "control"
"""The part of the runtime directory for those who ask and command."""


def debug_addr(name: str, pid: int) -> UDSAddress:
    """Where one attaches, in a directory that is made if it is missing.

    Raises:
        PermissionError, OSError, ValueError: there is no place for it.
    """
    return _addr(DEBUG_DIR, name, pid)


def control_addr(name: str, pid: int) -> UDSAddress:
    """Where one asks; as :func:`debug_addr`."""
    return _addr(CONTROL_DIR, name, pid)


def _addr(directory: str, name: str, pid: int) -> UDSAddress:
    space = get_runtime_dir(directory)
    return UDSAddress(str(space), UDSAddress.get_sockname(name, pid, space))


class UserSocket:
    """A socket that listens for this user alone.

    Args:
        addr: its address.

    Attributes:
        path: its file.
        listener: what accepts; closed in what is forked off.

    Raises:
        OSError: it can't be bound.
    """

    def __init__(self, addr: UDSAddress) -> None:
        self.path = str(addr.sockpath)
        self.listener = bind_uds(addr)
        close_in_child(self.listener)
        os.chmod(self.path, 0o600)
        # That changes the file's time, which is part of its mark.
        self._mark = file_mark(self.path)

    def unlink(self) -> None:
        """Remove its file, unless another one is there by now.  Idempotent; the listener stays open."""
        if self._mark is not None and file_mark(self.path) == self._mark:
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def user_sock_paths(name: str, pid: int | None) -> list[Path]:
    """The paths of the files that an actor may listen at for users; nothing is made or checked."""
    found = (_user_sock_path(directory, name, pid) for directory in (DEBUG_DIR, CONTROL_DIR))
    return [path for path in found if path is not None]


def control_path(name: str, pid: int | None) -> Path | None:
    """Where an actor of this host listens for those who ask; ``None``: nowhere.  Nothing is made or checked."""
    return _user_sock_path(CONTROL_DIR, name, pid)


def _user_sock_path(directory: str, name: str, pid: int | None) -> Path | None:
    if not HAS_UDS or pid is None:
        return None
    return _path_in(runtime_dir_path() / directory, name, pid)


@functools.lru_cache(maxsize=1024)
def _path_in(space: Path, name: str, pid: int) -> Path | None:
    with contextlib.suppress(ValueError):
        return space / UDSAddress.get_sockname(name, pid, space)
    return None


def debug_socks() -> list[Path]:
    """The files that are there, whether or not anybody still listens."""
    return _socks(runtime_dir_path() / DEBUG_DIR)


def control_socks(runtime_dirs: Iterable[Path]) -> list[Path]:
    """As :func:`debug_socks`, in several runtime directories."""
    return [path for top in runtime_dirs for path in _socks(top / CONTROL_DIR)]


def _socks(directory: Path) -> list[Path]:
    try:
        return sorted(directory.glob("*.sock"))
    except OSError:
        return []
