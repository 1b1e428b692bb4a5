"""Whether an address may be listened on or connected to, and where it is, whatever package its type is from."""

from __future__ import annotations

from collections.abc import Sequence

from tractor.address._types import Addr, Address, TCPAddress, UDSAddress


def one_or_several(several: Sequence[Addr] | None, one: Addr | None) -> Sequence[Addr] | None:
    """What was given as ``registry_addrs=`` or, for a single one, as ``registry_addr=``.  Raises TypeError for both."""
    if one is None:
        return several
    if several is not None:
        raise TypeError(f"give `registry_addrs` or `registry_addr`, not both: {several!r}, {one!r}")
    return [one]


def require_bindable(addr: Address) -> None:
    """Check that ``addr`` can be listened on: it is valid, or has TCP port 0 beside a good host.

    Raises:
        ValueError: it is not; the text names it.
    """
    probe = TCPAddress(addr.host, 1) if isinstance(addr, TCPAddress) and addr.port == 0 else addr
    if not probe.is_valid:
        raise ValueError(f"cannot listen on {addr!r}: {_why(addr)}")


def require_connectable(addr: Address) -> None:
    """Check that ``addr`` is one definite address that a peer can connect to.

    Raises:
        ValueError: it is not; the text names it.
    """
    if not addr.is_valid:
        raise ValueError(f"cannot connect to {addr!r}: {_why(addr)}")
    if isinstance(addr, TCPAddress) and addr.is_wildcard:
        raise ValueError(
            f"cannot connect to {addr!r}: a wildcard host stands for no single address"
        )


def _why(addr: Address) -> str:
    return str(getattr(addr, "why_invalid", "the address is not valid"))


def from_this_host(addr: Address) -> Address:
    """The address at which an actor of this host reaches a listener that is bound to ``addr``.

    That is ``addr``, but for a TCP wildcard the loopback address of its family.
    """
    found: Address = getattr(addr, "from_this_host", addr)
    return found


def is_local(addr: Address) -> bool:
    """Whether ``addr`` is on this machine, as far as can be told without asking the network.

    A TCP host is if it is a loopback or wildcard address, an address of an own interface,
    ``localhost`` or the own host name; other DNS names are not resolved and count as remote. A UDS
    address is if its file exists here; one of another package's transport is if its ``is_loopback`` says so.
    """
    own = getattr(addr, "is_local", None)
    return bool(getattr(addr, "is_loopback", False) if own is None else own)


def is_within_host(addr: Address) -> bool:
    """Whether ``addr`` leads to a listener of one host alone: on another one it is somebody else's, or nobody's.

    That is a TCP loopback address, or one of a socket file; one of another package's transport if its ``is_loopback``
    says so.
    """
    return bool(getattr(addr, "is_loopback", isinstance(addr, UDSAddress)))


def reaches_further(addr: Address) -> bool:
    """Whether an actor of another host can be given ``addr``, to connect to: one definite address of this host's."""
    return not is_within_host(addr) and not getattr(addr, "is_wildcard", False)


def maddr_of(addr: Address) -> str:
    """The multiaddr string of a wrapped address.

    Raises:
        ValueError: its transport has no multiaddr form, or it is a relative path.
    """
    to_maddr = getattr(addr, "to_maddr", None)
    if to_maddr is None:
        raise ValueError(
            f"an address of transport {addr.proto_key!r} has no multiaddr form: {addr!r}"
        )
    return str(to_maddr())
