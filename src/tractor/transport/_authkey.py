"""The tree's key: where it comes from, and which binds need one that was chosen on purpose."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tractor._errors import RuntimeFailure
from tractor._proto.connection.auth import MIN_KEY_SIZE
from tractor.address._types import Address, TCPAddress, UDSAddress

KEY_FILE_VARIABLE = "TRACTOR_AUTHKEY_FILE"
KEY_SIZE = 32
MAX_KEY_FILE = 65_536
"""Bytes; no key is as long."""


def load_authkey(explicit: bytes | None) -> tuple[bytes, bool]:
    """The key that TCP peers must hold, and whether it was chosen on purpose.

    Args:
        explicit: the ``authkey`` argument of the root.

    Returns:
        ``explicit``, else the bytes of the file named by ``TRACTOR_AUTHKEY_FILE``, both with
        ``True``; else the bytes of the user's key file, made where it is missing, with ``False``.

    Raises:
        TypeError: ``explicit`` is not a bytes.
        ValueError: the key has fewer than 16 bytes.
        PermissionError: a key file, or its directory, belongs to another user or is open to others.
        OSError: a key file cannot be read or made.
    """
    if explicit is not None:
        if not isinstance(explicit, bytes | bytearray | memoryview):
            # bytes(20) would be 20 zeros, which everybody knows.
            raise TypeError(f"authkey must be bytes, not {type(explicit).__name__!r}")
        return _checked(bytes(explicit), "the authkey argument"), True
    named = os.environ.get(KEY_FILE_VARIABLE)
    if named:
        try:
            return read_key_file(Path(named)), True
        except OSError as error:
            error.add_note(f"the file is named by {KEY_FILE_VARIABLE}")
            raise
    path = user_key_path()
    try:
        try:
            return read_key_file(path), False
        except FileNotFoundError:
            write_key_file(path)
            # Read back: of processes that race for the first use one wins, and all take the
            # winner's key.
            return read_key_file(path), False
    except OSError as error:
        error.add_note(f"give authkey=, or name another key file in {KEY_FILE_VARIABLE}")
        raise


def user_key_path() -> Path:
    """``tractor/authkey`` in the user's state directory; nothing is created or checked."""
    import platformdirs

    return platformdirs.user_state_path("tractor", appauthor=False) / "authkey"


def read_key_file(path: Path) -> bytes:
    """The key in a file that no other user can read or replace.

    Raises:
        ValueError: it has fewer than 16 bytes, or more than 65,536.
        PermissionError: the file or its directory belongs to another user or is open to others, or
            it is not a regular file.
        OSError: it cannot be read.
    """
    _check_key_dir(path.parent)
    # Not blocking: an open() of a FIFO would hang. What is judged is what was opened, not what the
    # name says now.
    # A device may act when it is opened, so the name is looked at before, too.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise _irregular(path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    fd = os.open(path, flags | getattr(os, "O_BINARY", 0))
    with open(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise _irregular(path)
        if os.name != "nt":
            _check_key_mode(path, info)
        key = file.read(MAX_KEY_FILE + 1)
        if len(key) > MAX_KEY_FILE:
            raise ValueError(
                f"key file {str(path)!r} has {info.st_size} bytes, more than the {MAX_KEY_FILE} that are "
                "read: make a key with `tractor keygen`"
            )
        return _checked(key, f"key file {str(path)!r}")


def _irregular(path: Path) -> PermissionError:
    return PermissionError(
        f"key file {str(path)!r} is not a regular file: name one, made with `tractor keygen`"
    )


def write_key_file(path: Path) -> bool:
    """Make a key file with 32 random bytes and mode 0600, and the directories it needs.

    The file appears whole or not at all, and one that is there is never changed.

    Returns:
        Whether this call made it; ``False`` when the file is there already.

    Raises:
        PermissionError: the directory belongs to another user, or others may write to it.
        OSError: the file could not be made.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_key_dir(path.parent)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(8).hex()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(os.urandom(KEY_SIZE))
            file.flush()
            os.fsync(fd)
        # Either fails where the target exists, which decides the race.
        (os.rename if os.name == "nt" else os.link)(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def _checked(key: bytes, origin: str) -> bytes:
    if len(key) < MIN_KEY_SIZE:
        raise ValueError(
            f"{origin} has {len(key)} bytes, at least {MIN_KEY_SIZE} are needed: "
            "make one with `tractor keygen`"
        )
    return key


def _check_key_dir(directory: Path) -> None:
    if os.name == "nt":
        return
    info = directory.stat()
    if info.st_uid != os.geteuid():  # type: ignore[attr-defined, unused-ignore]
        raise PermissionError(
            f"directory {str(directory)!r} of the key file belongs to uid {info.st_uid}, "
            f"not to the own uid {os.geteuid()}: keep the key in a directory of your own"  # type: ignore[attr-defined, unused-ignore]
        )
    # In a sticky directory (/tmp) others may add files but not replace ours.
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not info.st_mode & stat.S_ISVTX:
        who = (
            "every user" if info.st_mode & stat.S_IWOTH else f"every member of group {info.st_gid}"
        )
        raise PermissionError(
            f"{who} can replace files in {str(directory)!r}, the directory of the key file: "
            "run chmod o-w,g-w on it, or keep the key in a directory of mode 0700"
        )


def _check_key_mode(path: Path, info: os.stat_result) -> None:
    if info.st_uid != os.geteuid():  # type: ignore[attr-defined, unused-ignore]
        raise PermissionError(
            f"key file {str(path)!r} belongs to uid {info.st_uid}, "
            f"not to the own uid {os.geteuid()}: use one of your own"  # type: ignore[attr-defined, unused-ignore]
        )
    mode = stat.S_IMODE(info.st_mode)
    if mode & 0o077:
        raise PermissionError(
            f"key file {str(path)!r} has mode {mode:04o}, which lets others read it: run chmod 600"
        )


def check_bind_allowed(addr: Address, explicit_key: bool, tls: bool) -> None:
    """Refuse to listen beyond this host with a key that nobody chose: the user's key file.

    Args:
        addr: where to listen. A DNS name other than ``localhost`` counts as reachable from other
            hosts, and so does an address of another package's transport without ``is_loopback``.
        explicit_key: the key comes from ``authkey`` or ``TRACTOR_AUTHKEY_FILE``.
        tls: a `TLSConfig` is in force, which is for TCP only.

    Raises:
        RuntimeFailure: naming the address and both ways out.
    """
    over_tls = tls and isinstance(addr, TCPAddress)
    local = isinstance(addr, UDSAddress) or getattr(addr, "is_loopback", False)
    if explicit_key or over_tls or local:
        return
    ways = [f"give authkey= (or a key file in {KEY_FILE_VARIABLE})"]
    if isinstance(addr, TCPAddress):
        ways.append("give tls=TLSConfig(...)")
    raise RuntimeFailure(
        f"refusing to listen on {addr.unwrap()!r}, which other hosts can reach, without a key that "
        f"was chosen for it: {', or '.join(ways)}"
    )
