"""Who listens at a registered address: a registrar looks for itself before it believes what others say of one."""

from __future__ import annotations

import os
from typing import NamedTuple

import trio

from tractor import log as _log
from tractor.address._types import Address
from tractor.ipc._chan import Channel, transport_from_addr
from tractor.msg.types import Aid, Uid
from tractor.process.host._host_id import host_id

log = _log.get_logger()

NOTHING_ACCEPTS = (ConnectionRefusedError, FileNotFoundError, NotADirectoryError)
"""The only errors that tell that nobody listens at an address; a host or a network may just be away.

Systems of the BSD family, macOS too, also refuse a Unix socket's connection while the listener's queue is full, where
Linux lets it wait: a stopped actor with 128 waiting connections can't be told from a dead one there.
"""

TRY_TIMEOUT = 1.0
"""Seconds that one look takes at most."""

TRY_PAUSE = 0.1
"""Seconds between two looks at one address: who listens there must not be kept busy by them."""

MAX_TRIES = 16
"""Addresses that are looked at at a time."""


class Seen(NamedTuple):
    """What a look at an address has shown.

    Attributes:
        certain: whether it has shown anything; not where it can't be reached from here, or does not answer in time.
        uid: who listens there; ``None``: nobody.
    """

    certain: bool
    uid: Uid | None


UNKNOWN = Seen(False, None)
NOBODY = Seen(True, None)


class _Look:
    """One look at an address, for all who ask while it goes on."""

    def __init__(self) -> None:
        self.seen = UNKNOWN
        self.done = trio.Event()
        self.over = trio.Event()


class Listeners:
    """Looks at addresses, a few at a time, and at each once for all who ask at the same time."""

    def __init__(self) -> None:
        self._looks: dict[Address, _Look] = {}
        self._slots = trio.Semaphore(MAX_TRIES)

    async def at(self, addr: Address, nursery: trio.Nursery) -> Seen:
        """Who listens at an address.

        Args:
            addr: where to look.
            nursery: hosts the look, which others may wait for, too.
        """
        while (look := self._looks.get(addr)) is not None and look.done.is_set():
            # What it has seen was before we were asked.
            await look.over.wait()
        if look is None:
            look = self._looks[addr] = _Look()
            nursery.start_soon(self._look, addr, look, name=f"look at {addr}")
        await look.done.wait()
        return look.seen

    @trio.lowlevel.enable_ki_protection
    async def _look(self, addr: Address, look: _Look) -> None:
        try:
            async with self._slots:
                with trio.move_on_after(TRY_TIMEOUT):
                    look.seen = await _who_listens(addr)
            look.done.set()
            await trio.sleep(TRY_PAUSE)
        finally:
            look.done.set()
            look.over.set()
            self._looks.pop(addr, None)


async def _who_listens(addr: Address) -> Seen:
    for last in (False, True):
        try:
            chan = Channel(await transport_from_addr(addr), "connect")
        except NOTHING_ACCEPTS:
            if last:
                return NOBODY
            # A listener whose queue is full may look so for a moment.
            continue
        except Exception as exc:
            # Also of another package's transport, whatever it makes of what a peer has registered.
            log.transport("%s can't be reached from here: %r", addr, exc)
            return UNKNOWN
        try:
            me = Aid("probe", os.urandom(16).hex(), os.getpid(), is_probe=True, host=host_id())
            return Seen(True, (await chan.handshake(me)).uid)
        except Exception as exc:
            log.transport("what accepts at %s did not identify itself: %s", addr, exc)
            return UNKNOWN
        finally:
            chan.abort()
    raise AssertionError("unreachable")
