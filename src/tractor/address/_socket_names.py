"""Names of socket files: what the file system and the kernel's socket address take."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path

# `sockaddr_un.sun_path` in bytes, its closing NUL included.
SUN_PATH_SIZE: int = 108 if sys.platform == "linux" else 104

_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def is_encodable(text: str) -> bool:
    """Whether a file name can have these characters on this system."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def one_spelling(directory: str) -> str:
    """The directory's path as every actor that means it writes it: registrars compare the text.

    Symlinks, and with them ``..``, are left alone: making an address touches no file.
    """
    path = str(Path(directory))
    # POSIX lets two leading slashes mean something else; no system that we run on does.
    return path[1:] if os.name == "posix" and path.startswith("//") else path


def fits(directory: Path, filename: str) -> bool:
    """Whether a path fits into the kernel's socket address."""
    return len(os.fsencode(directory / filename)) < SUN_PATH_SIZE


def socket_name(name: str, digits: str, pid: int, directory: Path) -> str:
    """The file name for an actor; see `UDSAddress.get_sockname`.  Raises ValueError: there is no room for any."""
    if _SAFE_NAME.fullmatch(name):
        filename = f"{name}{digits}@{pid}.sock"
        if fits(directory, filename):
            return filename
    digest = hashlib.blake2s(name.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    filename = f"actor.{digest}{digits}@{pid}.sock"
    if not fits(directory, filename):
        raise ValueError(
            f"directory {str(directory)!r} leaves no room for a socket file such as {filename!r} "
            f"in the {SUN_PATH_SIZE} bytes of a socket address: use a shorter directory"
        )
    return filename
