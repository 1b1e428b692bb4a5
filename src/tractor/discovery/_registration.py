"""Keeping an actor registered with its registrars for as long as it lives."""

from __future__ import annotations

import trio

from tractor import log as _log
from tractor._errors import RemoteActorError, TransportClosed
from tractor.ipc._addr import TCPAddress, UnwrappedAddress, wrap_address
from tractor.ipc._chan import Channel, transport_from_addr
from tractor.runtime._actor import Actor
from tractor.runtime._calls import call

__all__ = ["Registration"]

log = _log.get_logger()

UNREGISTER_TIMEOUT = 0.5
"""Seconds that saying goodbye to one registrar may take."""

BOOT_TIMEOUT = 3.0
"""Seconds that an actor's start waits for a registrar; afterwards it is tried again beside the actor's work."""

BACKOFF_FIRST = 0.1
BACKOFF_LIMIT = 5.0


class Registration:
    """Registers every address of an actor with every registrar, over one channel to each, again when one is lost."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._chans: dict[str, Channel] = {}
        self._stopped = False

    async def start(self) -> None:
        """Register everywhere; what can't be reached now is tried again in the background."""
        actor = self._actor
        if actor.is_registrar:
            for addr in actor.accept_addrs:
                await actor.register_actor(actor.aid.uid, _published(addr, None))  # type: ignore[attr-defined]
            return
        parent = actor.parent_chan
        if parent is not None and parent.aid is not None and parent.aid.is_registrar:
            # A registrar listens on all of the tree's registry addresses, so one channel is one to each of them.
            await self._register(parent)
            return
        async with trio.open_nursery() as tn:
            for addr in actor.reg_addrs:
                tn.start_soon(self._first_try, addr)

    async def _first_try(self, addr: UnwrappedAddress) -> None:
        with trio.move_on_after(BOOT_TIMEOUT):
            await self._connect_and_register(addr)
        self._actor.io_nursery.start_soon(self._keep, addr, name=f"registration at {addr}")

    async def _keep(self, addr: UnwrappedAddress) -> None:
        """Wait for the loss of a registrar and register again, with growing pauses."""
        pause = BACKOFF_FIRST
        while not self._stopped:
            chan = self._chans.get(str(addr))
            if chan is not None:
                await self._actor.ipc_server.wait_for_departure(chan)
                self._chans.pop(str(addr), None)
                if not self._stopped:
                    log.warning("the registrar at %s is lost; registering again", addr)
                pause = BACKOFF_FIRST
            await trio.sleep(pause)
            pause = min(pause * 2, BACKOFF_LIMIT)
            if not self._stopped:
                await self._connect_and_register(addr)

    async def _connect_and_register(self, addr: UnwrappedAddress) -> bool:
        actor = self._actor
        try:
            chan = Channel(await transport_from_addr(addr), "connect")
        except OSError as exc:
            log.transport("no registrar answers at %s: %r", addr, exc)
            return False
        try:
            aid = await chan.handshake(actor.aid)
            if not aid.is_registrar:
                raise TransportClosed(f"{aid.reprol()} at {addr} is no registrar")
            chan.is_registration = True
            await actor.io_nursery.start(actor.serve_channel, chan)
            await self._register(chan)
        except (TransportClosed, RemoteActorError) as exc:
            log.warning("registration at %s failed: %s", addr, exc)
            chan.abort()
            return False
        except BaseException:
            chan.abort()
            raise
        self._chans[str(addr)] = chan
        return True

    async def _register(self, chan: Channel) -> None:
        actor = self._actor
        for addr in actor.accept_addrs:
            kwargs = {"uid": actor.aid.uid, "addr": _published(addr, chan)}
            await call(chan, actor, "self", "register_actor", kwargs)

    async def stop(self) -> None:
        """Unregister everywhere, at most 0.5 s for each registrar, and close the channels."""
        self._stopped = True
        actor = self._actor
        chans: list[Channel] = list(self._chans.values())
        parent = actor.parent_chan
        if parent is not None and parent.aid is not None and parent.aid.is_registrar:
            chans.append(parent)
        async with trio.open_nursery() as tn:
            for chan in chans:
                tn.start_soon(self._unregister, chan)

    async def _unregister(self, chan: Channel) -> None:
        actor = self._actor
        with trio.move_on_after(UNREGISTER_TIMEOUT) as bound:
            try:
                await call(chan, actor, "self", "unregister_actor", {"uid": actor.aid.uid})
            except (TransportClosed, RemoteActorError) as exc:
                log.transport("not unregistered at %s: %s", chan.peer, exc)
        if bound.cancelled_caught:
            log.warning(
                "%s did not unregister this actor within %s s", chan.peer, UNREGISTER_TIMEOUT
            )
        if chan is not actor.parent_chan:
            await chan.aclose()


def _published(addr: UnwrappedAddress, chan: Channel | None) -> UnwrappedAddress:
    """What to register for a bound address: for a wildcard the local address of the way to the registrar."""
    wrapped = wrap_address(addr)
    if isinstance(wrapped, TCPAddress) and wrapped.is_wildcard:
        here = chan.laddr if chan is not None else None
        host = here.host if isinstance(here, TCPAddress) else _loopback(wrapped)
        return TCPAddress(host, wrapped.port).unwrap()
    return addr


def _loopback(addr: TCPAddress) -> str:
    return "::1" if ":" in addr.host else "127.0.0.1"
