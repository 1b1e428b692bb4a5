"""Which of the connections that have not yet shown who they are has to go when there are too many.

Whoever can reach a listener can open connections and say nothing. Each costs a descriptor until its
deadline, so their number is bounded. The one that goes is the oldest of the source that has most of
them: a flood drops its own, and a rightful peer, which is through in a few round trips, stays. Where
no source has many it is a flood of many addresses, and the oldest of all goes: else two rightful peers
of one host would be the crowd.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Final, Generic, TypeVar

T = TypeVar("T")

SPARED: Final = 16
"""So many are never shed: with no more than that, it is not they who use everything up."""

CROWD: Final = 8
"""The part of the limit, one in so many, that makes a source a crowd."""

_IPV6_NETWORK: Final = 64
"""Bits; one host can have every address behind them."""


def source_of(host: str) -> str:
    """What counts as one source: an address, of IPv6 its /64 network, else the text as it is.

    Every loopback address is this host, which may take any of them.
    """
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return "loopback"
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(ip), _IPV6_NETWORK), strict=False))
    return str(ip)


class HalfOpen(Generic[T]):
    """The connections without an identity, oldest first, all of them and within each source.

    Args:
        limit: how many there may be; at least 1.

    Raises:
        ValueError: a limit below 1.
    """

    __slots__ = ("_by_source", "_sources", "limit")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"the limit of half-open connections must be at least 1, not {limit}")
        self.limit = limit
        self._sources: dict[T, str] = {}
        self._by_source: dict[str, OrderedDict[T, None]] = {}

    def __len__(self) -> int:
        return len(self._sources)

    def __contains__(self, item: T) -> bool:
        return item in self._sources

    def add(self, item: T, source: str) -> T | None:
        """Note a new one; returns the one that has to go for it, which is noted no more.

        Raises:
            ValueError: it is noted already.
        """
        if item in self._sources:
            raise ValueError(f"{item!r} is noted already")
        self._sources[item] = source
        self._by_source.setdefault(source, OrderedDict())[item] = None
        return self._take_victim() if len(self._sources) > self.limit else None

    def discard(self, item: T) -> None:
        """Forget one that has shown who it is, or has ended; unknown ones are ignored."""
        source = self._sources.pop(item, None)
        if source is None:
            return
        queue = self._by_source[source]
        del queue[item]
        if not queue:
            del self._by_source[source]

    def shed(self) -> list[T]:
        """Out of descriptors: the half that has to go, noted no more; none of `SPARED` or fewer.

        As many as stay are the limit from now on: what has used everything up may not do so again.
        """
        if len(self._sources) <= SPARED:
            return []
        victims = [self._take_victim() for _ in range(len(self._sources) // 2)]
        self.limit = len(self._sources)
        return victims

    def _take_victim(self) -> T:
        # Of sources with equally many it is the one that came first.
        crowd = max(self._by_source.values(), key=len)
        # Both are in the order of arrival.
        victim = next(iter(crowd if len(crowd) * CROWD > self.limit else self._sources))
        self.discard(victim)
        return victim
