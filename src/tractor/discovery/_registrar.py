"""The actor that keeps the table of names and addresses."""

from __future__ import annotations

from typing import Any

import trio

from tractor import log as _log
from tractor._proto.registry import RegistryTable
from tractor.ipc._addr import Address, UnwrappedAddress, require_connectable, wrap_address
from tractor.ipc._chan import Channel
from tractor.msg.types import Uid
from tractor.runtime._actor import Actor

__all__ = ["Registrar"]

log = _log.get_logger()


class Registrar(Actor):
    """An actor that is also the registrar; its six registry requests may be made by every peer."""

    is_registrar: bool = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table: RegistryTable[UnwrappedAddress, trio.Event] = RegistryTable()
        # Which channels keep an actor's entries alive; the last one to end takes them along.
        self._keepers: dict[Uid, set[Channel]] = {}
        self.add_request("find_actor", lambda chan, name: self._table.find(name))
        self.add_request("get_registry", lambda chan: self._table.get_registry())
        self.add_request("register_actor", self._register)
        self.add_request("unregister_actor", lambda chan, uid: self._unregister(uid))
        self.add_request("delete_addr", lambda chan, addr: self._delete(addr))
        self.add_async_request("wait_for_actor", self.wait_for_actor)

    async def find_actor(self, name: str) -> list[UnwrappedAddress] | None:
        """The addresses of the newest registration of ``name``; ``None`` when there is none."""
        await trio.lowlevel.checkpoint()
        return self._table.find(name)

    async def wait_for_actor(self, name: str) -> list[UnwrappedAddress]:
        """Wait until an actor of that name is registered; its addresses."""
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
            TypeError: it is no address.
        """
        await trio.lowlevel.checkpoint()
        self._register(None, uid, addr)

    async def unregister_actor(self, uid: Uid) -> None:
        """Forget the actor ``uid`` and all its addresses."""
        await trio.lowlevel.checkpoint()
        self._unregister(uid)

    async def delete_addr(self, addr: UnwrappedAddress | Address | str) -> Uid | None:
        """Forget one address; the uid that had it, if any did."""
        await trio.lowlevel.checkpoint()
        return self._delete(addr)

    def _register(self, chan: Channel | None, uid: Any, addr: Any) -> None:
        name, uuid = uid
        wrapped = wrap_address(addr)
        require_connectable(wrapped)
        own = (str(name), str(uuid))
        if chan is not None and chan.aid is not None and chan.aid.uid == own:
            self._keepers.setdefault(own, set()).add(chan)
            if own not in self.children:
                chan.is_registration = True
                self.ipc_server.note_departure()
        for arrival in self._table.register(own, wrapped.unwrap()):
            arrival.set()
        log.runtime("registered %s at %s", own, wrapped)

    def _unregister(self, uid: Any) -> None:
        name, uuid = uid
        self._table.unregister((name, uuid))
        self._keepers.pop((name, uuid), None)

    def _delete(self, addr: Any) -> Uid | None:
        return self._table.delete_addr(wrap_address(addr).unwrap())

    def on_channel_lost(self, chan: Channel) -> None:
        """Drop the entries that the channel kept alive."""
        if chan.aid is None:
            return
        keepers = self._keepers.get(chan.aid.uid)
        if keepers is not None:
            keepers.discard(chan)
            if not keepers:
                self._unregister(chan.aid.uid)
