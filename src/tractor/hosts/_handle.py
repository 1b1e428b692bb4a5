"""A link to another host that is kept for a block."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import trio

from tractor.hosts._host import Host
from tractor.hosts._links import links_of
from tractor.hosts._place import HostLike, Place, is_url, place_at
from tractor.hosts._table import place_of
from tractor.runtime._state import current_actor
from tractor.runtime._vars import runtime_vars
from tractor.trionics._groups import collapse_eg
from tractor.trionics._ki import ki_protected_manager


class HostStatistics(msgspec.Struct, frozen=True):
    """What is known of another host.

    Attributes:
        host: as it was named.
        host_id: its id, by which two names of one host are seen to be one.
        hostname: as it calls itself.
        tractor, python, msgspec: versions there; of what is not installed ``None``.
        cores: that a process there may use.
        memory, free_memory: bytes, when the link was opened; ``None``: not known.
        clock_offset: seconds that its clock was ahead of this one's then, give or take a round trip.
        actors: that this actor has there.
    """

    host: str
    host_id: str
    hostname: str
    tractor: str | None
    python: str
    msgspec: str | None
    cores: int
    memory: int | None
    free_memory: int | None
    clock_offset: float
    actors: int


class HostHandle:
    """A host with an open link, for ``start_actor(host=)``.  Not built by users: see :func:`open_host`.

    Attributes:
        place: where it leads.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self.place: Place = host.place

    def __repr__(self) -> str:
        return f"<HostHandle {self.place.name!r}>"

    async def ping(self) -> float:
        """Seconds that a message takes there and back.

        Raises:
            HostUnavailable: the link is lost.
        """
        began = time.perf_counter()
        await self._host.ask({"t": "have", "hashes": []}, "has")
        return time.perf_counter() - began

    def statistics(self) -> HostStatistics:
        """A frozen record of plain values."""
        facts = self._host.facts
        return HostStatistics(
            host=self.place.name,
            host_id=self._host.host_id,
            hostname=facts["hostname"],
            tractor=facts["tractor"],
            python=facts["python"],
            msgspec=facts["msgspec"],
            cores=facts["cores"],
            memory=facts["memory"],
            free_memory=facts["free_memory"],
            clock_offset=facts["clock"] - self._host.opened_at,
            actors=len(self._host.processes),
        )


@ki_protected_manager
async def open_spread(
    hosts: Sequence[HostLike], per_host: int | None
) -> AsyncIterator[list[HostHandle]]:
    """Links to several hosts for the length of the block, opened at the same time.

    Args:
        hosts: on which actors are to be.
        per_host: actors on each; ``None``: as many as it has cores.

    Yields:
        A handle for each of the actors, host after host in turn.

    Raises:
        ValueError: no host, or ``per_host`` is below 1.
        HostUnavailable and others: as :func:`open_host`, of the first that fails.
    """
    if not hosts:
        raise ValueError("`hosts` names no host")
    if per_host is not None and per_host < 1:
        raise ValueError(f"per_host={per_host}: a host gets at least one actor")
    places = [place_of(host, runtime_vars()._hosts) for host in hosts]
    links = links_of(current_actor())
    opened: dict[int, Host] = {}
    try:
        async with collapse_eg(add_notes=False), trio.open_nursery() as tn:

            async def open_one(number: int, place: Place) -> None:
                opened[number] = await links.open(place)

            for number, place in enumerate(places):
                tn.start_soon(open_one, number, place)
        handles = [HostHandle(opened[number]) for number in range(len(places))]
        counts = [per_host or handle.statistics().cores for handle in handles]
        yield [
            handle
            for turn in range(max(counts))
            for handle, count in zip(handles, counts, strict=True)
            if turn < count
        ]
    finally:
        for host in opened.values():
            links.release(host)


@ki_protected_manager
async def open_host(host: str | Place, **options: Any) -> AsyncIterator[HostHandle]:
    """Keep a link to another host for the length of the block, so that a start there costs no more than one here.

    Args:
        host: a URL (``"ssh://bob@gpu1"``), or a name of the hosts table.
        options: of :class:`Place`, with a URL: ``python``, ``cwd``, ``env``, ``ship``, ``road``, ``listen``,
            ``advertise``, ``deadline``, ``start_timeout``, ``options``.

    Yields:
        A handle for ``start_actor(host=)``.

    Raises:
        NoRuntime: no actor runs here.
        HostUnavailable: the link can't be opened; says why.
        TypeError, ValueError: no host, or an option that can't be used.
    """
    if options:
        if not isinstance(host, str) or not is_url(host):
            raise TypeError(
                f"the options {sorted(options)} go with a URL; host {host!r} has its own"
            )
        place = place_at(host, **options)
    else:
        place = place_of(host, runtime_vars()._hosts)
    links = links_of(current_actor())
    opened = await links.open(place)
    try:
        yield HostHandle(opened)
    finally:
        links.release(opened)
