"""Connecting to an actor that registrars know, and deleting addresses there that lead nowhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import trio

from tractor import log as _log
from tractor._errors import ActorTooSlowError, RuntimeFailure, TransportClosed
from tractor._proto.answers import merged, nobody_in
from tractor._proto.registry import SETTLING_TIME, Entry
from tractor._util._names import MAX_NAME, is_presentable
from tractor.address._policy import require_connectable
from tractor.address._types import UnwrappedAddress
from tractor.discovery._bounds import Bound, Way, bound_of, first_in_order, first_of
from tractor.discovery._listeners import NOTHING_ACCEPTS
from tractor.discovery._panel import Panel
from tractor.discovery._portals import connect
from tractor.discovery._registrars import Key
from tractor.ipc._chan import Channel
from tractor.msg.types import Uid
from tractor.process._proc import OUT_OF_RESOURCES
from tractor.process.host._host_id import host_id
from tractor.transport._addresses import rank_addrs, wrap_address
from tractor.trionics._groups import collapse_eg

log = _log.get_logger()

MAX_ACTORS = 1024
MAX_ADDRS = 64
"""How many actors of a name, and addresses of each, are taken from one registrar's answer."""

MAX_CONNECTIONS = 32
"""Addresses that one look-up tries to reach at a time."""

ATTEMPT_PAUSES = (0.0, 0.0, 0.05, 0.2)
"""Seconds before each try to connect to an address whose actor may be at its very end."""

DELETE_TIMEOUT = 1.25
"""Seconds that registrars have to look for themselves whether nobody listens at an address."""

SETTLING_PAUSE = 0.1
"""Seconds between the questions to registrars that don't know everybody yet."""

CONNECT_TIMEOUT = 1.0
"""Seconds in which an address must accept where there are more of them than can be tried at a time."""

Known = Entry[UnwrappedAddress]


def addresses(answer: Any) -> list[UnwrappedAddress]:
    """The addresses in a registrar's answer that this platform can make something of."""
    found: list[UnwrappedAddress] = []
    for addr in answer[:MAX_ADDRS] if isinstance(answer, list | tuple) else ():
        try:
            wrapped = wrap_address(addr)
            # What another platform's registrar takes, say a longer path, need not be one here.
            require_connectable(wrapped)
            found.append(wrapped.unwrap())
        except Exception as exc:
            # Also of another package's transport, which may raise anything for what is not an address of it.
            log.warning("a registrar gave an address that is none: %.200s", exc)
    return found


class Registered(NamedTuple):
    """What the registrars of a look-up have answered.

    Attributes:
        entries: every actor of the name that one of them knows, newest first.
        told_by: by registrar that has answered what it has told of: who is said to listen where.
        nobody_in: seconds until it may be believed that there are no others.
    """

    entries: list[Known]
    told_by: dict[Key, set[tuple[Uid, UnwrappedAddress]]]
    nobody_in: float


async def registered(panel: Panel, name: str) -> Registered:
    """What a look-up's registrars know of a name.

    A registrar may be anybody: what is not a registration in its answer is passed over.

    Raises:
        RuntimeFailure: each is lost, refuses, or does not answer in time.
    """
    answers = await panel.ask_all("find_actor", name=name, every=True)
    told = {key: _told(name, answer) for key, answer in answers.items()}
    return Registered(
        merged({key: entries for key, (_, entries) in told.items()}),
        {key: {(e.uid, a) for e in entries for a in e.addrs} for key, (_, entries) in told.items()},
        nobody_in({key: settling for key, (settling, _) in told.items()}) or 0.0,
    )


def _told(name: str, answer: Any) -> tuple[float, list[Known]]:
    """The seconds until a registrar knows everybody, as it says, and whom it knows of a name."""
    settling, given = answer if isinstance(answer, list | tuple) and len(answer) == 2 else (0, ())
    found = []
    for one in given[:MAX_ACTORS] if isinstance(given, list | tuple) else ():
        entry = _registration(name, one)
        if entry is None:
            log.warning("a registrar gave a registration that is none: %s", repr(one)[:200])
        else:
            found.append(entry)
    return min(float(settling), SETTLING_TIME) if _is_time(settling) else 0.0, found


async def settled(
    panel: Panel, name: str, bound: Bound, choose: Callable[[Registered], list[Known]]
) -> list[Known]:
    """The registrations that are chosen of those of a name; none only when that may be believed.

    Raises:
        RuntimeFailure: no registrar answers, or those that do have just come back and don't know everybody in time.
    """
    while True:
        known = await registered(panel, name)
        chosen = choose(known)
        if chosen or not known.nobody_in:
            return chosen
        if known.nobody_in > bound.left():
            raise RuntimeFailure(
                f"the registrars that answer have just begun, and can't tell yet whether there is an actor {name!r};"
                f" ask again in {known.nobody_in:.1f} s"
            )
        await trio.sleep(min(known.nobody_in, SETTLING_PAUSE))


def _registration(name: str, given: Any) -> Known | None:
    """What a registrar gave for one actor of a name; ``None``: it is not a registration."""
    if not isinstance(given, list | tuple) or len(given) not in (4, 5):
        return None
    uuid, age, addrs, started, host = given if len(given) == 5 else (*given, "")
    if not isinstance(host, str) or (host and not is_presentable(host, MAX_NAME)):
        return None
    if not isinstance(uuid, str) or not is_presentable(uuid, MAX_NAME):
        return None
    if not _is_time(age) or not _is_time(started):
        return None
    return Entry((name, uuid), float(age), addresses(addrs), float(started), host)


def _is_time(given: Any) -> bool:
    return isinstance(given, int | float) and 0 <= given < math.inf


class Unanswered(NamedTuple):
    """An actor that is registered, and could not be had.

    Attributes:
        entry: what the registrar knows of it.
        tries: what connecting to each of its addresses has met with.
        bound: in which it had to answer.
    """

    entry: Known
    tries: dict[UnwrappedAddress, Exception]
    bound: Bound

    def error(self) -> RuntimeFailure:
        """What a look-up raises that leads to it."""
        name, age = self.entry.uid[0], self.entry.age
        if not self.entry.addrs:
            return on_another_host(self.entry)
        too_slow = [addr for addr, exc in self.tries.items() if _is_too_slow(exc)]
        which = ", ".join(map(str, self.tries or self.entry.addrs))
        text = f"the actor {name!r} is registered at {which} (since {age:.1f} s), but "
        if len(too_slow) == len(self.tries):
            text += (
                f"did not answer within {self.bound.seconds:g} s: it may be stopped, or too busy"
            )
        else:
            whys = "; ".join(f"at {addr}: {exc}" for addr, exc in self.tries.items())
            text += f"can't be reached: {whys}"
        error = ActorTooSlowError(text) if too_slow or not self.tries else RuntimeFailure(text)
        error.__cause__ = next(iter(self.tries.values()), None)
        return error


def on_another_host(entry: Known) -> RuntimeFailure:
    """The error of a look-up of an actor to which no address leads from this host."""
    return RuntimeFailure(
        f"the actor {entry.uid[0]!r} is registered (since {entry.age:.1f} s) at addresses of its own host alone, which "
        f"is {entry.host}, and this one is {host_id()}: have it listen at a TCP address of its network (`bind_addrs`)"
    )


def _is_too_slow(exc: Exception) -> bool:
    return isinstance(exc, TransportClosed) and isinstance(exc.src_exc, trio.TooSlowError)


class LookUp:
    """Connecting to the actors of one name that the registrars of a look-up know.

    Stale addresses, where nothing accepts or another actor does, are deleted at the registrars that told of them: as
    those of the actor that was said to have them before they were tried.  An actor binds before it registers, so who
    has taken one over is not hit.  An address that accepts but does not answer is left alone: its actor may be busy,
    or stopped.

    Args:
        panel: the registrars.
        name: whom to look up.
        transports: use only these; ``None``: all.
        keep: takes charge of each channel that is made.
        patient: wait until it may be believed that there is nobody.
    """

    def __init__(
        self,
        panel: Panel,
        name: str,
        transports: Sequence[str] | None,
        keep: Callable[[Channel], Channel],
        patient: bool = True,
    ) -> None:
        self._panel = panel
        self._patient = patient
        self._told_by: dict[Key, set[tuple[Uid, UnwrappedAddress]]] = {}
        self._name = name
        self._transports = transports
        self._keep = keep
        # Whatever the table says, nothing is tried again that has led nowhere: the look-up ends.
        self._dead: set[tuple[Uid, UnwrappedAddress]] = set()
        self._slots = trio.Semaphore(MAX_CONNECTIONS)
        self._crowded = False

    async def newest(self, bound: Bound) -> Channel | Unanswered | None:
        """A channel to the newest actor of the name that has not died.

        The actors are tried beside each other, each a moment after the next newer one, so that those which can't be
        reached take no time from those which can.  One that accepts is waited for: it may be busy.

        Returns:
            The channel; or what came of the newest one where none could be had; ``None``: there is none.

        Raises:
            RuntimeFailure: no registrar answers; or this process can't connect to anybody: it is out of
                descriptors or memory, or its key or certificate can't be used.
        """
        while entries := await self._to_try(bound):

            async def attempt(entry: Known, way: Way) -> Channel | Unanswered | None:
                return await self.connect_to(entry, bound, way.hold)

            found: Channel | Unanswered | None = await first_in_order(
                entries, attempt, _is_channel, bound
            )
            if found is not None:
                return found
            # Somebody may have come meanwhile.
        return None

    async def all(self, bound: Bound) -> list[Channel | Unanswered]:
        """What comes of each actor of the name that has not died, newest first.  Raises as :meth:`newest`."""
        entries = await self._to_try(bound)
        outcomes: dict[int, Channel | Unanswered] = {}
        failures: list[RuntimeFailure] = []

        async def one(number: int, entry: Known) -> None:
            try:
                found = await self.connect_to(entry, bound)
            except RuntimeFailure as exc:
                failures.append(exc)
                tn.cancel_scope.cancel()
                return
            if found is not None:
                outcomes[number] = found

        async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
            for number, entry in enumerate(entries):
                tn.start_soon(one, number, entry)
        if failures:
            raise failures[0]
        return [outcomes[number] for number in sorted(outcomes)]

    async def _to_try(self, bound: Bound) -> list[Known]:
        """The registered actors, with those of their addresses that are still to be tried."""
        if self._patient:
            found = await settled(self._panel, self._name, bound, self._untried)
        else:
            found = self._untried(await registered(self._panel, self._name))
        self._crowded = sum(len(entry.addrs) for entry in found) > MAX_CONNECTIONS
        return found

    def _untried(self, known: Registered) -> list[Known]:
        self._told_by = known.told_by
        found = []
        for entry in known.entries:
            addrs = [
                addr
                for addr in rank_addrs(entry.addrs)
                if (entry.uid, addr) not in self._dead
                and (self._transports is None or wrap_address(addr).proto_key in self._transports)
            ]
            if addrs or (entry.host and not entry.addrs):
                found.append(entry._replace(addrs=addrs))
        return found

    async def connect_to(
        self, entry: Known, bound: Bound, on_accept: Callable[[], None] = lambda: None
    ) -> Channel | Unanswered | None:
        """A channel to one actor, over the best of its addresses that answers; ``None`` if it has died.

        Args:
            entry: the actor.
            bound: until when it must have answered.
            on_accept: called when something accepts at one of its addresses.

        Raises as :meth:`newest`.
        """
        tries: dict[UnwrappedAddress, Exception] = {}
        if not entry.addrs:
            await trio.lowlevel.checkpoint()
            return Unanswered(entry, tries, bound)

        async def attempt(addr: UnwrappedAddress) -> Channel | None:
            async with self._slots:
                found = await self._attempt(addr, bound, on_accept)
            if isinstance(found, Channel):
                return found
            if found is None and not await self._delete(entry.uid, addr, bound):
                found = RuntimeFailure(
                    "nothing accepts there from this host, and a registrar can't tell for its own"
                )
            if found is not None:
                tries[addr] = found
            else:
                self._dead.add((entry.uid, addr))
            return None

        chan = await first_of(entry.addrs, attempt, bound)
        if chan is not None:
            return chan
        if bound.left() and tries and not any(map(_is_too_slow, tries.values())):
            # One that was just ending refused us in its own way, and has taken itself out since.
            known = await registered(self._panel, self._name)
            still = {(other.uid, addr) for other in known.entries for addr in other.addrs}
            for addr in [addr for addr in tries if (entry.uid, addr) not in still]:
                self._dead.add((entry.uid, addr))
                del tries[addr]
        return Unanswered(entry, tries, bound) if tries else None

    async def _attempt(
        self, addr: UnwrappedAddress, bound: Bound, on_accept: Callable[[], None]
    ) -> Channel | Exception | None:
        """Connect; a channel to the actor, why there is none, or ``None``: it does not listen there."""
        closed: TransportClosed | None = None
        refused = False
        for pause in ATTEMPT_PAUSES:
            await trio.sleep(min(pause, bound.left()))
            try:
                chan = self._keep(await self._connect(addr, bound, on_accept))
            except TransportClosed as exc:
                log.transport("%r does not answer at %s: %s", self._name, addr, exc)
                if _is_too_slow(exc):
                    return exc
                # Closed while we were let in: an actor that just ends; then a later try tells.
                closed = exc
                continue
            except NOTHING_ACCEPTS as exc:
                log.transport("nothing accepts at %s: %r", addr, exc)
                if refused:
                    return None
                # A listener whose queue is full may look so for a moment.
                refused = True
                continue
            except OSError as exc:
                if exc.errno in OUT_OF_RESOURCES:
                    raise RuntimeFailure(
                        f"can't connect to {self._name!r} at {addr}: {exc}"
                    ) from exc
                log.transport("%s can't be reached: %r", addr, exc)
                return exc
            except NotImplementedError as exc:
                log.transport("%s can't be used: %s", addr, exc)
                return exc
            if chan.aid is not None and chan.aid.name == self._name:
                return chan
            log.transport("at %s there is %s instead of %r", addr, chan.peer, self._name)
            await chan.aclose()
            return None
        return None if refused else closed

    async def _connect(
        self, addr: UnwrappedAddress, bound: Bound, on_accept: Callable[[], None]
    ) -> Channel:
        """Connect; where others wait for their turn, what does not accept soon is given up.  Raises as `connect`."""
        with trio.CancelScope() as scope:
            if self._crowded:
                scope.deadline = trio.current_time() + CONNECT_TIMEOUT

            def accepted() -> None:
                scope.deadline = math.inf
                on_accept()

            return await connect(addr, self._panel.actor, bound, accepted)
        text = f"nothing accepted at {addr} within {CONNECT_TIMEOUT:g} s"
        raise TransportClosed(text, src_exc=trio.TooSlowError(text))

    async def _delete(self, owner: Uid, addr: UnwrappedAddress, bound: Bound) -> bool:
        """Have a stale address deleted as its owner's wherever it was told of; ``False``: a registrar keeps it.

        It looks for itself, and keeps what it can't reach: what means something on another host only, for one.
        """
        told_by = [key for key, told in self._told_by.items() if (owner, addr) in told]
        limit = bound_of(DELETE_TIMEOUT)
        answers = await self._panel.tell(
            told_by,
            limit if limit.deadline < bound.deadline else bound,
            "delete_addr",
            addr=addr,
            uid=owner,
        )
        unsure = [key for key, deleted in answers.items() if deleted is None]
        if not unsure:
            return bool(answers)
        known = await registered(self._panel, self._name)
        return not any((owner, addr) in known.told_by.get(key, ()) for key in unsure)


def _is_channel(found: object) -> bool:
    return isinstance(found, Channel)
