"""The table of transports: everything that is done to an address or a stream by its kind is looked up here."""

from __future__ import annotations

import importlib
import re
import socket
import sys
from collections.abc import Iterable
from typing import Any

import trio

from tractor._util._entry_points import EntryPointTable
from tractor._util._plain import plain
from tractor.address._types import HAS_UDS, Address, TCPAddress, UnwrappedAddress
from tractor.transport._settings import wire_settings
from tractor.transport._spec import Listener, TransportSpec
from tractor.transport._tcp import (
    MsgpackTCPStream,
    bind_tcp,
    connect_tcp,
    tcp_addr,
    tcp_from_socket,
)
from tractor.transport._uds import UDS
from tractor.transport.tls._stream import connect_tls, tls_from_socket


async def _connect_tcp(addr: TCPAddress, max_frame_size: int) -> MsgpackTCPStream:
    contexts = wire_settings().connection_tls()
    if contexts is None:
        return await connect_tcp(addr, max_frame_size=max_frame_size)
    return await connect_tls(addr, contexts.connect, max_frame_size=max_frame_size)


async def _listen_tcp(addr: TCPAddress) -> Listener:
    # Unusable certificates are found before anything is bound.
    wire_settings().tls_contexts()
    sock = await bind_tcp(addr)
    return Listener(sock, tcp_addr(sock.getsockname()))


def _wrap_tcp(
    sock: socket.socket, local: TCPAddress | None, max_frame_size: int, /
) -> MsgpackTCPStream:
    contexts = wire_settings().tls_contexts()
    if contexts is None:
        return tcp_from_socket(sock, max_frame_size=max_frame_size)
    return tls_from_socket(sock, contexts.accept, max_frame_size=max_frame_size)


TCP = TransportSpec(
    key="tcp",
    address_type=TCPAddress,
    stream_type=MsgpackTCPStream,
    connect=_connect_tcp,
    bind=_listen_tcp,
    wrap=_wrap_tcp,
    families=(socket.AF_INET, socket.AF_INET6),
)
"""TCP, inside TLS where the tree's settings say so."""

ENTRY_POINT_GROUP = "tractor.transports"

SCHEME = re.compile(r"([a-z][a-z0-9_.-]*)://")
"""How an unwrapped address of another package's transport begins: ``<key>://``."""

_TRANSPORTS: dict[str, TransportSpec] = {"tcp": TCP, **({"uds": UDS} if HAS_UDS else {})}
"""Those that are loaded with the package, or were since."""

LATE: dict[str, str] = {"shm": "tractor.shm.ring._transport:SHM"} if sys.platform == "linux" else {}
"""Our own that most programs do not use, imported when their key is first met."""


def _fault_of(key: str, spec: object) -> str | None:
    """What is wrong with a loaded entry point, in words."""
    if not isinstance(spec, TransportSpec):
        return f"it is a {type(spec).__name__!r}, no tractor.ipc.TransportSpec"
    if spec.key != key:
        return f"its record has the key {spec.key!r}"
    if not SCHEME.fullmatch(f"{key}://"):
        return (
            "a key begins with a lower-case letter, followed by such letters, digits, '_', '-', '.'"
        )
    for part in (spec.address_type, spec.stream_type.address_type):
        if part.proto_key != key:
            return f"{part.__qualname__}.proto_key is {part.proto_key!r}"
    return None


_PLUGINS: EntryPointTable[TransportSpec] = EntryPointTable(
    ENTRY_POINT_GROUP, "transport", _fault_of
)
"""Those of other packages, imported when their key is first met."""


def loaded_transports() -> list[TransportSpec]:
    """The transports that were met so far, the built-in ones first."""
    return [*_TRANSPORTS.values(), *_PLUGINS.loaded()]


def transport_keys() -> list[str]:
    """The keys of all transports that this process could use, loaded or not, of every package."""
    return sorted({*_TRANSPORTS, *LATE, *_PLUGINS.names()})


def forget_plugins() -> None:
    """Look for entry points again, say after ``sys.path`` has changed; what was loaded is forgotten."""
    _PLUGINS.forget()


def find_transport(key: str) -> TransportSpec | None:
    """The transport with that key, built in or of another package; ``None`` where there is none.

    Raises:
        ImportError: a package says that it has one, but it can't be loaded or is not what it must be; the text names
            the entry point.
    """
    if key in LATE and key not in _TRANSPORTS:
        module, _, name = LATE[key].partition(":")
        _TRANSPORTS[key] = getattr(importlib.import_module(module), name)
    return _TRANSPORTS.get(key) or _PLUGINS.load(key)


def address_cls_of(key: str) -> type[Address] | None:
    """The address type of the transport ``key``; ``None`` where there is none.  Raises as :func:`find_transport`."""
    spec = find_transport(key)
    return None if spec is None else spec.address_type


def transport_by_key(key: str) -> TransportSpec:
    """The transport with that key, built in or of another package.

    Raises:
        NotImplementedError: there is none on this platform; the text lists the known keys.
        ImportError: another package has it, but it can't be loaded.
    """
    spec = find_transport(key)
    if spec is None:
        raise NotImplementedError(
            f"no transport {key!r} on this platform: known are {transport_keys()}"
        )
    return spec


def get_address_cls(key: str) -> type[Address]:
    """The address type of the transport ``key``.  Raises as :func:`transport_by_key`."""
    return transport_by_key(key).address_type


def known_transports(keys: Iterable[str]) -> list[str]:
    """The transports that somebody was given as ``enable_transports``, each once, in that order.

    Raises:
        NotImplementedError: there is no such transport here.
        ValueError: none is named.
    """
    given = [keys] if isinstance(keys, str) else keys
    found = list(dict.fromkeys(map(plain, given)))
    if not found:
        raise ValueError(
            "`enable_transports` is empty; name at least one of 'tcp', 'uds', or leave it out"
        )
    for key in found:
        get_address_cls(key)
    return found


def default_lo_addrs(keys: Iterable[str]) -> list[UnwrappedAddress]:
    """The default registry address of each transport in ``keys``, unwrapped, in that order.

    Raises:
        NotImplementedError: a key is of no known transport.
    """
    return [get_address_cls(key).get_root().unwrap() for key in keys]


def transport_of(addr: Address) -> TransportSpec:
    """The transport of a wrapped address.  Raises as :func:`transport_by_key`."""
    return transport_by_key(addr.proto_key)


def transport_of_stream(stream: trio.SocketStream) -> TransportSpec:
    """The transport of a connected stream, by the family of its socket.

    Raises:
        NotImplementedError: it has no socket, or one of a family that no transport in use claims.
    """
    sock: Any = getattr(stream, "socket", None)
    family = getattr(sock, "family", None)
    if family is not None:
        for spec in loaded_transports():
            if family in spec.families:
                return spec
    raise NotImplementedError(f"no transport for a {type(stream).__name__!r} ({family!r})")


def needs_key(key: str) -> bool:
    """Whether peers over the transport ``key`` prove the tree's key.  Raises as :func:`transport_by_key`."""
    return not transport_by_key(key).authenticates
