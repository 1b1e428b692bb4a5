"""The registrar's table of names and addresses.

Theory of operation.  An actor registers each of its addresses over a channel, its *keeper*; it may do so over
several. An address has one owner at a time: who registers it takes it from the actor that had it, which must be dead,
as two cannot listen at one address.  When a channel ends, every address that nothing else keeps goes with it, so the
table needs no clock and no pings.  Entries and namesakes are dicts, which keep the order of insertion: that is the
order of registration.  The newest actor of a name is the one that was started last, wherever it was registered first:
so all registrars agree on it, whatever each has missed.

A registrar that begins may have had a forerunner at its address, whose actors have yet to notice.  Until then, for
`SETTLING_TIME`, it is *settling*: that it does not know a name says nothing.  So is one that has not run for a while:
its process was stopped, and who has come meanwhile is about to try again.

A waiter is told of a name in the same call that registers it.  As the driver never waits between a look-up that finds
nothing and adding the waiter, no registration can come in between.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

Uid: TypeAlias = tuple[str, str]
AddrT = TypeVar("AddrT", bound=Hashable)
TokenT = TypeVar("TokenT", bound=Hashable)

SETTLING_TIME: Final = 2.0
"""Seconds after its begin in which every actor has registered again with a registrar that has come back."""


STALL: Final = 1.5
"""Seconds without a word that it runs after which a registrar, if it gives such words, was stopped."""


class Entry(NamedTuple, Generic[AddrT]):
    """One registered actor.

    Attributes:
        uid: the actor.
        age: seconds since it was registered.
        addrs: where it listens, oldest first.
        started: when it was started, in seconds since 1970 by its parent's clock.
        host: of one that listens at addresses of its own host alone, as another one is told, the id of that host.
    """

    uid: Uid
    age: float
    addrs: list[AddrT]
    started: float = 0.0
    host: str = ""


class RegistryTable(Generic[AddrT, TokenT]):
    """Who listens where: ``(name, uuid)`` to addresses, in order of registration.

    An address stays for as long as one of its keepers: that is what it was registered over.

    True between any two calls: each address has one owner and a keeper; each entry has an address;
    no waiter waits for a name that has an entry. Addresses are whatever the driver tells listeners
    apart by, tokens whatever it wakes its waiters with.

    Args:
        settled_at: from when on it may say of a name that nobody has it, on the clock of `find_all()`.
    """

    __slots__ = (
        "_by_name",
        "_entries",
        "_keepers",
        "_kept",
        "_owners",
        "_parents",
        "_ran_at",
        "_settled_at",
        "_since",
        "_started",
        "_waiters",
    )

    def __init__(self, settled_at: float = -math.inf) -> None:
        self._settled_at = settled_at
        self._ran_at = math.inf
        # Dicts keep the order of insertion: it is the order of registration.
        self._entries: dict[Uid, dict[AddrT, None]] = {}
        self._by_name: dict[str, dict[Uid, None]] = {}
        self._owners: dict[AddrT, Uid] = {}
        self._keepers: dict[AddrT, dict[Hashable, None]] = {}
        self._kept: dict[Hashable, dict[AddrT, None]] = {}
        self._since: dict[Uid, float] = {}
        self._started: dict[Uid, float] = {}
        self._parents: dict[Uid, Uid | None] = {}
        self._waiters: dict[str, dict[TokenT, None]] = {}

    def note_running(self, now: float) -> None:
        """The registrar runs; once this was called it is to be called again and again."""
        if now - self._ran_at > STALL:
            self._settled_at = max(self._settled_at, now + SETTLING_TIME)
        self._ran_at = now

    def settles_in(self, now: float) -> float:
        """Seconds until it may say of a name that nobody has it; 0: it may."""
        if now - self._ran_at > STALL:
            self.note_running(now)
        return max(0.0, self._settled_at - now)

    def register(
        self,
        uid: Uid,
        addr: AddrT,
        now: float = 0.0,
        keeper: Hashable = None,
        started: float = 0.0,
        parent: Uid | None = None,
    ) -> list[TokenT]:
        """Enter an address of an actor, taking it from the actor that had it before.

        An actor keeps its place in the order, and its age, with its later addresses; registering
        one again adds a keeper and changes nothing else.

        Args:
            uid: the actor.
            addr: where it listens.
            now: seconds, on the clock of `find_all()`.
            keeper: whose `release()` takes it along; `None`: it stays until it is removed.
            started: when the actor was started; what it first says counts as long as it is in the table.
            parent: who has started it; the same goes for that.

        Returns:
            The tokens of those that waited for the actor's name, oldest first; they wait no more.
        """
        owner = self._owners.get(addr)
        if owner != uid:
            if owner is not None:
                self._drop(owner, addr)
            self._entries.setdefault(uid, {})[addr] = None
            self._since.setdefault(uid, now)
            self._started.setdefault(uid, started)
            self._parents.setdefault(uid, parent)
            self._by_name.setdefault(uid[0], {})[uid] = None
            self._owners[addr] = uid
        self._keepers.setdefault(addr, {})[keeper] = None
        self._kept.setdefault(keeper, {})[addr] = None
        return list(self._waiters.pop(uid[0], ()))

    def unregister(self, uid: Uid) -> list[AddrT]:
        """Remove an actor; returns the addresses it had, none if it is not in the table."""
        addrs = self.addrs(uid)
        for addr in addrs:
            self._drop(uid, addr)
        return addrs

    def release(self, keeper: Hashable) -> list[tuple[Uid, AddrT]]:
        """Remove every address that nothing but ``keeper`` has kept; returns them with their owners."""
        gone = []
        for addr in self._kept.pop(keeper, ()):
            keepers = self._keepers[addr]
            del keepers[keeper]
            if not keepers:
                gone.append((self._owners[addr], addr))
        for uid, addr in gone:
            self._drop(uid, addr)
        return gone

    def keepers(self) -> list[Hashable]:
        """Whatever has registered something that is in the table."""
        return list(self._kept)

    def addrs(self, uid: Uid) -> list[AddrT]:
        """The addresses of an actor, oldest first; none if it is not in the table."""
        return list(self._entries.get(uid, ()))

    def parent(self, uid: Uid) -> Uid | None:
        """Who has started an actor, as that one says; ``None``: nobody, or it is not in the table."""
        return self._parents.get(uid)

    def children(self, uid: Uid) -> list[Uid]:
        """The actors in the table that say that this one has started them."""
        return [one for one, parent in self._parents.items() if parent == uid]

    def owner(self, addr: AddrT) -> Uid | None:
        """Who has registered the address; ``None`` if it is not in the table."""
        return self._owners.get(addr)

    def delete_addr(self, addr: AddrT, uid: Uid | None = None) -> Uid | None:
        """Remove one address.

        Args:
            addr: the address.
            uid: remove it only while it is this actor's; ``None``: whosever it is.

        Returns:
            The uid whose address it was; ``None`` if nothing was removed.
        """
        owner = self._owners.get(addr)
        if owner is None or uid not in (None, owner):
            return None
        self._drop(owner, addr)
        return owner

    def find(self, name: str) -> list[AddrT] | None:
        """The addresses of the newest actor of that name, oldest first; ``None`` without one."""
        uids = self._newest_first(name)
        return list(self._entries[uids[0]]) if uids else None

    def find_all(self, name: str, now: float = 0.0) -> list[Entry[AddrT]]:
        """Every actor of that name, newest first.

        Args:
            name: the name.
            now: seconds, on the clock of `register()`.
        """
        return [
            Entry(uid, now - self._since[uid], list(self._entries[uid]), self._started[uid])
            for uid in self._newest_first(name)
        ]

    def _newest_first(self, name: str) -> list[Uid]:
        """Those that were started at the same time: the one that was registered last comes first."""
        return sorted(self._by_name.get(name, {}), key=self._started.__getitem__)[::-1]

    def get_registry(self) -> dict[str, list[AddrT]]:
        """A copy of the table: ``"name.uuid"`` to addresses, in order of registration."""
        return {".".join(uid): list(addrs) for uid, addrs in self._entries.items()}

    def add_waiter(self, name: str, token: TokenT) -> list[AddrT] | None:
        """Wait for an actor of that name.

        Returns:
            Its addresses where one is registered already: the token is not kept. Else ``None``, and
            a later `register()` returns the token.
        """
        addrs = self.find(name)
        if addrs is None:
            self._waiters.setdefault(name, {})[token] = None
        return addrs

    def drop_waiter(self, name: str, token: TokenT) -> bool:
        """Forget a waiter; returns whether it was still waiting."""
        tokens = self._waiters.get(name, {})
        if token not in tokens:
            return False
        del tokens[token]
        if not tokens:
            del self._waiters[name]
        return True

    def drop_waiters(self) -> list[TokenT]:
        """Forget all waiters; returns their tokens."""
        tokens = [token for tokens in self._waiters.values() for token in tokens]
        self._waiters.clear()
        return tokens

    def _drop(self, uid: Uid, addr: AddrT) -> None:
        addrs = self._entries[uid]
        del addrs[addr]
        del self._owners[addr]
        for keeper in self._keepers.pop(addr):
            kept = self._kept.get(keeper)
            if kept is not None:
                del kept[addr]
                if not kept:
                    del self._kept[keeper]
        if addrs:
            return
        del self._entries[uid]
        del self._since[uid]
        del self._started[uid]
        del self._parents[uid]
        namesakes = self._by_name[uid[0]]
        del namesakes[uid]
        if not namesakes:
            del self._by_name[uid[0]]
