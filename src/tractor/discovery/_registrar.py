"""The actor that keeps the table of names and addresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio

from tractor import log as _log
from tractor._proto.registry import RegistryTable
from tractor._util._names import plain_text
from tractor.ipc._addr import (
    Address,
    TCPAddress,
    UDSAddress,
    UnwrappedAddress,
    is_local,
    require_connectable,
    wrap_address,
)
from tractor.ipc._chan import Channel
from tractor.ipc._uds_leftovers import FileMark, file_mark, remove_if_dead
from tractor.msg.types import Uid
from tractor.runtime._actor import Actor

__all__ = ["Registrar", "checked_name"]

log = _log.get_logger()

DYING_TIME = 2.0
DYING_PAUSE = 0.1
"""Seconds in which a killed process has let go of its listeners, and between looks at them."""


class Registrar(Actor):
    """An actor that is also the registrar; its six registry requests may be made by every peer."""

    is_registrar: bool = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table: RegistryTable[UnwrappedAddress, trio.Event] = RegistryTable()
        # Which channels keep an actor's entries alive; the last one to end takes them along.
        self._keepers: dict[Uid, dict[Channel, None]] = {}
        # The socket files that an actor listens at, to be removed should it be killed.
        self._files: dict[Uid, dict[Path, FileMark]] = {}
        self.add_request("find_actor", lambda chan, name, every=False: self._find(name, every))
        self.add_request("get_registry", lambda chan: self._table.get_registry())
        self.add_request("register_actor", self._register)
        self.add_request("unregister_actor", lambda chan, uid: self._unregister(uid))
        self.add_request("delete_addr", self._request_delete)
        self.add_async_request("wait_for_actor", self.wait_for_actor)

    async def find_actor(self, name: str, every: bool = False) -> list[Any] | None:
        """The addresses of the newest registration of ``name``; ``None`` when there is none.

        Args:
            name: the actors'.
            every: give all registrations instead, newest first: each one's uuid, age in seconds and addresses.
        """
        await trio.lowlevel.checkpoint()
        return self._find(name, every)

    def _find(self, name: Any, every: Any) -> list[Any] | None:
        checked_name(name)
        if not every:
            return self._table.find(name)
        found = self._table.find_all(name, trio.current_time())
        return [(entry.uid[1], entry.age, entry.addrs) for entry in found]

    async def wait_for_actor(self, name: str) -> list[UnwrappedAddress]:
        """Wait until an actor of that name is registered; its addresses."""
        checked_name(name)
        while True:
            arrival = trio.Event()
            found = self._table.add_waiter(name, arrival)
            if found is not None:
                await trio.lowlevel.checkpoint()
                return found
            try:
                await arrival.wait()
            finally:
                self._table.drop_waiter(name, arrival)

    async def get_registry(self) -> dict[str, list[UnwrappedAddress]]:
        """Every registration: addresses by ``'name.uuid'``."""
        await trio.lowlevel.checkpoint()
        return self._table.get_registry()

    async def register_actor(self, uid: Uid, addr: UnwrappedAddress | Address | str) -> None:
        """Note that the actor ``uid`` listens on ``addr``; a former owner of the address loses it.

        Raises:
            ValueError: nobody could connect to the address.
            TypeError: it is no address, or ``uid`` no pair of strings.
        """
        await trio.lowlevel.checkpoint()
        self._register(None, uid, addr)

    async def unregister_actor(self, uid: Uid) -> None:
        """Forget the actor ``uid`` and all its addresses.  Raises TypeError where it is no pair of strings."""
        await trio.lowlevel.checkpoint()
        self._unregister(uid)

    async def delete_addr(
        self, addr: UnwrappedAddress | Address | str, uid: Uid | None = None
    ) -> Uid | None:
        """Forget one address.

        Args:
            addr: the address.
            uid: forget it only while it is this actor's, as for a peer that asks; ``None``: whosever it is.

        Returns:
            The uid that had it; ``None`` if nothing was forgotten.  A peer that asks for the deletion of an
            address within one host (a Unix socket, a loopback port) must be on the host of the actor that has
            it, as far as the registrar can tell: on another one nobody listens there, and that means nothing.
        """
        await trio.lowlevel.checkpoint()
        # With a uid it is a look-up of this actor's own that has met nobody, which says no more than a peer's.
        return self._delete(addr) if uid is None else self._request_delete(None, addr, uid)

    def _register(self, chan: Channel | None, uid: Any, addr: Any) -> None:
        own = _checked_uid(uid)
        wrapped = wrap_address(addr)
        require_connectable(wrapped)
        if chan is not None and chan.aid is not None and chan.aid.uid == own:
            self._keepers.setdefault(own, {})[chan] = None
            if own not in self.children:
                chan.is_registration = True
                self.ipc_server.note_departure()
        if isinstance(wrapped, UDSAddress) and (mark := file_mark(wrapped.sockpath)) is not None:
            self._files.setdefault(own, {})[wrapped.sockpath] = mark
        for arrival in self._table.register(own, wrapped.unwrap(), trio.current_time()):
            arrival.set()
        log.runtime("registered %s at %s", own, wrapped)

    def _unregister(self, uid: Any) -> None:
        known = _checked_uid(uid)
        self._table.unregister(known)
        self._keepers.pop(known, None)
        self._files.pop(known, None)

    def _delete(self, addr: Any, uid: Any = None) -> Uid | None:
        owner = None if uid is None else _checked_uid(uid)
        return self._table.delete_addr(wrap_address(addr).unwrap(), owner)

    def _request_delete(self, chan: Channel | None, addr: Any, uid: Any = None) -> Uid | None:
        if uid is not None:
            _checked_uid(uid)
        wrapped = wrap_address(addr)
        owner = self._table.owner(wrapped.unwrap())
        keepers = self._keepers.get(owner) if owner is not None else None
        asking = None if chan is None else _host(chan)
        if keepers and _within_host(wrapped) and asking != _host(next(iter(keepers))):
            who = "this actor" if chan is None else chan.peer
            log.runtime("%s can't tell whether anybody listens at %s", who, wrapped)
            return None
        return self._delete(addr, uid)

    def on_channel_lost(self, chan: Channel) -> None:
        """Drop the entries that the channel kept alive."""
        if chan.aid is None:
            return
        keepers = self._keepers.get(chan.aid.uid)
        if keepers is not None and chan in keepers:
            del keepers[chan]
            if not keepers:
                files = self._files.get(chan.aid.uid)
                self._unregister(chan.aid.uid)
                if files:
                    self.io_nursery.start_soon(_remove_files, files)


async def _remove_files(files: dict[Path, FileMark]) -> None:
    """Remove the socket files of an actor that has left without a word; one that lives on answers, and keeps them."""
    with trio.move_on_after(DYING_TIME):
        while files := {p: m for p, m in files.items() if not remove_if_dead(p, m)}:
            await trio.sleep(DYING_PAUSE)


def checked_name(name: Any) -> str:
    """``name`` as plain text.  Raises TypeError: it is no string."""
    return plain_text(name, "an actor's name is a string")


def _checked_uid(uid: Any) -> Uid:
    """The uid that ``uid`` is, in the form in which messages carry it, too.  Raises TypeError: it is none."""
    # Not by unpacking alone: 'ab' and a dict of two unpack as well.
    if isinstance(uid, tuple | list) and len(uid) == 2 and all(isinstance(s, str) for s in uid):
        return uid[0], uid[1]
    raise TypeError(f"an actor's uid is a pair (name: str, uuid: str), not {uid!r}")


def _within_host(addr: Address) -> bool:
    """Whether an address means something on one host only."""
    return addr.is_loopback if isinstance(addr, TCPAddress) else True


def _host(chan: Channel) -> str | None:
    """The host that a peer is on; ``None``: the registrar's own."""
    addr = chan.raddr
    return addr.host if isinstance(addr, TCPAddress) and not is_local(addr) else None
