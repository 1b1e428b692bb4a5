"""Asking actors over their own transport, as a peer that is no actor itself: those that a registrar knows, and theirs.

Where there are no control sockets, or none within reach.  A loop that is blocked answers nobody this way.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import trio

from tractor._errors import RuntimeFailure, TransportClosed
from tractor.address._types import UnwrappedAddress, mk_uuid
from tractor.control._protocol import Code, Refusal, outcome_in
from tractor.ipc._chan import Channel, transport_from_addr
from tractor.msg._conversion import any_value
from tractor.msg.types import Aid, Error, Return, Start
from tractor.observe.afar._elsewhere import Elsewhere, Road
from tractor.process.host._host_id import host_id
from tractor.runtime.seen._samples import Missing, Sample, TreeSample
from tractor.transport._addresses import wrap_address
from tractor.transport._authkey import load_authkey
from tractor.transport._table import needs_key
from tractor.trionics._groups import collapse_eg

AT_A_TIME = 16
"""Actors that are asked at once."""

UNREACHABLE = (OSError, TransportClosed, RuntimeFailure, RuntimeError, ValueError, TypeError)
"""What :func:`request_of` raises where there is no answer, beside its limit's error."""


class NoRegistrar(Exception):
    """None of the registrars answers; says why."""


async def request_of(
    addr: UnwrappedAddress, func: str, kwargs: dict[str, Any], limit: float
) -> Any:
    """Make one request to the runtime of an actor, as a peer that is not an actor itself, within ``limit`` seconds.

    Raises:
        OSError, TransportClosed: it can't be reached.
        RuntimeFailure: there is no key, or it is not one that can be used.
        RuntimeError: it has refused the request.
        trio.TooSlowError: no answer within ``limit`` seconds.
    """
    return (await _answer_and_uuid(addr, func, kwargs, limit))[0]


async def _answer_and_uuid(
    addr: UnwrappedAddress, func: str, kwargs: dict[str, Any], limit: float
) -> tuple[Any, str]:
    """As :func:`request_of`; and who has answered."""
    key = load_authkey(None)[0] if needs_key(wrap_address(addr).proto_key) else None
    with trio.fail_after(limit):
        chan = Channel(await transport_from_addr(addr), "connect")
        try:
            await chan.handshake(Aid("tractor-cli", mk_uuid(), os.getpid(), host=host_id()), key)
            cid = chan.new_cid()
            await chan.send(Start(cid, "self", func, kwargs, chan.local_uid, None, "call"))
            while True:
                msg = await chan.recv()
                if isinstance(msg, Return) and msg.cid == cid:
                    return any_value(msg.pld), chan.aid.uuid if chan.aid is not None else ""
                if isinstance(msg, Error):
                    raise RuntimeError(msg.message)
        finally:
            chan.abort()


class Registered:
    """What registrars and those that they know have said.

    Attributes:
        elsewhere: the actors, and the way to each.
        addrs: where each listens, by uuid.
    """

    def __init__(self) -> None:
        self.elsewhere = Elsewhere()
        self.addrs: dict[str, list[UnwrappedAddress]] = {}
        self._known: set[str] = set()

    async def look(self, registrars: Sequence[UnwrappedAddress], limit: float) -> None:
        """Ask registrars whom they know, and these for their trees.

        Raises:
            NoRegistrar: no registrar answers; says why.
        """
        names = await self._table(registrars, limit)
        waiting = [uuid for uuid in names if uuid not in self._known]
        while waiting:
            now, waiting = waiting[:AT_A_TIME], waiting[AT_A_TIME:]
            async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
                for uuid in now:
                    tn.start_soon(self._ask_for_tree, uuid, names[uuid], limit)
            waiting = [uuid for uuid in waiting if uuid not in self._known]

    async def _table(self, registrars: Sequence[UnwrappedAddress], limit: float) -> dict[str, str]:
        names: dict[str, str] = {}
        faults = []
        for addr in registrars:
            try:
                table = await request_of(addr, "get_registry", {}, limit)
                tree, uuid = await _answer_and_uuid(addr, "_samples", {"limit": limit}, limit + 1)
            except (*UNREACHABLE, trio.TooSlowError) as exc:
                faults.append(f"{addr}: {str(exc) or type(exc).__name__}")
                continue
            self.addrs.setdefault(uuid, []).append(addr)
            for uid, addrs in dict(table).items():
                name, _, uuid = str(uid).rpartition(".")
                names[uuid] = name
                listed = self.addrs.setdefault(uuid, [])
                listed += [wrap_address(tuple(a)).unwrap() for a in addrs]
            self._take(tree)
        if len(faults) == len(registrars):
            raise NoRegistrar(f"no registrar answers: {'; '.join(faults)}")
        self.elsewhere.missing += [Missing(what="a registrar", why=fault) for fault in faults]
        return names

    async def _ask_for_tree(self, uuid: str, name: str, limit: float) -> None:
        why = "it has no address"
        for addr in self.addrs.get(uuid, []):
            try:
                tree, who = await _answer_and_uuid(addr, "_samples", {"limit": limit}, limit)
            except trio.TooSlowError:
                why = f"no answer at {addr} within {limit:g} s"
                continue
            except UNREACHABLE as exc:
                why = f"it can't be asked at {addr}: {exc}"
                continue
            if who == uuid:
                return self._take(tree)
            why = f"another actor listens at {addr}"
        self._add_mute(uuid, name, why)

    def _add_mute(self, uuid: str, name: str, why: str) -> None:
        if uuid in self._known:
            return
        self._known.add(uuid)
        self.elsewhere.actors.append(
            Sample(
                name=name,
                uuid=uuid,
                pid=None,
                host="",
                parent=None,
                time=time.time(),
                state="mute",
                why=why,
            )
        )
        self.elsewhere.missing.append(Missing(what=name, why=why))

    def _take(self, answer: Any) -> None:
        try:
            tree = msgspec.convert(answer, TreeSample)
        except msgspec.ValidationError as exc:
            self.elsewhere.missing.append(Missing(what="a tree", why=f"its answer is none: {exc}"))
            return
        parents = {one.uuid: one.parent for one in tree.actors}
        for one in tree.actors:
            if one.uuid in self._known:
                continue
            self._known.add(one.uuid)
            self.elsewhere.actors.append(one)
            road = self._road(one.uuid, parents)
            if road is not None and one.state not in ("boot", "backoff", "lost"):
                self.elsewhere.roads[one.uuid] = road
        self.elsewhere.missing += tree.missing
        self.elsewhere.truncated += tree.truncated

    def _road(self, uuid: str, parents: Mapping[str, str | None]) -> Road | None:
        """To it itself, else by way of the nearest above it that is registered."""
        hops: list[str] = []
        at: str | None = uuid
        while at is not None and at in parents:
            if self.addrs.get(at):
                return Road(self.addrs[at][0], tuple(hops))
            hops.insert(0, at)
            at = parents[at]
        return None


def find_registered(registrars: Sequence[UnwrappedAddress], limit: float) -> Registered:
    """The actors that registrars know, and all of their trees.

    Args:
        registrars: their addresses.
        limit: seconds for each answer.

    Raises:
        NoRegistrar: none answers.
    """
    found = Registered()
    trio.run(found.look, registrars, limit)
    return found


def ask_peers(
    roads: Mapping[str, Road], request: Mapping[str, Any], limit: float
) -> dict[str, Any]:
    """What each of some actors answers over its own transport.

    Args:
        roads: the way to each, by uuid.
        request: what is asked.
        limit: seconds for each answer.

    Returns:
        The answers, by uuid; a Refusal where it was one, or none came.
    """
    found: dict[str, Any] = {}
    if roads:
        trio.run(_ask_peers, roads, request, limit, found)
    return found


async def _ask_peers(
    roads: Mapping[str, Road], request: Mapping[str, Any], limit: float, found: dict[str, Any]
) -> None:
    room = trio.CapacityLimiter(AT_A_TIME)

    async def one(uuid: str, road: Road) -> None:
        assert isinstance(road.end, tuple)
        kwargs = {
            "path": list(road.hops),
            "request": dict(request),
            "limit": limit,
            "pid": os.getpid(),
            "host": host_id(),
        }
        async with room:
            try:
                found[uuid] = outcome_in(await request_of(road.end, "_ask", kwargs, limit))
            except Refusal as exc:
                found[uuid] = exc
            except trio.TooSlowError:
                why = f"no answer at {road.end} within {limit:g} s"
                found[uuid] = Refusal(Code.TOO_SLOW, why)
            except UNREACHABLE as exc:
                why = f"it can't be asked at {road.end}: {exc}"
                found[uuid] = Refusal(Code.FAILED, why)

    async with collapse_eg(add_notes=False), trio.open_nursery() as tn:
        for uuid, road in roads.items():
            tn.start_soon(one, uuid, road)
