"""The transport ``'shm'``: messages between actors of one host over rings in shared memory (Linux).

A connection begins as one over a Unix domain socket: the same kind of file, and the same rule for who may talk.  The
side that connected hands over the rings, and from then on both directions run over them.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any, ClassVar, TypeGuard

from tractor._errors import TransportClosed
from tractor._proto.connection.auth import Handshake
from tractor._proto.connection.framing import DEFAULT_MAX_FRAME_SIZE
from tractor.address._maddr_text import SHM_SCHEME, split_maddr
from tractor.address._types import REGISTRY_PORT, UDSAddress, mk_uuid
from tractor.msg.types import MsgType
from tractor.shm.ring._io import PendingIO, RingIO, offer_rings, take_rings
from tractor.transport._sockio import connect_socket
from tractor.transport._spec import Listener, TransportSpec
from tractor.transport._stream import MsgpackTransport
from tractor.transport._uds import UDS, both_ends, check_peer_uid


class ShmAddress(UDSAddress, frozen=True, eq=False):
    """A socket file at which rings are handed over.

    Its unwrapped form is ``('shm://<directory>', '<file name>')``.  Arguments and errors as of `UDSAddress`; it equals
    no `UDSAddress`: what listens at the file speaks one transport.
    """

    proto_key: ClassVar[str] = "shm"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShmAddress) and self.sockpath == other.sockpath

    def __hash__(self) -> int:
        return hash((self.proto_key, self.sockpath))

    @classmethod
    def recognises(cls, addr: object) -> TypeGuard[tuple[str, str] | list[Any]]:
        """Whether ``addr`` is a pair of strings, the first of which begins with ``shm://``."""
        return super().recognises(addr) and addr[0].startswith(SHM_SCHEME)  # type: ignore[index]

    @classmethod
    def from_addr(cls, addr: tuple[str, str] | list[Any] | UDSAddress | str) -> ShmAddress:
        """Wrap an unwrapped address; a wrapped one is returned as it is.

        Raises:
            TypeError: ``addr`` has another form, or is of another transport.
            ValueError: the file name is none.
        """
        if isinstance(addr, cls):
            return addr
        if isinstance(addr, str) and addr.startswith("/shm/"):
            addr = split_maddr(addr)[1]
        if not cls.recognises(addr):
            raise TypeError(
                f"an unwrapped SHM address is a ('{SHM_SCHEME}<directory>', '<file name>') pair, not {addr!r}"
            )
        return cls(addr[0].removeprefix(SHM_SCHEME), addr[1])

    def unwrap(self) -> tuple[str, str]:
        """``('shm://<directory>', '<file name>')``."""
        return SHM_SCHEME + self.filedir, self.filename

    @classmethod
    def get_random(
        cls,
        bindspace: str | Path | None = None,
        *,
        name: str | None = None,
        pid: int | None = None,
        uuid: str | None = None,
    ) -> ShmAddress:
        """An address in the directory ``bindspace`` whose file does not exist; see `UDSAddress.get_random`.

        The name is marked: an actor may listen for both transports in one directory.
        """
        marked = f"{f'actor-{mk_uuid()[:6]}' if name is None else name}.shm"
        found = UDSAddress.get_random(bindspace, name=marked, pid=pid, uuid=uuid)
        return cls(found.filedir, found.filename)

    @classmethod
    def get_root(cls) -> ShmAddress:
        """The registrar's default: ``registry.shm@1616.sock`` in the runtime directory."""
        return cls(str(cls.def_bindspace), f"registry.shm@{REGISTRY_PORT}.sock")


class MsgpackShmStream(MsgpackTransport):
    """msgpack over a pair of rings."""

    address_type: ClassVar[type[ShmAddress]] = ShmAddress

    @classmethod
    async def connect_to(
        cls, addr: ShmAddress, *, max_frame_size: int = DEFAULT_MAX_FRAME_SIZE
    ) -> MsgpackShmStream:
        """Connect; see :func:`connect_shm`."""
        return await connect_shm(addr, max_frame_size)

    async def secure(self) -> None:
        """Take the rings that the peer has made; without effect on the side that connected.

        Raises:
            TransportClosed: the peer left, or sent something else.
        """
        io = self.io
        if not isinstance(io, PendingIO):
            return
        try:
            self.io = await take_rings(io.sock)
        except Exception as exc:
            raise self._fail(f"no rings came: {exc}", exc) from exc

    async def authenticate(self, machine: Handshake, early: MsgType | None = None) -> None:
        """Take the rings, then carry out the opening exchange over them.

        Raises:
            TransportClosed: the peer failed either, or left.
        """
        await self.secure()
        await super().authenticate(machine, early)


def _stream(
    io: RingIO | PendingIO, sock: socket.socket, addr: ShmAddress, max_frame_size: int
) -> MsgpackShmStream:
    return MsgpackShmStream(io, *both_ends(addr, sock), max_frame_size=max_frame_size)


async def connect_shm(addr: ShmAddress, max_frame_size: int) -> MsgpackShmStream:
    """Connect to a listening socket file, and hand the rings over.

    Raises:
        OSError: no such file, nothing accepts there, or there is no memory or descriptor for the rings.
        TransportClosed: the listener is another user, and this process is not root.
    """
    if sys.platform == "win32":
        raise NotImplementedError
    sock = await connect_socket(socket.AF_UNIX, str(addr.sockpath))
    try:
        check_peer_uid(sock, may_be_anyone=os.geteuid() == 0)
        return _stream(await offer_rings(sock), sock, addr, max_frame_size)
    except BaseException:
        sock.close()
        raise


def shm_from_socket(
    sock: socket.socket, addr: ShmAddress, *, max_frame_size: int
) -> MsgpackShmStream:
    """A transport over an accepted socket, whose rings are taken by its ``authenticate``.

    Args:
        sock: owned by the transport from now on.
        addr: where it was accepted.
        max_frame_size: bytes.

    Raises:
        TransportClosed: the peer is another user.
    """
    check_peer_uid(sock)
    return _stream(PendingIO(sock), sock, addr, max_frame_size)


async def _listen(addr: ShmAddress) -> Listener:
    bound = await UDS.bind(addr)
    return Listener(bound.sock, addr, bound.clean_up)


def _wrap(
    sock: socket.socket, local: ShmAddress | None, max_frame_size: int, /
) -> MsgpackShmStream:
    if local is None:
        raise TransportClosed("a stream at hand is taken for a Unix socket's, never for rings")
    return shm_from_socket(sock, local, max_frame_size=max_frame_size)


SHM = TransportSpec(
    key="shm",
    address_type=ShmAddress,
    stream_type=MsgpackShmStream,
    connect=connect_shm,
    bind=_listen,
    wrap=_wrap,
    authenticates=True,
)
"""Rings in shared memory, handed over by a Unix socket."""
