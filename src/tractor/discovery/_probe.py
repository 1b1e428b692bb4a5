"""Finding out what is at a registry address before a root takes it."""

from __future__ import annotations

import enum
import os
from typing import NamedTuple

import trio

from tractor import log as _log
from tractor._errors import TransportClosed
from tractor.address._types import UnwrappedAddress
from tractor.ipc._chan import Channel, transport_from_addr
from tractor.msg.types import Aid
from tractor.process.host._host_id import host_id
from tractor.trionics._groups import collapse_eg

log = _log.get_logger()

TOTAL_TIMEOUT = 3.0
ATTEMPT_TIMEOUT = 1.0
ATTEMPTS = 3
PAUSE = 0.05
"""Seconds, times the number of the attempt."""
CLOSE_TIMEOUT = 0.2

NO_WORD = "it accepts, and says nothing"


class Probe(enum.Enum):
    """What is at an address."""

    REGISTRAR = "a registrar"
    ABSENT = "nothing"
    OCCUPIED = "something that is not a registrar"


class Probed(NamedTuple):
    """What is at an address, and for what is not a registrar, how that showed."""

    probe: Probe
    why: str


@trio.lowlevel.enable_ki_protection
async def probe_all(addrs: list[UnwrappedAddress]) -> dict[UnwrappedAddress, Probed]:
    """Probe every address, all at once; takes at most 3 s."""
    found = dict.fromkeys(addrs, Probed(Probe.OCCUPIED, NO_WORD))

    async def one(addr: UnwrappedAddress) -> None:
        found[addr] = await _probe(addr)

    with trio.move_on_after(TOTAL_TIMEOUT):
        async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
            for addr in addrs:
                tn.start_soon(one, addr)
    return found


@trio.lowlevel.enable_ki_protection
async def _probe(addr: UnwrappedAddress) -> Probed:
    """One address.  That nothing accepts is certain at once; what accepts but does not answer is asked again."""
    why = NO_WORD
    for attempt in range(1, ATTEMPTS + 1):
        with trio.move_on_after(ATTEMPT_TIMEOUT):
            try:
                return await _attempt(addr)
            except OSError as exc:
                log.transport("nothing accepts at %s: %r", addr, exc)
                return Probed(Probe.ABSENT, str(exc))
            except TransportClosed as exc:
                log.transport("what accepts at %s did not identify itself: %s", addr, exc)
                why = str(exc)
        await trio.sleep(PAUSE * attempt)
    return Probed(Probe.OCCUPIED, why)


async def _attempt(addr: UnwrappedAddress) -> Probed:
    chan = Channel(await transport_from_addr(addr), "connect")
    try:
        aid = await chan.handshake(
            Aid("probe", os.urandom(16).hex(), os.getpid(), is_probe=True, host=host_id())
        )
        if aid.is_registrar:
            return Probed(Probe.REGISTRAR, "")
        return Probed(Probe.OCCUPIED, f"the actor {aid.reprol()} listens there")
    finally:
        with trio.move_on_after(CLOSE_TIMEOUT, shield=True):
            await chan.aclose()
        chan.abort()
