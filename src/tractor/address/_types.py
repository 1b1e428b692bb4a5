"""The address types of the built-in transports.

A *wrapped* address is an instance of one of these; an *unwrapped* one is the plain pair that
travels in messages. Making an address touches neither network nor files: whether something listens
there is the transport's affair.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Protocol, TypeAlias, TypeGuard
from uuid import uuid4

import msgspec

from tractor._util._plain import plain
from tractor.address._hosts import IPAddress, canonical_host, plain_ip
from tractor.address._maddr_text import split_maddr, tcp_maddr, uds_maddr
from tractor.address._socket_names import (
    SUN_PATH_SIZE,
    fits,
    is_encodable,
    one_spelling,
    socket_name,
)
from tractor.process._dirs import runtime_dir_path

HAS_UDS: bool = hasattr(socket, "AF_UNIX") and os.name == "posix"

REGISTRY_PORT = 1616

UnwrappedAddress: TypeAlias = tuple[str, int] | tuple[str, str]


class Address(Protocol):
    """What every wrapped address offers; frozen and hashable."""

    proto_key: ClassVar[str]
    unwrapped_type: ClassVar[type[tuple[Any, ...]]]
    def_bindspace: ClassVar[Any]

    @property
    def bindspace(self) -> str | Path:
        """The part of the address within which a free one may be picked: a host, a directory."""

    @property
    def is_valid(self) -> bool:
        """Whether this is one definite address that can be bound."""

    @classmethod
    def recognises(cls, addr: object) -> bool:
        """Whether ``addr`` has the form of this type's unwrapped address."""

    @classmethod
    def from_addr(cls, addr: Any) -> Address:
        """Wrap an unwrapped address (a tuple, or the list that msgpack makes of one)."""

    def unwrap(self) -> UnwrappedAddress:
        """The plain pair that travels in messages."""

    @classmethod
    def get_random(
        cls,
        bindspace: Any = None,
        *,
        name: str | None = None,
        pid: int | None = None,
        uuid: str | None = None,
    ) -> Address:
        """An address to listen on in ``bindspace`` that nobody uses."""

    @classmethod
    def get_root(cls) -> Address:
        """The default address of a registrar."""


Addr: TypeAlias = UnwrappedAddress | Address | str
"""An address as users give one: unwrapped, wrapped, or a multiaddr."""


def mk_uuid() -> str:
    """A new random actor uuid."""
    return str(uuid4())


def _is_pair(addr: object, second: type) -> TypeGuard[tuple[str, Any] | list[Any]]:
    return (
        isinstance(addr, tuple | list)
        and len(addr) == 2
        and isinstance(addr[0], str)
        and isinstance(addr[1], second)
        and not isinstance(addr[1], bool)
    )


def _plain_pair(cls: type[Address], addr: object, form: str) -> tuple[str, Any]:
    """The pair that ``addr``, in any form that an address of the type ``cls`` has, stands for.

    Raises:
        TypeError: it is not an address of this type; ``form`` says in words what one looks like.
        ValueError: it is a string that begins like a multiaddr and is none.
    """
    if isinstance(addr, str) and addr.startswith("/"):
        key, pair = split_maddr(addr)
        if key == cls.proto_key:
            return pair
    elif cls.recognises(addr):
        known: Any = addr
        return known[0], known[1]
    raise TypeError(f"an unwrapped {cls.proto_key.upper()} address is a {form} pair, not {addr!r}")


class TCPAddress(msgspec.Struct, frozen=True):
    """A TCP endpoint.

    Args:
        host: an IP literal, kept in its canonical spelling, or a DNS name, kept in lower case and
            resolved when connecting or binding.
        port: 1..65535; 0 asks the system for a free one when binding, and the bound address has the
            real one.

    Raises:
        ValueError: ``host`` is neither an IP literal nor a DNS name.
        TypeError: ``host`` is not a `str`, or ``port`` no `int`.
    """

    host: str
    port: int

    proto_key: ClassVar[str] = "tcp"
    unwrapped_type: ClassVar[type[tuple[Any, ...]]] = tuple
    def_bindspace: ClassVar[str] = "127.0.0.1"

    def __post_init__(self) -> None:
        given = (self.host, self.port)
        if not _is_pair(given, int):
            raise TypeError(f"a TCP address is a host (str) and a port (int), not {given!r}")
        # Of no subclass: messages and command lines carry plain values.
        msgspec.structs.force_setattr(self, "host", canonical_host(plain(self.host)))
        msgspec.structs.force_setattr(self, "port", int(self.port))

    @property
    def ip(self) -> IPAddress | None:
        """The host as an IP address (an IPv4 one mapped into IPv6 as itself), `None` for a name."""
        return plain_ip(self.host)

    @property
    def bindspace(self) -> str:
        """The host."""
        return self.host

    @property
    def is_wildcard(self) -> bool:
        """Whether the host stands for every address of this machine: ``0.0.0.0`` or ``::``."""
        ip = self.ip
        return ip is not None and ip.is_unspecified

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect: a loopback literal or ``localhost`` (RFC 6761)."""
        ip = self.ip
        return self.host.removesuffix(".") == "localhost" if ip is None else ip.is_loopback

    @property
    def is_valid(self) -> bool:
        """A port in 1..65535 on a host that is not a multicast address; wildcards are valid."""
        ip = self.ip
        return 1 <= self.port <= 65535 and not (ip is not None and ip.is_multicast)

    @property
    def why_invalid(self) -> str:
        """In words what is wrong with an address that is not `is_valid`."""
        if 1 <= self.port <= 65535:
            return "the host is a multicast address"
        return "the port must be in 1..65535"

    @property
    def is_local(self) -> bool:
        """Whether the host is this one, as far as can be told without asking the network.

        It is if it is a loopback or wildcard address, an address of an own interface, ``localhost`` or the own host
        name; other DNS names are not resolved and count as remote.
        """
        ip = self.ip
        if ip is None:
            return self.is_loopback or self.host.removesuffix(".") == socket.gethostname().lower()
        return ip.is_loopback or ip.is_unspecified or _is_own_interface(ip)

    @property
    def from_this_host(self) -> TCPAddress:
        """Where an actor of this host reaches a listener that is bound to it: of a wildcard the loopback address."""
        if not self.is_wildcard:
            return self
        return TCPAddress("::1" if ":" in self.host else "127.0.0.1", self.port)

    def to_maddr(self) -> str:
        """The multiaddr string."""
        return tcp_maddr(self.host, self.port)

    @classmethod
    def recognises(cls, addr: object) -> bool:
        """Whether ``addr`` is a pair of a `str` and an `int`."""
        return _is_pair(addr, int)

    @classmethod
    def from_addr(cls, addr: tuple[str, int] | list[Any] | TCPAddress | str) -> TCPAddress:
        """Wrap ``(host, port)``, or a multiaddr string; a wrapped address is returned as it is.

        Raises:
            TypeError: ``addr`` has another form, or is of another transport.
            ValueError: the host is none, or the string no multiaddr.
        """
        if isinstance(addr, cls):
            return addr
        return cls(*_plain_pair(cls, addr, "(host: str, port: int)"))

    def unwrap(self) -> tuple[str, int]:
        """``(host, port)``."""
        return self.host, self.port

    @classmethod
    def get_random(
        cls,
        bindspace: str | None = None,
        *,
        name: str | None = None,
        pid: int | None = None,
        uuid: str | None = None,
    ) -> TCPAddress:
        """A free port of the host ``bindspace`` (default: IPv4 loopback).

        The port is 0: the system picks one when the address is bound, which no other process can
        get in between. Until then the address is not `is_valid`. The other arguments are for
        transports whose addresses have names.
        """
        return cls(cls.def_bindspace if bindspace is None else bindspace, 0)

    @classmethod
    def get_root(cls) -> TCPAddress:
        """The registrar's default: port 1616 of IPv4 loopback."""
        return cls(cls.def_bindspace, REGISTRY_PORT)


def _is_own_interface(ip: IPAddress) -> bool:
    """Whether an interface of this machine has the address; to find out takes no packet."""
    try:
        # Only resolved for its zone, which `bind` does not read; no name server is asked for a literal.
        family, kind, _, _, sockaddr = socket.getaddrinfo(
            str(ip), 0, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )[0]
        # Only an address of an own interface can be bound.
        with socket.socket(family, kind) as probe:
            probe.bind(sockaddr)
    except (OSError, UnicodeError):
        return False
    return True


class _RuntimeDir:
    """`UDSAddress.def_bindspace`: read at each use, because the environment may change."""

    def __get__(self, obj: object, owner: type | None = None) -> Path:
        return runtime_dir_path()


class UDSAddress(msgspec.Struct, frozen=True, eq=False):
    """A Unix domain socket file.

    Two addresses are equal when they name the same file: `maybe_pid` is what was learnt about one
    connection.

    Args:
        filedir: the directory; kept without doubled or trailing slashes and ``.`` parts.
        filename: the plain name of the file in it.
        maybe_pid: process at the other end, where the kernel has said so.

    Raises:
        ValueError: ``filename`` is not a plain file name, or the path has a NUL byte, or a character that no file
            name can have on this system.
        TypeError: one of the two is not a string.
    """

    filedir: str
    filename: str
    maybe_pid: int | None = None

    proto_key: ClassVar[str] = "uds"
    unwrapped_type: ClassVar[type[tuple[Any, ...]]] = tuple
    def_bindspace: ClassVar[Any] = _RuntimeDir()

    def __post_init__(self) -> None:
        given_dir: Any = self.filedir
        filedir = str(given_dir) if isinstance(given_dir, Path) else given_dir
        given = (filedir, self.filename)
        if not _is_pair(given, str):
            raise TypeError(f"a UDS address is a directory and a file name (str), not {given!r}")
        whole = filedir + self.filename
        bad_name = self.filename in ("", ".", "..") or "/" in self.filename
        if bad_name or "\0" in whole or not is_encodable(whole):
            raise ValueError(
                f"{self.filename!r} in {filedir!r} is not a plain file name for a socket"
            )
        msgspec.structs.force_setattr(self, "filedir", one_spelling(plain(filedir)))
        msgspec.structs.force_setattr(self, "filename", plain(self.filename))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UDSAddress) and self.sockpath == other.sockpath

    def __hash__(self) -> int:
        return hash(self.sockpath)

    @property
    def sockpath(self) -> Path:
        """The path of the socket file."""
        return Path(self.filedir, self.filename)

    @property
    def bindspace(self) -> Path:
        """The directory."""
        return Path(self.filedir)

    @property
    def is_valid(self) -> bool:
        """An absolute path that fits into the kernel's socket address."""
        return self.sockpath.is_absolute() and fits(Path(self.filedir), self.filename)

    @property
    def why_invalid(self) -> str:
        """In words what is wrong with an address that is not `is_valid`."""
        if not self.sockpath.is_absolute():
            return "the path must be absolute"
        size = len(os.fsencode(self.sockpath))
        return f"a path of {size} bytes is over the {SUN_PATH_SIZE - 1} of a socket address"

    @property
    def is_local(self) -> bool:
        """Whether the socket file exists here."""
        return os.path.lexists(self.sockpath)

    def to_maddr(self) -> str:
        """The multiaddr string.

        Raises:
            ValueError: the path is relative.
        """
        path = PurePosixPath(self.sockpath.as_posix())
        if not path.is_absolute():
            raise ValueError(
                f"{self!r} has no multiaddr form: its path is relative, and one in a multiaddr is absolute"
            )
        return uds_maddr(path, "unix" if self.proto_key == "uds" else self.proto_key)

    @classmethod
    def recognises(cls, addr: object) -> bool:
        """Whether ``addr`` is a pair of strings."""
        return _is_pair(addr, str)

    @classmethod
    def from_addr(cls, addr: tuple[str, str] | list[Any] | UDSAddress | str) -> UDSAddress:
        """Wrap ``(directory, filename)``, or a multiaddr string; a wrapped address is returned as it is.

        Raises:
            TypeError: ``addr`` has another form, or is of another transport.
            ValueError: the file name is none, or the string no multiaddr.
        """
        if isinstance(addr, cls):
            return addr
        return cls(*_plain_pair(cls, addr, "(directory: str, filename: str)"))

    def unwrap(self) -> tuple[str, str]:
        """``(directory, filename)``."""
        return self.filedir, self.filename

    @classmethod
    def get_sockname(cls, name: str, pid: int, bindspace: str | Path) -> str:
        """The file name for the actor ``name`` with process id ``pid`` in the directory
        ``bindspace``.

        ``<name>@<pid>.sock``; a name that is unsafe in a path, or too long for the kernel's socket
        address, is replaced by ``actor.<blake2s digest of the name>``.

        Raises:
            ValueError: the directory leaves no room for any name.
        """
        return socket_name(name, "", pid, Path(bindspace))

    @classmethod
    def get_random(
        cls,
        bindspace: str | Path | None = None,
        *,
        name: str | None = None,
        pid: int | None = None,
        uuid: str | None = None,
    ) -> UDSAddress:
        """An address in the directory ``bindspace`` (default: the runtime directory) whose file
        does not exist.

        Args:
            name: the actor's; without it the file gets a name that is new each time.
            pid: the process that will listen; default the own one.
            uuid: the actor's, whose first six digits follow the name where the file name is taken;
                default random.

        Raises:
            ValueError: the directory leaves no room for the name.
        """
        where = cls.def_bindspace if bindspace is None else Path(bindspace)
        pid = os.getpid() if pid is None else pid
        if name is not None:
            plain = cls(str(where), socket_name(name, "", pid, where))
            if not os.path.lexists(plain.sockpath):
                return plain
        digits = mk_uuid()[:6] if uuid is None else uuid[:6]
        return cls(
            str(where), socket_name("actor" if name is None else name, f"-{digits}", pid, where)
        )

    @classmethod
    def get_root(cls) -> UDSAddress:
        """The registrar's default: ``registry@1616.sock`` in the runtime directory."""
        return cls(str(cls.def_bindspace), f"registry@{REGISTRY_PORT}.sock")
