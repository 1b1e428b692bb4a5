"""Connections that are not peers yet, and what keeps them from the descriptors that peers need."""

from __future__ import annotations

import math
import sys

import trio

if sys.platform != "win32":
    import resource

from tractor import log as _log
from tractor._proto.connection.half_open import HalfOpen, source_of
from tractor.address._types import TCPAddress
from tractor.ipc._chan import Channel
from tractor.transport._settings import wire_settings

log = _log.get_logger()

STARVED_TIMEOUT = 1.0
"""Seconds without a free descriptor after which who waits for a peer is told."""


def half_open_limit() -> int:
    """At most a quarter of the descriptors that this process may have: the rest is for peers and files."""
    most = wire_settings().limits.max_half_open
    if sys.platform == "win32":
        return most
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)  # type: ignore[name-defined, unused-ignore]
    return most if soft < 0 else max(1, min(most, soft // 4))


class Doorstep:
    """A server's connections that have not yet shown who they are, and its want of descriptors for more."""

    def __init__(self) -> None:
        self._half_open: HalfOpen[Channel] = HalfOpen(half_open_limit())
        self._starving = trio.lowlevel.ParkingLot()
        self._starved_by: OSError | None = None
        # When accepting failed last, and since when it has done so.
        self._starved_at = self._starved_since = -math.inf

    def __len__(self) -> int:
        return len(self._half_open)

    def add(self, chan: Channel) -> None:
        """Count a new connection; where there are too many without an identity, the flood's oldest goes."""
        host = chan.raddr.host if isinstance(chan.raddr, TCPAddress) else ""
        victim = self._half_open.add(chan, source_of(host))
        if victim is not None:
            log.transport("too many connections without an identity: dropping %s", victim.raddr)
            victim.abort()

    def discard(self, chan: Channel) -> None:
        """It has shown who it is, or is gone.  Idempotent."""
        self._half_open.discard(chan)

    def make_room(self) -> int:
        """Out of descriptors: close half of the connections without an identity; returns how many."""
        victims = self._half_open.shed()
        for victim in victims:
            victim.abort()
        if victims:
            log.warning("out of descriptors: dropped %d unidentified connections", len(victims))
        return len(victims)

    def note_starved(self, exc: OSError) -> None:
        """No connection could be accepted just now."""
        now = trio.current_time()
        if now - self._starved_at > STARVED_TIMEOUT / 2:
            self._starved_since = now
        self._starved_at = now
        self._starved_by = exc
        self._starving.unpark_all()

    async def wait_starved(self) -> OSError:
        """Wait until no connection could be accepted for 1 s, for want of descriptors or memory; the error to raise."""
        while True:
            await self._starving.park()
            exc = self._starved_by
            if exc is not None and self._starved_at - self._starved_since >= STARVED_TIMEOUT:
                # One of those who wait; when that gives up there may be room for the others.
                self._starved_since = self._starved_at
                return OSError(exc.errno, exc.strerror)
