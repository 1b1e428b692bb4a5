"""Where an actor in debug mode listens for users: a Unix socket beside those of its peers."""

from __future__ import annotations

from pathlib import Path

from tractor.address._types import HAS_UDS, UDSAddress
from tractor.process._dirs import get_runtime_dir, runtime_dir_path

DEBUG_DIR = "debug"
"""The part of the runtime directory."""


def debug_addr(name: str, pid: int) -> UDSAddress:
    """The address, in a directory that is made if it is missing.  Raises PermissionError, OSError, ValueError."""
    space = get_runtime_dir(DEBUG_DIR)
    return UDSAddress(str(space), UDSAddress.get_sockname(name, pid, space))


def debug_sock_path(name: str, pid: int | None) -> Path | None:
    """The file's path; ``None`` where there can be none.  Nothing is made or checked."""
    if not HAS_UDS or pid is None:
        return None
    space = runtime_dir_path() / DEBUG_DIR
    try:
        return space / UDSAddress.get_sockname(name, pid, space)
    except ValueError:
        return None


def debug_socks() -> list[Path]:
    """The files that are there, whether or not anybody still listens."""
    try:
        return sorted((runtime_dir_path() / DEBUG_DIR).glob("*.sock"))
    except OSError:
        return []
