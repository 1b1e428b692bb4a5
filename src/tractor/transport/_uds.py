"""Unix domain sockets: between actors of one host and one user."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import sys
from pathlib import Path
from typing import ClassVar, TypeVar

import trio

from tractor._errors import TransportClosed
from tractor._proto.connection.framing import DEFAULT_MAX_FRAME_SIZE
from tractor.address._types import UDSAddress
from tractor.process._dirs import get_runtime_dir, make_missing_dirs, runtime_dir_path
from tractor.transport._sockio import SocketIO, connect_socket
from tractor.transport._spec import Listener, TransportSpec
from tractor.transport._stream import MsgpackTransport
from tractor.transport._uds_leftovers import BIND_LOCK_TIMEOUT, answers, bind_lock, note_bound

AnyUDSAddress = TypeVar("AnyUDSAddress", bound=UDSAddress)

BACKLOG = 128

SEND_BUFFER = 2**20
"""Bytes that the kernel is to take of what the peer has not read: with its default, 208 KiB, a large payload takes
many turns of both sides."""

_UCRED = struct.Struct("3i")


class MsgpackUDSStream(MsgpackTransport):
    """msgpack over a Unix domain socket."""

    address_type: ClassVar[type[UDSAddress]] = UDSAddress

    @classmethod
    async def connect_to(
        cls, addr: UDSAddress, *, max_frame_size: int = DEFAULT_MAX_FRAME_SIZE
    ) -> MsgpackUDSStream:
        """Connect; see :func:`connect_uds`."""
        return await connect_uds(addr, max_frame_size)

    @classmethod
    def get_stream_addrs(cls, stream: trio.SocketStream) -> tuple[UDSAddress, UDSAddress]:
        """The local and the peer's address of a connected stream; the peer's pid comes from the kernel.

        Raises:
            NotImplementedError: neither end has a socket file.
        """
        return both_ends(_addr_of(stream.socket), stream.socket)


def _addr_of(sock: socket.socket | trio.socket.SocketType) -> UDSAddress:
    """The address of a connected socket's file, at whichever end it is.  Raises NotImplementedError: at none."""
    name = sock.getsockname() or sock.getpeername()
    if not name or not isinstance(name, str):
        raise NotImplementedError(
            f"a Unix socket without a file ({name!r}), of a socket pair or an abstract one, has no address: "
            "connect over a socket file"
        )
    return UDSAddress(str(Path(name).parent), Path(name).name)


def peer_credentials(sock: socket.socket | trio.socket.SocketType) -> tuple[int | None, int | None]:
    """The peer's ``(pid, uid)`` by the kernel's word; ``None`` for what the platform does not tell."""
    if sys.platform == "linux":
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, _gid = _UCRED.unpack(raw)
        return pid, uid
    if sys.platform == "darwin":
        # <sys/un.h>: level SOL_LOCAL is 0; LOCAL_PEERCRED gives a struct xucred (version, uid, ...).
        xucred = sock.getsockopt(0, 0x001, 76)
        uid = struct.unpack_from("2i", xucred)[1]
        pid = struct.unpack("i", sock.getsockopt(0, 0x002, 4))[0]
        return pid, uid
    return None, None


def both_ends(
    addr: AnyUDSAddress, sock: socket.socket | trio.socket.SocketType
) -> tuple[AnyUDSAddress, AnyUDSAddress]:
    """The local and the peer's address of a connection by a socket file: that file's, each with its process."""
    cls = type(addr)
    pid, _ = peer_credentials(sock)
    return (
        cls(addr.filedir, addr.filename, os.getpid()),
        cls(addr.filedir, addr.filename, pid),
    )


def check_peer_uid(sock: socket.socket, may_be_anyone: bool = False) -> None:
    """Refuse a peer that is another user, unless it is root.

    Args:
        sock: connected.
        may_be_anyone: root itself has connected, and may do so to anyone.

    Raises:
        TransportClosed: the kernel says that the peer is somebody else.
    """
    if sys.platform == "win32":
        raise NotImplementedError
    _, uid = peer_credentials(sock)
    if uid is not None and uid not in (0, os.geteuid()) and not may_be_anyone:
        raise TransportClosed(
            f"the peer runs as uid {uid}, this actor as uid {os.geteuid()}: refused"
        )


def uds_from_socket(
    sock: socket.socket, addr: UDSAddress, *, max_frame_size: int, connected: bool = False
) -> MsgpackUDSStream:
    """A transport over a connected socket; ``addr`` is the listener's address.

    Args:
        sock: owned by the transport from now on.
        addr: where it was accepted, or connected to.
        max_frame_size: bytes.
        connected: this side has connected, not accepted; as root it may do so to anyone.

    Raises:
        TransportClosed: the peer is another user.
    """
    if sys.platform == "win32":
        raise NotImplementedError
    check_peer_uid(sock, may_be_anyone=connected and os.geteuid() == 0)
    # The system may give less.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    made = MsgpackUDSStream(SocketIO(sock), *both_ends(addr, sock), max_frame_size=max_frame_size)
    made.take_lent()
    return made


async def connect_uds(addr: UDSAddress, max_frame_size: int) -> MsgpackUDSStream:
    """Connect to a listening socket file.

    Raises:
        OSError: no such file, or nothing accepts there.
        TransportClosed: the listener is another user, and this process is not root.
    """
    if sys.platform == "win32":
        raise NotImplementedError
    sock = await connect_socket(socket.AF_UNIX, str(addr.sockpath))
    try:
        return uds_from_socket(sock, addr, max_frame_size=max_frame_size, connected=True)
    except BaseException:
        sock.close()
        raise


def bind_uds(addr: UDSAddress) -> socket.socket:
    """A listening, non-blocking socket at the address; a stale socket file there is replaced.

    All of it happens under a lock on the directory, so of processes that race for one address exactly one wins.

    Raises:
        ConnectionError: something listens there already, or another process keeps the directory locked.
        OSError: the directory does not exist or can't be written.
    """
    path = str(addr.sockpath)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)  # type: ignore[attr-defined, unused-ignore]
    try:
        sock.setblocking(False)
        with bind_lock(addr.sockpath.parent, BIND_LOCK_TIMEOUT):
            try:
                sock.bind(path)
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE:
                    raise
                # Under the lock nobody else replaces it meanwhile; but its listener, which takes no lock to remove it,
                # may just be doing so.
                with contextlib.suppress(FileNotFoundError):
                    _require_stale(path)
                    os.unlink(path)
                sock.bind(path)
            # Within the lock: a bound socket that does not listen yet looks stale to others.
            sock.listen(BACKLOG)
    except TimeoutError as exc:
        sock.close()
        raise ConnectionError(
            f"another process keeps the directory {str(addr.sockpath.parent)!r} locked; "
            "choose one that only you may enter"
        ) from exc
    except BaseException:
        sock.close()
        raise
    return sock


def _require_stale(path: str) -> None:
    """Check that what is at ``path`` is a socket file that nobody listens on any more.

    Raises:
        ConnectionError: somebody does, or it is not a socket file at all.
        FileNotFoundError: nothing is there any more.
    """
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ConnectionError(f"{path!r} is there and is not a socket file; choose another address")
    if answers(path):
        raise ConnectionError(
            f"the socket file {path!r} is in use by another process; choose another address"
        )


async def _listen(addr: UDSAddress) -> Listener:
    if addr.bindspace == runtime_dir_path():
        get_runtime_dir()
    else:
        make_missing_dirs(addr.sockpath.parent)
    sock = bind_uds(addr)
    try:
        inode = os.stat(addr.sockpath).st_ino
    except OSError:
        sock.close()
        raise
    forget = note_bound(addr.sockpath)

    def unlink_own() -> None:
        forget()
        # Before the socket is closed: after that another process may replace a file that looks stale.
        with contextlib.suppress(OSError):
            if os.stat(addr.sockpath).st_ino == inode:
                os.unlink(addr.sockpath)

    return Listener(sock, addr, unlink_own)


def _wrap(
    sock: socket.socket, local: UDSAddress | None, max_frame_size: int, /
) -> MsgpackUDSStream:
    if local is None:
        local = _addr_of(sock)
    return uds_from_socket(sock, local, max_frame_size=max_frame_size)


UDS = TransportSpec(
    key="uds",
    address_type=UDSAddress,
    stream_type=MsgpackUDSStream,
    connect=connect_uds,
    bind=_listen,
    wrap=_wrap,
    families=(socket.AF_UNIX,) if hasattr(socket, "AF_UNIX") else (),
    authenticates=True,
)
