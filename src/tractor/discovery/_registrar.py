"""The actor that becomes the registrar at its boot, by election."""

from __future__ import annotations

from typing import Any

from tractor.address._types import Addr, UnwrappedAddress
from tractor.discovery.registry._registry import Registry
from tractor.msg.types import Uid
from tractor.runtime._actor import Actor


class Registrar(Actor):
    """An actor that is also the registrar; its six registry requests may be made by every peer.

    A peer registers, changes and removes itself alone: what it says of the others' addresses makes the registrar look
    for itself.  What was registered over a channel goes with that channel.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._registry = Registry(self)
        self._registry.open()

    async def find_actor(self, name: str, every: bool = False) -> Any:
        """The addresses of the newest registration of ``name``; ``None`` when there is none.

        Args:
            name: the actors'.
            every: give a pair instead: the seconds until this registrar knows everybody, and all registrations, newest
                first: each one's uuid, age in seconds, addresses and start time.
        """
        return await self._registry.find_actor(name, every)

    async def wait_for_actor(self, name: str) -> list[UnwrappedAddress]:
        """Wait until an actor of that name is registered; its addresses."""
        return await self._registry.wait_for_actor(name)

    async def get_registry(self) -> dict[str, list[UnwrappedAddress]]:
        """Every registration: addresses by ``'name.uuid'``."""
        return await self._registry.get_registry()

    async def register_actor(self, uid: Uid, addr: Addr, started: float | None = None) -> None:
        """Note that the actor ``uid`` listens on ``addr``; a former owner of the address loses it.

        It stays until it is unregistered, or deleted; not so what a peer registers for itself.

        Args:
            uid: the actor's.
            addr: where it listens.
            started: when it was started, in seconds since 1970; ``None``: now.

        Raises:
            ValueError: nobody could connect to the address; ``started`` is no time.
            TypeError: it is not an address, ``uid`` no pair of strings, or ``started`` no number.
        """
        await self._registry.register_actor(uid, addr, started)

    async def unregister_actor(self, uid: Uid) -> None:
        """Forget the actor ``uid`` and all its addresses.  Raises TypeError where it is not a pair of strings."""
        await self._registry.unregister_actor(uid)

    async def delete_addr(self, addr: Addr, uid: Uid | None = None) -> Uid | None:
        """Forget one address.

        Args:
            addr: the address.
            uid: forget it only while it is this actor's, and nobody else, or nobody, listens there: what a peer that
                asks gets.  ``None``: forget it in any case, whosever it is.

        Returns:
            The uid that had it; ``None`` if nothing was forgotten.  To look takes at most 1 s, and where others are to
            be looked at first longer; what can't be reached from this host stays.
        """
        return await self._registry.delete_addr(addr, uid)
