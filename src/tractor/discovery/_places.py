"""Who is registered where: what a peer says of uids and addresses, checked, and the hosts that they are on."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from tractor._util._names import plain_text
from tractor.address._policy import is_local, is_within_host, require_connectable
from tractor.address._types import Address, TCPAddress, UDSAddress, UnwrappedAddress
from tractor.ipc._chan import Channel
from tractor.msg.types import Uid
from tractor.process.host._host_id import is_here
from tractor.transport._addresses import wrap_address


class Place(NamedTuple):
    """Where something listens, told apart from the same on another host.

    Attributes:
        host: of an address that means something within one host only the id of that host (of a peer that says none the
            address from which it has come); ``None``: the registrar's own, or the address means the same everywhere.
        addr: the address, unwrapped.
    """

    host: str | None
    addr: UnwrappedAddress


class Birth(NamedTuple):
    """What an actor says of its start.

    Attributes:
        started: when, in seconds since 1970; ``None``: it does not say.
        parent: who has started it; ``None``: it is a root, or does not say.
    """

    started: float | None
    parent: Uid | None


def checked_name(name: Any) -> str:
    """``name`` as plain text.  Raises TypeError: it is not a string."""
    return plain_text(name, "an actor's name is a string")


def checked_uid(uid: Any) -> Uid:
    """The uid that ``uid`` is, in the form in which messages carry it, too.  Raises TypeError: it is none."""
    # Not by unpacking alone: 'ab' and a dict of two unpack as well.
    if isinstance(uid, tuple | list) and len(uid) == 2 and all(isinstance(s, str) for s in uid):
        return uid[0], uid[1]
    raise TypeError(f"an actor's uid is a pair (name: str, uuid: str), not {uid!r}")


def checked_addr(addr: Any) -> Address:
    """The address that somebody registers.  Raises TypeError, ValueError."""
    wrapped = wrap_address(addr)
    require_connectable(wrapped)
    return wrapped


def find_arguments(name: Any, every: Any = False) -> tuple[str, bool]:
    return checked_name(name), bool(every)


def register_arguments(
    uid: Any, addr: Any, started: Any = None, parent: Any = None
) -> tuple[Uid, Address, Birth]:
    """What somebody registers.  Raises TypeError, ValueError."""
    above = None if parent is None else checked_uid(parent)
    return checked_uid(uid), checked_addr(addr), Birth(checked_time(started), above)


def checked_time(started: Any) -> float | None:
    """When somebody says that it was started; ``None``: it does not say.  Raises TypeError, ValueError."""
    if started is None:
        return None
    if not isinstance(started, int | float) or isinstance(started, bool):
        raise TypeError(
            f"the time of a start is a number of seconds since 1970, not {started!r:.80}"
        )
    if not 0 <= started < math.inf:
        raise ValueError(f"the time of a start is a number of seconds since 1970, not {started!r}")
    return float(started)


def delete_arguments(addr: Any, uid: Any = None) -> tuple[Address, Uid | None]:
    return wrap_address(addr), None if uid is None else checked_uid(uid)


def addrs_of(places: list[Place]) -> list[UnwrappedAddress]:
    return [place.addr for place in places]


def addrs_for(places: list[Place], host: str | None) -> list[UnwrappedAddress]:
    """Those addresses that lead from a host to who listens there; ``None``: the registrar's own."""
    return [place.addr for place in places if _leads_from(host, place)]


def _leads_from(host: str | None, place: Place) -> bool:
    if place.host == host:
        return True
    return place.host is None and not is_within_host(wrap_address(place.addr))


def place_at(addr: Address, host: str | None) -> Place:
    return Place(host if is_within_host(addr) else None, addr.unwrap())


def host_of(chan: Channel) -> str | None:
    """The host that a peer is on; ``None``: the registrar's own.

    It says so itself.  Only that it is on the registrar's own is not believed where it has come from elsewhere.
    """
    said = None if chan.aid is None else chan.aid.host
    if not is_here(said):
        return said
    addr = chan.raddr
    return addr.host if isinstance(addr, TCPAddress) and not is_local(addr) else None


def end_of(addr: Address) -> tuple[str, int] | None:
    """What both sides of a connection know of the end that has connected, and no other connection can have.

    On TCP that is its address and port, on a Unix socket its process; ``None``: there is no such thing.
    """
    if isinstance(addr, TCPAddress):
        return str(addr.ip), addr.port
    if isinstance(addr, UDSAddress) and addr.maybe_pid:
        return "", addr.maybe_pid
    return None


def is_at_home(addr: Address, chan: Channel) -> bool:
    """Whether an address is on the host of the peer, as far as can be told by comparing; a name is on none."""
    if not isinstance(addr, TCPAddress) or addr.is_loopback:
        return True
    if host_of(chan) is None:
        return is_local(addr)
    return isinstance(chan.raddr, TCPAddress) and addr.ip is not None and addr.ip == chan.raddr.ip
