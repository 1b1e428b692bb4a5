"""Each look-up in each situation, over each transport."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import ep_discovery
import pytest
import trio
import trio.testing
from ep_discovery_tools import (
    RegistrarProgram,
    enter,
    free_addr,
    half_open,
    names,
    registrar,
    remove,
    run,
    stopped,
    table,
    until,
)
from ep_marks import gets_signals

import tractor
from tractor.discovery import _bounds

pytestmark = pytest.mark.usefixtures("forked_actors")

GHOST = ("ghost", "uuid-of-a-ghost")


@pytest.fixture(scope="module")
def worlds() -> Iterator[dict[str, tuple[RegistrarProgram, RegistrarProgram]]]:
    """For each transport two registrars; each is also an actor that can be found."""
    with ExitStack() as stack:
        found = {
            proto: (
                stack.enter_context(registrar(f"own_{proto}", free_addr(proto))),
                stack.enter_context(registrar(f"other_{proto}", free_addr(proto))),
            )
            for proto in (["tcp", "uds"] if hasattr(os, "fork") else ["tcp"])
        }
        run(let_settle, [one for pair in found.values() for one in pair])
        yield found


async def let_settle(registrars: list[RegistrarProgram]) -> None:
    """Wait until each would say at once that there is nobody of a name."""
    async with tractor.open_root_actor(registry_addrs=[registrars[0].addr], name="first"):
        for one in registrars:
            async with tractor.find_actor("nobody", registry_addrs=[one.addr], timeout=30) as found:
                assert found is None


BRIEF = 1.0
"""Let no test wait 3 s for what never answers; what does answer does so within this on a busy machine, too."""


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the steps of a longer wait."""
    monkeypatch.setattr(_bounds, "STEP_TIMEOUT", BRIEF)


class Case:
    """One situation: what is looked up, where, and what must come of it.

    `found` is the uid of the actor that answers, ``None``, or the error's type.
    """

    def __init__(self, own: RegistrarProgram, other: RegistrarProgram, proto: str) -> None:
        self.own = own
        self.other = other
        self.proto = proto
        self.dead = free_addr(proto)
        self.name = ""
        self.at: Any = None
        self.found: Any = None
        self.queried: Any = None
        self.by_peer = False

    async def peer_connected(self, stack: AsyncExitStack) -> None:
        self.name, self.found = self.own.name, self.own.uid
        self.queried, self.by_peer = self.own.addr, True

    async def registered_here(self, stack: AsyncExitStack) -> None:
        self.name, self.found, self.queried = self.other.name, self.other.uid, self.other.addr
        await enter(self.own.addr, self.other.uid, self.other.addr)
        stack.push_async_callback(remove, self.own.addr, self.other.uid)

    async def registered_elsewhere(self, stack: AsyncExitStack) -> None:
        self.name, self.found, self.queried = self.other.name, self.other.uid, self.other.addr
        self.at = self.other.addr

    async def stale_address(self, stack: AsyncExitStack) -> None:
        self.name, self.found, self.queried = GHOST[0], None, self.dead
        await enter(self.own.addr, GHOST, self.dead)
        stack.push_async_callback(remove, self.own.addr, GHOST)

    async def stale_before_a_live_one(self, stack: AsyncExitStack) -> None:
        await self.registered_here(stack)
        newer = (self.other.name, "uuid-of-a-ghost")
        await enter(self.own.addr, newer, self.dead)
        stack.push_async_callback(remove, self.own.addr, newer)
        self.queried = self.dead

    async def absent(self, stack: AsyncExitStack) -> None:
        self.name = "nobody"

    async def uuid_in_place_of_a_name(self, stack: AsyncExitStack) -> None:
        self.name = self.own.uid[1]

    async def registrar_gone(self, stack: AsyncExitStack) -> None:
        self.name, self.at, self.found = "anybody", self.dead, tractor.RuntimeFailure
        self.queried = tractor.RuntimeFailure

    async def registrar_stopped(self, stack: AsyncExitStack) -> None:
        self.name, self.at, self.found = "anybody", self.other.addr, tractor.RuntimeFailure
        self.queried = tractor.RuntimeFailure
        stack.enter_context(stopped(self.other))

    async def own_registrar_stopped(self, stack: AsyncExitStack) -> None:
        self.name, self.found = "anybody", tractor.RuntimeFailure
        self.queried = tractor.RuntimeFailure
        stack.enter_context(stopped(self.own))


SITUATIONS = [name for name in vars(Case) if not name.startswith("_")]


async def by_find(case: Case) -> None:
    at = None if case.at is None else [case.at]
    async with tractor.find_actor(case.name, registry_addrs=at, timeout=BRIEF) as portal:
        assert not isinstance(portal, list)
        assert (portal is None) == (case.found is None)
        if portal is not None:
            assert await portal.run(ep_discovery.uid) == list(case.found)
    if case.found is not None:
        return
    with pytest.raises(RuntimeError, match=case.name):
        async with tractor.find_actor(
            case.name, registry_addrs=at, raise_on_none=True, timeout=BRIEF
        ):
            pytest.fail("found")


async def by_find_all(case: Case) -> None:
    at = None if case.at is None else [case.at]
    async with tractor.find_actor(
        case.name, registry_addrs=at, only_first=False, timeout=BRIEF
    ) as portals:
        assert isinstance(portals, list) == (case.found is not None)
        if isinstance(portals, list):
            (portal,) = portals
            assert await portal.run(ep_discovery.uid) == list(case.found)


async def by_wait(case: Case) -> None:
    with trio.move_on_after(0.3 if case.found is None else 15) as bound:
        async with tractor.wait_for_actor(case.name, registry_addr=case.at) as portal:
            assert await portal.run(ep_discovery.uid) == list(case.found)
    assert bound.cancelled_caught == (case.found is None)


async def by_query(case: Case) -> None:
    async with tractor.query_actor(case.name, regaddr=case.at, timeout=BRIEF) as (addr, portal):
        assert addr == case.queried
        assert (portal is None) == case.by_peer
        if portal is not None:
            # The one that was asked: of the actor's own the only one.
            assert portal.chan is not None
            assert portal.chan.aid is not None
            asked = case.own if case.at is None else case.other
            assert portal.chan.aid.uid == asked.uid


LOOK_UPS = {
    "find_actor": by_find,
    "find_actor of all": by_find_all,
    "wait_for_actor": by_wait,
    "query_actor": by_query,
}


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("look_up", LOOK_UPS)
@pytest.mark.usefixtures("brief")
def test_look_up(
    look_up: str,
    situation: str,
    tpt_proto: str,
    worlds: dict[str, tuple[RegistrarProgram, RegistrarProgram]],
) -> None:
    own, other = worlds[tpt_proto]
    case = Case(own, other, tpt_proto)

    async def main() -> None:
        async with (
            tractor.open_root_actor(registry_addrs=[own.addr], name="asker"),
            AsyncExitStack() as stack,
        ):
            await getattr(case, situation)(stack)
            expected = case.queried if look_up == "query_actor" else case.found
            if isinstance(expected, type):
                with pytest.raises(expected, match="registrar"):
                    await LOOK_UPS[look_up](case)
                return
            await LOOK_UPS[look_up](case)
            listed = [addr for addrs in (await table(own.addr)).values() for addr in addrs]
            is_listed = list(case.dead) in [list(addr) for addr in listed]
            # Who has connected to a stale address has had it deleted; a query connects to nobody.
            assert is_listed == (look_up == "query_actor" and situation.startswith("stale"))

    run(main)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("first", ["gone", "stopped", "half-open"])
def test_one_registrar_that_does_not_answer_is_no_error_while_another_does(
    first: str,
    tpt_proto: str,
    worlds: dict[str, tuple[RegistrarProgram, RegistrarProgram]],
) -> None:
    own, other = worlds[tpt_proto]

    async def main() -> None:
        async with (
            tractor.open_root_actor(registry_addrs=[own.addr], name="asker"),
            AsyncExitStack() as stack,
        ):
            bad = free_addr(tpt_proto)
            if first == "stopped":
                bad = own.addr
                stack.enter_context(stopped(own))
            elif first == "half-open":
                stack.enter_context(half_open(bad))
            asked = [bad, other.addr]
            async with tractor.find_actor(
                other.name, registry_addrs=asked, timeout=BRIEF
            ) as portal:
                assert isinstance(portal, tractor.Portal)
                assert await portal.run(ep_discovery.uid) == list(other.uid)
            async with tractor.find_actor("nobody", registry_addrs=asked, timeout=BRIEF) as portal:
                assert portal is None
            async with tractor.find_actor(
                other.name, registry_addrs=asked, only_first=False, timeout=BRIEF
            ) as portals:
                assert isinstance(portals, list)
                assert len(portals) == 1
            with pytest.raises(tractor.RuntimeFailure, match="registrar"):
                async with tractor.find_actor("nobody", registry_addrs=[bad], timeout=BRIEF):
                    pytest.fail("answered")

    run(main)


def test_a_registrar_that_is_stopped_is_waited_for_once(
    tpt_proto: str,
    worlds: dict[str, tuple[RegistrarProgram, RegistrarProgram]],
) -> None:
    """It is down, and so not asked, until it has answered in the background."""
    own, other = worlds[tpt_proto]

    async def main() -> None:
        async with tractor.open_root_actor(
            registry_addrs=[own.addr, other.addr], name="asker"
        ) as actor:
            registration = actor.registration
            assert registration is not None

            async def linked() -> bool:
                return all(registration.link(one.addr) for one in (own, other))

            await until(linked)
            await enter(other.addr, GHOST, free_addr(tpt_proto))
            with stopped(own), trio.fail_after(10):
                async with tractor.find_actor(
                    other.name, registry_addrs=[own.addr, other.addr], timeout=None
                ) as portal:
                    assert isinstance(portal, tractor.Portal)
                    assert await portal.run(ep_discovery.uid) == list(other.uid)
                silent = registration.link(own.addr)
                assert silent in registration.down
                async with tractor.get_registry() as answering:
                    assert answering.chan is registration.link(other.addr)
                # With less time than it would have to answer.
                async with tractor.find_actor("nobody", timeout=0.5) as portal:
                    assert portal is None
                async with tractor.query_actor(GHOST[0], timeout=None) as (addr, registrar):
                    assert addr is not None
                    assert isinstance(registrar, tractor.Portal)
                    assert registrar.chan.aid is not None
                    assert registrar.chan.aid.uid == other.uid
                assert silent in registration.down

            async def heard() -> bool:
                return silent not in registration.down

            await until(heard)
            await remove(other.addr, GHOST)

    run(main)


async def check_that_it_is_said(silent: RegistrarProgram, own: RegistrarProgram) -> None:
    """By each look-up that connects: that it is registered, where, since when, and that it did not answer."""
    openers: list[Callable[[], Any]] = [
        lambda: tractor.find_actor(silent.name, timeout=BRIEF),
        lambda: tractor.find_actor(silent.name, timeout=BRIEF, raise_on_none=True),
        lambda: tractor.find_actor(silent.name, timeout=BRIEF, only_first=False),
        lambda: tractor.wait_for_actor(silent.name, timeout=BRIEF),
    ]
    for opener in openers:
        with pytest.raises(tractor.ActorTooSlowError) as caught:
            async with opener():
                pytest.fail("found")
        text = str(caught.value)
        assert repr(silent.name) in text
        assert str(silent.addr[1]) in text
        assert re.search(r"\(since \d+\.\d s\)", text)
        assert f"did not answer within {BRIEF:g} s" in text
    assert silent.name in await names(own.addr)


def test_a_stopped_actor_is_not_taken_for_a_dead_one(
    brief: None,
    tpt_proto: str,
    worlds: dict[str, tuple[RegistrarProgram, RegistrarProgram]],
) -> None:
    own, other = worlds[tpt_proto]

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[own.addr], name="asker"):
            await enter(own.addr, other.uid, other.addr)
            with stopped(other):
                await check_that_it_is_said(other, own)
                found: list[Any] = []

                async def wait() -> None:
                    async with tractor.wait_for_actor(other.name) as portal:
                        found.append(await portal.run(ep_discovery.uid))

                async with trio.open_nursery() as tn:
                    tn.start_soon(wait)
                    await trio.sleep(BRIEF + 0.1)
                    assert not found
                    os.kill(other.pid, signal.SIGCONT)
            assert found == [list(other.uid)]
            await remove(own.addr, other.uid)

    run(main)


def waiters(actor: Any) -> Any:
    return actor.registry.table._waiters


@pytest.mark.parametrize(
    "how",
    [
        "its scope is cancelled",
        "its actor ends",
        pytest.param("its actor is killed", marks=gets_signals),
    ],
)
def test_a_waiter_that_goes_is_dropped(how: str, reg_addr: Any) -> None:
    """Seen at the registrar, which is this process, while a child waits."""

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]) as actor:
            assert isinstance(actor, tractor.Registrar)

            async def waited_for() -> bool:
                return bool(waiters(actor))

            async def nobody_waits() -> bool:
                return not waiters(actor)

            with contextlib.suppress(tractor.ActorFailure):
                async with tractor.open_nursery() as an, trio.open_nursery() as tn:
                    asker = await an.start_actor("asker", enable_modules=["ep_discovery"])

                    scope = trio.CancelScope()

                    async def wait() -> None:
                        with (
                            contextlib.suppress(tractor.TransportClosed, tractor.RemoteActorError),
                            scope,
                        ):
                            await asker.run(ep_discovery.wait_for, name="never")

                    tn.start_soon(wait)
                    await until(waited_for)
                    if how == "its scope is cancelled":
                        scope.cancel()
                    elif how == "its actor ends":
                        await asker.cancel_actor()
                    else:
                        assert asker.chan.aid is not None
                        assert asker.chan.aid.pid is not None
                        os.kill(asker.chan.aid.pid, signal.SIGKILL)
                    await until(nobody_waits)
                    await an.cancel()
            assert waiters(actor) == {}

    run(main)


def test_a_wait_outlives_the_loss_of_its_only_registrar(reg_addr: Any) -> None:
    """Also for a time without any; and who has come meanwhile is found."""

    async def main(stack: ExitStack) -> None:
        first = stack.enter_context(registrar("first", reg_addr))
        async with tractor.open_root_actor(registry_addrs=[reg_addr]):
            found: list[Any] = []

            async def wait() -> None:
                async with tractor.wait_for_actor("second") as portal:
                    found.append(await portal.run(ep_discovery.uid))

            async with trio.open_nursery() as tn:
                tn.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked(0.1)
                os.kill(first.pid, signal.SIGKILL)
                await trio.to_thread.run_sync(first.process.wait)
                with pytest.raises(tractor.RuntimeFailure, match="no registrar"):
                    async with tractor.find_actor("second"):
                        pytest.fail("found")
                assert not found
                second = stack.enter_context(registrar("second", reg_addr))
            assert found == [list(second.uid)]

    with ExitStack() as stack:
        run(main, stack)
