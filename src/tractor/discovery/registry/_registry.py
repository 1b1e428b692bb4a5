"""The table of names and addresses that an actor keeps as a registrar, and what peers may ask of it.

Theory of operation.  Each request is handled by the reader of the channel that it came by, between two awaits, so the
table (`_proto/registry.py`) changes in the order in which messages came.  A peer speaks for itself alone: for its own
uid, over the first of that uid's channels or one of the same process, and for addresses of its own host
(`_places.py`).

What somebody says of another's address is a hint.  Before an address changes its owner, and where somebody reports it
as dead, the registrar looks for itself (`_listeners.py`); only a refusal or a missing file counts.  That look takes
time, in a task of its own, and afterwards the table is asked again whether the address still has the owner that was
looked at: an actor binds before it registers, so a new owner would have answered.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Set
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import trio

from tractor import log as _log
from tractor._errors import ActorBusy, RuntimeFailure
from tractor._proto.registry import SETTLING_TIME, STALL, Entry, RegistryTable
from tractor._util._names import is_presentable
from tractor.address._types import Addr, Address, UDSAddress, UnwrappedAddress
from tractor.discovery._listeners import Listeners
from tractor.discovery._places import (
    Birth,
    Place,
    addrs_for,
    addrs_of,
    checked_name,
    checked_uid,
    delete_arguments,
    end_of,
    find_arguments,
    host_of,
    is_at_home,
    place_at,
    register_arguments,
)
from tractor.discovery._registrars import tree_registry_addrs
from tractor.discovery.registry._counted_call import CountedCall
from tractor.discovery.registry._lost_hosts import lost_with, tell_lost
from tractor.ipc._chan import Channel
from tractor.ipc._debug_sock import user_sock_paths
from tractor.msg.types import Uid
from tractor.process._file_mark import FileMark
from tractor.process.host._host_id import host_id
from tractor.runtime._actor import Actor
from tractor.runtime.dialog._callee import put_return
from tractor.runtime.dialog._endpoints import Endpoint, Kind
from tractor.transport._addresses import wrap_address
from tractor.transport._settings import wire_settings
from tractor.transport._uds_leftovers import own_file_mark, remove_if_dead

log = _log.get_logger()

REQUESTS = (
    "find_actor",
    "wait_for_actor",
    "get_registry",
    "register_actor",
    "unregister_actor",
    "delete_addr",
    "_vouch",
    "_host_lost",
)
"""What every peer may ask a registrar, in the namespace ``self``."""

BEAT = STALL / 3
"""Seconds between two notes that a registrar runs."""

DYING_TIME = 2.0
DYING_PAUSE = 0.1
"""Seconds in which a killed process has let go of its listeners, and between looks at them."""

MAX_LOOKS = 64
"""Requests of one channel that wait for a look at an address at a time."""


class Registry:
    """The table that an actor keeps as a registrar, and its registry requests, which every peer may make.

    A peer registers, changes and removes itself alone: what it says of the others' addresses makes the registrar look
    for itself.  What was registered over a channel goes with that channel.

    Args:
        actor: whose it is.
        home: where it listens as a registrar; ``None``: it was elected, and listens wherever its tree's registry is.

    Attributes:
        table: who is registered.
        vouched: further channels of a uid that count, by the word of the first, and have registered.
        waiting: look-ups that wait for a name, by channel.
        looking: requests that wait for a look at an address, by channel.
    """

    def __init__(self, actor: Actor, home: frozenset[UnwrappedAddress] | None = None) -> None:
        self._actor = actor
        self._home = home
        self.table: RegistryTable[Place, trio.Event] = RegistryTable(
            trio.current_time() + SETTLING_TIME
        )
        self._listeners = Listeners()
        self._closed = False
        # The socket files that actors listen at, to be removed should they be killed.
        self._files: dict[Place, FileMark] = {}
        # The end of a further channel of a uid, by the word of the first.
        self._vouchers: dict[Uid, tuple[str, int]] = {}
        self.vouched: set[Channel] = set()
        self.waiting: Counter[Channel] = Counter()
        self.looking: Counter[Channel] = Counter()

    def open(self) -> None:
        """Serve the registry requests.  Raises RuntimeFailure: the actor is a registrar already."""
        actor = self._actor
        if actor.registry is not None:
            raise RuntimeFailure(
                f"{actor.aid.reprol()} is a registrar already, and can't be another one"
            )
        actor.registry = self
        actor.add_request("get_registry", lambda chan: self._listed(host_of(chan)))
        actor.add_request("unregister_actor", self._request_unregister)
        actor.add_request("_vouch", self._request_vouch)
        actor.add_request("_host_lost", self._request_host_lost)
        actor.requests["find_actor"] = self._request_find
        actor.requests["register_actor"] = self._request_register
        actor.requests["delete_addr"] = self._request_delete
        actor.requests["wait_for_actor"] = self._request_wait

    def close(self) -> None:
        """Serve them no more, and part from who is registered: each notices, and registers again when it can.

        What waits for a name is told that it can't any more.
        """
        actor = self._actor
        self._closed = True
        for arrival in self.table.drop_waiters():
            arrival.set()
        for name in REQUESTS:
            del actor.requests[name]
        actor.registry = None
        for chan in self.table.keepers():
            if isinstance(chan, Channel) and chan.is_registration:
                chan.abort()

    def home(self) -> Set[UnwrappedAddress]:
        """Where it listens as a registrar."""
        if self._home is None:
            return tree_registry_addrs().union(self._actor.accept_addrs)
        return self._home

    # -- for this actor itself ------------------------------------------------------------------------

    async def find_actor(self, name: str, every: bool = False) -> Any:
        """The addresses of the newest registration of ``name``; ``None`` when there is none.

        That there is none is said only when it may be: a registrar that has come back waits until it is settled.

        Args:
            name: the actors'.
            every: give a pair instead, at once: the seconds until it is settled, and all registrations, newest first:
                each one's uuid, age in seconds, addresses and start time; of one to whom no address leads from here
                the id of its host, too.
        """
        await trio.lowlevel.checkpoint()
        checked_name(name)
        return self._known(name, None) if every else await self._find_in_time(name, None)

    async def _find_in_time(self, name: str, host: str | None) -> list[UnwrappedAddress] | None:
        with trio.move_on_after(self._settles_in(None)):
            return addrs_for(await self._arrival(name), host)
        places = self.table.find(name)
        return None if places is None else addrs_for(places, host)

    def _known(self, name: str, chan: Channel | None) -> tuple[float, list[Any]]:
        found = self.table.find_all(name, trio.current_time())
        host = None if chan is None else host_of(chan)
        return self._settles_in(chan), [_told(entry, host) for entry in found]

    def _settles_in(self, chan: Channel | None) -> float:
        """Seconds until whoever asks over a channel, or this actor, may be told that nobody has a name.

        An elected one had no forerunner that the actors of its own tree have known: a program that looks first and
        then starts what it has not found need not wait.
        """
        own = chan is None or self._actor.child_at(chan) is not None
        if own and self._home is None:
            return 0.0
        return self.table.settles_in(trio.current_time())

    async def keep_time(self) -> NoReturn:
        """Note for ever that this actor runs: one that was stopped does not know who has come meanwhile."""
        while True:
            self.table.note_running(trio.current_time())
            await trio.sleep(BEAT)

    async def wait_for_actor(self, name: str) -> list[UnwrappedAddress]:
        """Wait until an actor of that name is registered; its addresses.

        Raises:
            RuntimeFailure: this actor is a registrar no longer.
        """
        return addrs_for(await self._arrival(checked_name(name)), None)

    async def _arrival(self, name: str) -> list[Place]:
        while not self._closed:
            arrival = trio.Event()
            found = self.table.add_waiter(name, arrival)
            if found is not None:
                await trio.lowlevel.checkpoint()
                return found
            try:
                await arrival.wait()
            finally:
                self.table.drop_waiter(name, arrival)
        raise RuntimeFailure(f"{self._actor.aid.reprol()} is a registrar no longer")

    async def get_registry(self) -> dict[str, list[UnwrappedAddress]]:
        """Every registration: the addresses that lead there from this host, by ``'name.uuid'``."""
        await trio.lowlevel.checkpoint()
        return self._listed(None)

    def _listed(self, host: str | None) -> dict[str, list[UnwrappedAddress]]:
        table = self.table.get_registry()
        return {key: addrs_for(places, host) for key, places in table.items()}

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
        await trio.lowlevel.checkpoint()
        known, wrapped, birth = register_arguments(uid, addr, started)
        at = self._actor.ipc_server.first_of(known)
        self._enter(known, place_at(wrapped, None if at is None else host_of(at)), None, birth)

    async def unregister_actor(self, uid: Uid) -> None:
        """Forget the actor ``uid`` and all its addresses.  Raises TypeError where it is not a pair of strings."""
        await trio.lowlevel.checkpoint()
        self._unregister(checked_uid(uid))

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
        await trio.lowlevel.checkpoint()
        place = self._place_of(addr, uid)
        if uid is None:
            owner = self.table.owner(place)
            self._drop_place(place)
            return owner
        owner = self._to_look_at(place, uid)
        return None if owner is None else await self._look(place, owner)

    # -- for peers ------------------------------------------------------------------------------------

    def _speaks_for(self, chan: Channel, uid: Uid) -> bool:
        """Whether a peer speaks of itself, on a channel that counts."""
        own = chan.aid is not None and uid == chan.aid.uid
        return own and (chan in self.vouched or self._actor.ipc_server.speaks_for(chan))

    def _speaks(self, chan: Channel, uid: Uid, what: str) -> None:
        """Check that it does.  Raises PermissionError."""
        assert chan.aid is not None
        if uid != chan.aid.uid:
            raise PermissionError(
                f"{chan.peer} can't {what} {uid!r}: an actor speaks for itself alone, as {chan.aid.uid!r}"
            )
        if not self._speaks_for(chan, uid):
            raise PermissionError(
                f"{chan.peer} can't {what} {uid!r} over this channel: another one of that actor is open since before, "
                "and only that one counts; try again when it is closed"
            )

    def _request_find(self, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
        name, every = find_arguments(**kwargs)
        places = self.table.find(name)
        if every:
            put_return(chan, cid, self._known(name, chan))
        elif places is not None or not self._settles_in(chan):
            put_return(chan, cid, None if places is None else addrs_for(places, host_of(chan)))
        else:
            self._require_waiter(chan)
            self._start(chan, cid, partial(self._find_in_time, name, host_of(chan)), self.waiting)

    def _request_vouch(self, chan: Channel, end: Any) -> None:
        """Another channel, which has this end, is the same peer's.

        No secret that the other channel brings: whoever else that peer connects to could use it here in its place.
        """
        assert chan.aid is not None
        self._speaks(chan, chan.aid.uid, "vouch for")
        if not isinstance(end, list | tuple) or [type(part) for part in end] != [str, int]:
            raise TypeError(
                f"the end of a channel is a pair (host: str, port or pid: int), not {end!r:.80}"
            )
        self._vouchers[chan.aid.uid] = (end[0], end[1])

    def _request_register(self, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
        uid, wrapped, birth = register_arguments(**kwargs)
        own = chan.aid is not None and uid == chan.aid.uid
        if own and uid in self._vouchers and self._vouchers[uid] == end_of(chan.raddr):
            del self._vouchers[uid]
            self.vouched.add(chan)
        self._speaks(chan, uid, "register")
        self._require_room(chan, uid, wrapped)
        place = place_at(wrapped, host_of(chan))
        if self.table.owner(place) in (None, uid) and is_at_home(wrapped, chan):
            self._enter(uid, place, chan, birth)
            put_return(chan, cid, None)
            return
        self._require_looks(chan)
        task = partial(self._enter_if_there, chan, uid, place, birth)
        self._start(chan, cid, task, self.looking)

    def _require_room(self, chan: Channel, uid: Uid, addr: Address) -> None:
        known, most = self.table.addrs(uid), wire_settings().limits.max_registrations
        if len(known) >= most and addr.unwrap() not in addrs_of(known):
            self._reached(chan, "max_registrations")
            raise RuntimeFailure(
                f"{chan.peer} has {len(known)} addresses registered, and more than max_registrations={most} are not"
                f" taken: {addr} is refused"
            )

    async def _enter_if_there(self, chan: Channel, uid: Uid, place: Place, birth: Birth) -> None:
        """Enter an address that another actor has registered, or that need not be on the peer's own host."""
        wrapped = wrap_address(place.addr)
        if place.host is None:
            seen = await self._listeners.at(wrapped, self._actor.io_nursery)
        else:
            seen = None
        owner = self.table.owner(place)
        taken = owner not in (None, uid)
        if seen is None or not seen.certain or seen.uid not in (None, uid):
            whose = (
                f"it is registered by {owner!r}" if taken else "it is on another host than the peer"
            )
            raise PermissionError(
                f"{chan.peer} can't register {wrapped}: {whose}, and the registrar does not find {uid!r} there"
            )
        if seen.uid is None and not is_at_home(wrapped, chan):
            raise PermissionError(
                f"{chan.peer} can't register {wrapped}: it is on another host than the peer, and nobody listens there"
            )
        # While it was looked at, the peer may have gone, or another channel of it registered more.
        if chan not in self._actor.ipc_server.peer_channels():
            return
        self._speaks(chan, uid, "register")
        self._require_room(chan, uid, wrapped)
        self._enter(uid, place, chan, birth)

    def _request_unregister(self, chan: Channel, uid: Any) -> None:
        known = checked_uid(uid)
        self._speaks(chan, known, "unregister")
        self._unregister(known)

    def _request_host_lost(self, chan: Channel, uid: Any) -> None:
        """The parent of an actor says that the host of that one is lost; of others nobody may say so."""
        assert chan.aid is not None
        known = checked_uid(uid)
        self._speaks(chan, chan.aid.uid, "report lost hosts")
        parent = self.table.parent(known)
        if parent is not None and parent != chan.aid.uid:
            raise PermissionError(
                f"{chan.peer} can't report the host of {known!r} lost: its parent is {parent!r}"
            )
        if parent is not None:
            self.note_host_lost(known)

    def note_host_lost(self, uid: Uid) -> None:
        """The host of an actor is lost: drop what was on it below that one, and tell who is registered."""
        lost = lost_with(self._actor, self.table, uid)
        keepers = [chan for chan in self.table.keepers() if isinstance(chan, Channel)]
        for one in lost:
            self._unregister(one)
        tell_lost(self._actor, keepers, lost)

    def _request_delete(self, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
        addr, uid = delete_arguments(**kwargs)
        place = self._place_of(addr, uid)
        owner = self._to_look_at(place, uid)
        if owner is not None and self._speaks_for(chan, owner):
            self._drop_place(place)
            put_return(chan, cid, owner)
        elif owner is None or place.host is not None or self.looking[chan] >= MAX_LOOKS:
            put_return(chan, cid, None)
        else:
            self._start(chan, cid, partial(self._look, place, owner), self.looking)

    def _to_look_at(self, place: Place, uid: Uid | None) -> Uid | None:
        """The owner of an address of which it is said that it does not listen there; ``None``: that says nothing."""
        owner = self.table.owner(place)
        if owner == self._actor.aid.uid or (uid is not None and owner != uid):
            return None
        return owner

    async def _look(self, place: Place, owner: Uid) -> Uid | None:
        """Forget an address where the registrar itself does not find its owner; whose it was then."""
        if place.host is not None:
            await trio.lowlevel.checkpoint()
            return None
        seen = await self._listeners.at(wrap_address(place.addr), self._actor.io_nursery)
        if not seen.certain or seen.uid == owner or self.table.owner(place) != owner:
            return None
        self._drop_place(place)
        return owner

    def _request_wait(self, chan: Channel, cid: int, kwargs: dict[str, Any]) -> None:
        limits = wire_settings().limits
        name = checked_name(kwargs.get("name"))
        if not is_presentable(name, limits.max_name):
            raise ValueError(f"no actor can have the name {name[:80]!r}, which is waited for")
        self._require_waiter(chan)
        self._start(chan, cid, partial(self._wait_for, host_of(chan)), self.waiting, kwargs)

    async def _wait_for(self, host: str | None, name: str) -> list[UnwrappedAddress]:
        return addrs_for(await self._arrival(name), host)

    def _require_waiter(self, chan: Channel) -> None:
        most = wire_settings().limits.max_waiters
        if self.waiting[chan] >= most:
            self._reached(chan, "max_waiters")
            raise RuntimeFailure(
                f"{chan.peer} has {self.waiting[chan]} look-ups waiting here, and more than max_waiters={most} are not"
                " taken"
            )

    def _require_looks(self, chan: Channel) -> None:
        if self.looking[chan] >= MAX_LOOKS:
            raise ActorBusy(f"it looks at {MAX_LOOKS} addresses for this peer already; try again")

    def _reached(self, chan: Channel, limit: str) -> None:
        intake = self._actor.intakes.get(chan)
        if intake is not None:
            intake.reached(limit)

    def _start(
        self,
        chan: Channel,
        cid: int,
        fn: Callable[..., Awaitable[Any]],
        counter: Counter[Channel],
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Serve a request in a task of its own, which is counted for its channel while it runs."""
        name = f"self:{getattr(fn, 'func', fn).__name__}"
        if self._actor.cancel_called:
            self._actor.refuse(chan, cid, name)
            return
        call = CountedCall(self._actor, chan, cid, kwargs or {}, Endpoint(fn, Kind.CALL, name))
        call.counter = counter
        counter[chan] += 1
        self._actor.service_nursery.start_soon(call.run)

    # -- the table ------------------------------------------------------------------------------------

    def _enter(self, uid: Uid, place: Place, chan: Channel | None, birth: Birth) -> None:
        wrapped = wrap_address(place.addr)
        if chan is not None and self._actor.child_at(chan) is None:
            chan.is_registration = True
            self._actor.ipc_server.note_departure()
        if (
            place.host is None
            and isinstance(wrapped, UDSAddress)
            and (mark := own_file_mark(wrapped.sockpath)) is not None
        ):
            self._files[place] = mark
        since = time.time() if birth.started is None else birth.started
        now = trio.current_time()
        for arrival in self.table.register(uid, place, now, chan, since, birth.parent):
            arrival.set()
        log.runtime("registered %s at %s", uid, wrapped)

    def _unregister(self, uid: Uid) -> None:
        for place in self.table.unregister(uid):
            self._files.pop(place, None)

    def _drop_place(self, place: Place) -> None:
        self.table.delete_addr(place)
        self._files.pop(place, None)

    def _place_of(self, addr: Any, uid: Uid | None) -> Place:
        """Where an address of an actor is; of one that has no such address, or of anybody, on this host."""
        wrapped = wrap_address(addr)
        known = () if uid is None else self.table.addrs(uid)
        here = place_at(wrapped, None)
        return next((place for place in known if place.addr == here.addr), here)

    def on_channel_lost(self, chan: Channel) -> None:
        """Drop what was registered over the channel and nothing else keeps."""
        self.vouched.discard(chan)
        if chan.aid is not None and self._actor.ipc_server.first_of(chan.aid.uid) is None:
            self._vouchers.pop(chan.aid.uid, None)
        files: dict[Path, FileMark] = {}
        released = self.table.release(chan)
        for _, place in released:
            mark = self._files.pop(place, None)
            if mark is not None:
                files[Path(*map(str, place.addr))] = mark
        if released and chan.aid is not None:
            # Those for users; on another host, or after a goodbye, there are none.
            for path in user_sock_paths(chan.aid.name, chan.aid.pid):
                if (mark := own_file_mark(path)) is not None:
                    files[path] = mark
        if files:
            self._actor.io_nursery.start_soon(_remove_files, files)


def _told(entry: Entry[Place], host: str | None) -> tuple[Any, ...]:
    """One registration, as it is told to an actor of a host; ``None``: this one."""
    addrs = addrs_for(entry.addrs, host)
    told = (entry.uid[1], entry.age, addrs, entry.started)
    return told if addrs else (*told, entry.addrs[0].host or host_id())


async def _remove_files(files: dict[Path, FileMark]) -> None:
    """Remove the socket files of an actor that has left without a word; one that lives on answers, and keeps them."""
    with trio.move_on_after(DYING_TIME):
        while files := {p: m for p, m in files.items() if not remove_if_dead(p, m)}:
            await trio.sleep(DYING_PAUSE)
