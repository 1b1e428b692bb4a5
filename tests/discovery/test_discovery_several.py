"""Several registrars in one system, run by actors of it, which are killed, stopped and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ep_discovery
import pytest
import trio
import trio.testing
from ep_discovery_tools import free_addr, raw_peer, run, table, until
from ep_marks import gets_signals
from ep_registrars_tools import Keeper, keepers

import tractor
from tractor._proto.registry import STALL
from tractor.discovery import _registration
from tractor.discovery._bounds import bound_of
from tractor.discovery._dead_addresses import settled
from tractor.discovery._registrars import own_registrars
from tractor.runtime._portal import LocalPortal

pytestmark = pytest.mark.usefixtures("forked_actors")

HERE = ["ep_discovery"]


def three(proto: str) -> list[Any]:
    found: dict[Any, None] = {}
    while len(found) < 3:
        found[free_addr(proto)] = None
    return list(found)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no start wait a second for registrars that are not there yet."""
    monkeypatch.setattr(_registration, "ANSWER_TIME", 0.05)


@asynccontextmanager
async def system(
    addrs: list[Any], registrars: int = 3
) -> AsyncIterator[tuple[tractor.ActorNursery, list[Keeper]]]:
    """A root that is no registrar, and actors that are."""
    async with tractor.open_nursery(registrar=False, registry_addrs=addrs) as an:
        async with keepers(addrs[:registrars]) as kept:
            yield an, kept
        await an.cancel()


async def same_tables(addrs: list[Any], *names: str) -> None:
    """Wait until every registrar knows the same actors, these names among them."""

    async def same() -> bool:
        tables = [await table(addr) for addr in addrs]
        there = {key.rpartition(".")[0] for key in tables[0]}
        return there >= set(names) and all(one == tables[0] for one in tables)

    await until(same)


async def asked(look_up: Any, name: str = "svc", **kwargs: Any) -> Any:
    async with look_up(name, **kwargs) as found:
        return None if found is None else await found.run(ep_discovery.uid)


# -- an actor that is a registrar --


@pytest.mark.usefixtures("impatient")
def test_any_actor_can_be_a_registrar_and_every_actor_registers_with_all(tpt_proto: str) -> None:
    addrs = three(tpt_proto)

    async def main() -> None:
        async with system(addrs) as (an, kept):
            portal = await an.start_actor("svc", enable_modules=HERE)
            uid = await portal.run(ep_discovery.uid)
            await same_tables(addrs, "root", "svc", *(one.name for one in kept))
            for one in kept:
                assert await asked(tractor.find_actor, registry_addrs=[one.addr]) == uid
                async with tractor.get_registry(one.addr) as registrar:
                    assert isinstance(registrar, tractor.Portal)
                    assert registrar.chan.aid is not None
                    assert registrar.chan.aid.is_registrar
                    assert registrar.chan.aid.pid == one.pid
                # The addresses of an actor are not those at which it is a registrar.
                assert list(one.addr) not in [
                    list(addr) for addrs in (await table(one.addr)).values() for addr in addrs
                ]
            assert not tractor.current_actor().is_registrar
            assert tractor.current_actor().reg_addrs == addrs
            assert set(tractor.current_actor().accept_addrs).isdisjoint(addrs)

    run(main)


@tractor.context
async def be_both(ctx: tractor.Context, addr: Any) -> None:
    """Run by a child beside `tractor.registrar`: what it sees of itself."""
    actor = tractor.current_actor()
    await ctx.started(actor.is_registrar)
    sources = own_registrars(actor)
    async with ctx.open_stream() as stream:
        await stream.send([isinstance(one, LocalPortal) for one in sources])
        async with tractor.find_actor("svc") as found:
            await stream.send(found is not None)
        async with tractor.get_registry(tuple(addr)) as local:
            await stream.send(isinstance(local, LocalPortal))
        await stream.receive()
        await stream.send([actor.is_registrar, await local_table(addr)])


async def local_table(addr: Any) -> list[str]:
    try:
        async with tractor.get_registry(tuple(addr)) as registrar:
            found: dict[str, Any] = await registrar.run_from_ns("self", "get_registry")
            return sorted(key.rpartition(".")[0] for key in found)
    except tractor.RuntimeFailure:
        return []


@pytest.mark.usefixtures("impatient")
def test_a_registrar_asks_itself_and_is_none_when_its_context_has_ended() -> None:
    one, two, three_ = three("tcp")

    async def main() -> None:
        async with system([one, two, three_], registrars=1) as (an, _):
            await an.start_actor("svc", enable_modules=HERE)
            kid = await an.start_actor("kid", enable_modules=[__name__])
            async with kid.open_context(tractor.registrar, addr=two) as (ctx, first):
                assert tuple(first) == two
                await same_tables([one, two], "kid", "svc", "root", "registry.0")
                async with (
                    kid.open_context(be_both, addr=two) as (talk, is_registrar),
                    talk.open_stream() as stream,
                ):
                    assert is_registrar
                    sources = await stream.receive()
                    # Itself first, once; and the two others.
                    assert sources == [True, False, False]
                    assert await stream.receive(), "it finds others"
                    assert await stream.receive()
                    with pytest.raises(tractor.RemoteActorError, match="is a registrar already"):
                        async with kid.open_context(tractor.registrar, addr=three_):
                            pytest.fail("twice")
                    await ctx.cancel()
                    await stream.send(None)
                    assert await stream.receive() == [False, []]
            # Whoever listens there next is known to all, the former one included.
            async with kid.open_context(tractor.registrar, addr=two) as (ctx, _):
                await same_tables([one, two], "kid", "svc", "root", "registry.0")
                await ctx.cancel()

    run(main)


@pytest.mark.usefixtures("impatient")
def test_who_may_make_an_actor_a_registrar(reg_addr: Any) -> None:
    """Its parent; others where the module is enabled."""

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            shut = await an.start_actor("shut", enable_modules=[__name__])
            await an.start_actor("open", enable_modules=[tractor.registrar.__module__])
            asker = await an.start_actor("asker", enable_modules=[__name__])
            with pytest.raises(tractor.RemoteActorError, match="ModuleNotExposed"):
                await asker.run(make_registrar, name="shut", addr=free_addr("tcp"))
            await asker.run(make_registrar, name="open", addr=free_addr("tcp"))
            addr = free_addr("tcp")
            async with shut.open_context(tractor.registrar, addr=addr) as (ctx, _):
                with pytest.raises(tractor.RemoteActorError, match=r"OSError|in use"):
                    async with asker.open_context(tractor.registrar, addr=addr):
                        pytest.fail("twice at one address")
                assert not await asker.run(is_registrar)
                await ctx.cancel()
            for bad, error in ((5, "TypeError"), (("127.0.0.1", 99999), "ValueError")):
                with pytest.raises(tractor.RemoteActorError, match=error):
                    async with shut.open_context(tractor.registrar, addr=bad):
                        pytest.fail("no address")
            await an.cancel()

    run(main)


async def is_registrar() -> bool:
    return tractor.current_actor().is_registrar


async def make_registrar(name: str, addr: Any) -> None:
    async with (
        tractor.wait_for_actor(name) as portal,
        portal.open_context(tractor.registrar, addr=addr) as (ctx, _),
    ):
        await ctx.cancel()


# -- a root that is none --


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        ({"registrar": 1}, TypeError, "`registrar` is True, False or None"),
        ({"registrar": "no"}, TypeError, "`registrar` is True, False or None"),
        ({"registrar": False, "ensure_registry": True}, ValueError, "give one"),
        ({"registrar": False, "tpt_bind_addrs": [("127.0.0.1", 20999)]}, ValueError, "20999"),
    ],
)
def test_what_makes_no_sense(kwargs: Any, error: type[Exception], match: str) -> None:
    async def main() -> None:
        with pytest.raises(error, match=match):
            async with tractor.open_root_actor(registry_addrs=[("127.0.0.1", 20999)], **kwargs):
                pytest.fail("opened")

    run(main)


def test_a_root_can_be_told_what_it_is_to_be(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr], registrar=True) as actor:
            assert isinstance(actor, tractor.Registrar)
            assert actor.is_registrar
        async with tractor.open_root_actor(registry_addrs=[reg_addr], registrar=False) as actor:
            assert not isinstance(actor, tractor.Registrar)
            assert not actor.is_registrar
            assert reg_addr not in actor.accept_addrs
            assert actor.reg_addrs == [reg_addr]

    run(main)


@pytest.mark.usefixtures("impatient")
def test_it_starts_with_none_alive_and_registers_when_there_is_one() -> None:
    addrs = three("uds")

    async def main() -> None:
        async with tractor.open_nursery(registrar=False, registry_addrs=addrs) as an:
            portal = await an.start_actor("svc", enable_modules=HERE)
            for look_up in (tractor.find_actor, tractor.query_actor, tractor.wait_for_actor):
                with pytest.raises(tractor.RuntimeFailure, match="no registrar"):
                    async with look_up("nobody"):
                        pytest.fail("answered")
            # Peers with a channel need none.
            uid = await portal.run(ep_discovery.uid)
            assert await asked(tractor.find_actor) == uid
            assert await asked(tractor.wait_for_actor) == uid
            async with keepers(addrs[2:]):
                await same_tables(addrs[2:], "root", "svc", "registry.0")
            await an.cancel()

    run(main)


def test_two_programs_share_registrars_that_neither_is() -> None:
    """What has `registrar=None` beside them is a plain root, as ever."""
    addrs = three("uds")

    async def main() -> None:
        async with system(addrs) as (an, _):
            await an.start_actor("svc", enable_modules=HERE)
            await same_tables(addrs, "svc")
            other = await an.start_actor("other", enable_modules=[__name__, *HERE])
            # In a process of its own, but not of this tree.
            told = await other.run(look_from_elsewhere, addrs=addrs)
            assert told == [False, "svc"]

    run(main)


async def look_from_elsewhere(addrs: list[Any]) -> Any:
    return await trio.to_thread.run_sync(_in_a_program, addrs)


def _in_a_program(addrs: list[Any]) -> Any:
    import json
    import subprocess
    import sys

    text = f"""
import json, sys, trio, tractor
async def main():
    async with tractor.open_root_actor(registry_addrs={[tuple(a) for a in addrs]!r}, name="elsewhere") as actor:
        async with tractor.find_actor("svc") as found:
            print(json.dumps([actor.is_registrar, found.chan.aid.name]))
trio.run(main)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


# -- nobody --


class Answers:
    """The registrars of a look-up: what they say, one time after the other."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.left = list(answers)

    async def ask_all(self, func: str, **kwargs: Any) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


def test_that_there_is_nobody_is_believed_of_whom_it_may() -> None:
    known = (0.0, [["1", 5.0, [["127.0.0.1", 1]], 1.0]])

    async def look(panel: Any, timeout: float) -> list[str]:
        chosen = await settled(panel, "svc", bound_of(timeout), lambda known: known.entries)
        return [entry.uid[1] for entry in chosen]

    async def main() -> None:
        began = trio.current_time()
        # One that knows everybody is enough; and who is known is known.
        assert await look(Answers({"x": (0.0, []), "y": (2.0, [])}), 3) == []
        assert await look(Answers({"x": (0.0, []), "y": (2.0, known[1])}), 3) == ["1"]
        assert trio.current_time() == began
        # Else it is waited for: until somebody comes, or nobody any more.
        assert await look(Answers({"x": (2.0, [])}, {"x": (1.9, [])}, {"x": known}), 3) == ["1"]
        assert 0 < trio.current_time() - began < 1
        assert await look(Answers({"x": (0.2, [])}, {"x": (0.1, [])}, {"x": (0.0, [])}), 3) == []
        with pytest.raises(tractor.RuntimeFailure, match=r"can't tell yet .*'svc'"):
            await look(Answers({"x": (2.0, []), "y": (1.0, [])}), 0.5)
        # Whatever it says, no longer than a registrar may take.
        with pytest.raises(tractor.RuntimeFailure, match=r"again in 2\.0 s"):
            await look(Answers({"x": (1e9, [])}), 1)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


# -- starts --


@pytest.mark.parametrize("silent", [1, 3])
@gets_signals
def test_a_start_waits_for_one_registrar_and_not_for_long(silent: int) -> None:
    addrs = three("uds")

    async def main() -> None:
        async with system(addrs) as (an, kept):
            await same_tables(addrs, "root")
            for one in kept[:silent]:
                one.pause()
            try:
                with trio.fail_after(15):
                    portal = await an.start_actor("svc", enable_modules=HERE)
                    uid = await portal.run(ep_discovery.uid)
                if silent == 1:
                    # At once: one of them has it.
                    found = tractor.find_actor("svc", registry_addrs=addrs)
                    async with found as there:
                        assert isinstance(there, tractor.Portal)
                        assert await there.run(ep_discovery.uid) == uid
            finally:
                for one in kept[:silent]:
                    one.go_on()
            await same_tables(addrs, "svc")

    run(main)


def test_each_start_is_later_than_the_one_before(
    reg_addr: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the clock is set back meanwhile; so the newest is found, wherever it registers in which order."""
    clock = iter(range(1_700_000_000, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            actor = tractor.current_actor()
            assert isinstance(actor, tractor.Registrar)
            twins = [await an.start_actor("twin", enable_modules=HERE) for _ in range(3)]
            uids = [await twin.run(ep_discovery.uid) for twin in twins]
            monkeypatch.undo()
            _, known = await actor.find_actor("twin", every=True)
            assert [one[0] for one in known] == [uid[1] for uid in reversed(uids)]
            starts = [one[3] for one in known]
            assert starts == sorted(set(starts), reverse=True)
            # The oldest comes back to the table, and stays the oldest.
            entry = dict(await actor.get_registry())[".".join(uids[0])]
            oldest = ("twin", str(uids[0][1]))
            await actor.unregister_actor(oldest)
            await actor.register_actor(oldest, entry[0], started=starts[2])
            found = tractor.find_actor("twin", registry_addrs=[reg_addr])
            async with found as newest:
                assert isinstance(newest, tractor.Portal)
                assert await newest.run(ep_discovery.uid) == uids[2]
            await an.cancel()

    run(main)


@pytest.mark.parametrize("started", ["now", True, -1, float("nan"), float("inf"), [1]])
def test_what_is_no_time_of_a_start(started: Any, reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]), raw_peer(reg_addr) as peer:
            said = await peer.ask(
                "register_actor", uid=peer.aid.uid, addr=reg_addr, started=started
            )
            assert said.type in ("TypeError", "ValueError")
            assert "time of a start" in said.text
            assert ".".join(peer.aid.uid) not in await table(reg_addr)

    run(main)


# -- registrars that are lost --


@gets_signals
@pytest.mark.usefixtures("impatient")
def test_one_of_three_alive_answers_every_look_up() -> None:
    addrs = three("tcp")

    async def main() -> None:
        async with system(addrs) as (an, kept):
            portal = await an.start_actor("svc", enable_modules=HERE)
            asker = await an.start_actor("asker", enable_modules=HERE)
            uid = await portal.run(ep_discovery.uid)
            await same_tables(addrs, "svc", "asker")
            for last, others in ((0, (1, 2)), (1, (2, 0)), (2, (0, 1))):
                gone, silent = (kept[number] for number in others)
                await gone.end(again=False)
                silent.pause()
                try:
                    for _ in range(3):
                        assert await asker.run(ep_discovery.look_up, name="svc") == uid
                        assert await asker.run(ep_discovery.wait_for, name="svc") == uid
                    assert await asker.run(ep_discovery.look_up, name="nobody") is None
                finally:
                    silent.go_on()
                await gone.start()
                await same_tables(addrs, "svc", "asker", "registry.0", "registry.1", "registry.2")
                assert kept[last].lives >= 1

    run(main)


@gets_signals
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_none_alive(how: str) -> None:
    addrs = three("uds")

    async def main() -> None:
        async with system(addrs) as (an, kept):
            portal = await an.start_actor("svc", enable_modules=HERE)
            asker = await an.start_actor("asker", enable_modules=HERE)
            uid = await portal.run(ep_discovery.uid)
            await same_tables(addrs, "svc", "asker")
            for one in kept:
                if how == "killed":
                    await one.end(again=False)
                else:
                    one.pause()
            try:
                for _ in range(2):
                    with pytest.raises(tractor.RemoteActorError, match="registrar") as caught:
                        await asker.run(ep_discovery.look_up, name="svc")
                    assert caught.value.boxed_type is tractor.RuntimeFailure
                    assert "within 1 s" in str(caught.value) or how == "killed"
                assert await asked(tractor.find_actor) == uid, "a connected peer needs none"
            finally:
                for one in kept:
                    if how == "killed":
                        await one.start()
                    else:
                        one.go_on()
            # Heard again in the background: nothing but that is waited for.
            with trio.fail_after(15):
                while True:
                    with contextlib.suppress(tractor.RemoteActorError):
                        assert await asker.run(ep_discovery.look_up, name="svc") == uid
                        break

    run(main)


@gets_signals
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_one_that_comes_back_knows_everybody_and_says_nobody_of_none_that_lives(
    number: int, tpt_proto: str
) -> None:
    """Conformance case 71."""
    addrs = three(tpt_proto)

    async def main() -> None:
        async with system(addrs) as (an, kept):
            portal = await an.start_actor("svc", enable_modules=HERE)
            uid = await portal.run(ep_discovery.uid)
            for count in range(5):
                await an.start_actor(f"other_{count}", enable_modules=HERE)
            await same_tables(addrs, "svc")
            back = kept[1]
            await back.end(number)
            await back.up.wait()
            async with tractor.get_registry(back.addr) as registrar:
                assert isinstance(registrar, tractor.Portal)
                ask = registrar.run_from_ns
                found = await asked(tractor.find_actor, registry_addrs=[back.addr])
                assert found == uid
                # Also to those who ask it as anybody may, and for who comes later than the question.
                assert await ask("self", "find_actor", name="svc") is not None
                async with tractor.query_actor("other_4", regaddr=back.addr) as (addr, _):
                    assert addr is not None
            # As nobody's absence is told before all have come: now they have.
            async with tractor.find_actor("nobody", registry_addrs=[back.addr]) as none:
                assert none is None
            tables = [await table(addr) for addr in addrs]
            assert tables[0] == tables[1] == tables[2]

    run(main)


@gets_signals
@pytest.mark.usefixtures("impatient")
def test_one_that_was_stopped_says_nobody_of_none_that_came_meanwhile() -> None:
    addr = free_addr("uds")

    async def main() -> None:
        async with system([addr]) as (an, (only,)):
            await same_tables([addr], "root")
            # From now on it would say so at once.
            async with tractor.find_actor("svc") as none:
                assert none is None
            only.pause()
            try:
                # Its start does not wait for the registrar for long.
                portal = await an.start_actor("svc", enable_modules=HERE)
                uid = await portal.run(ep_discovery.uid)
                # As long as the registrar takes to be known as one that was stopped.
                await trio.sleep(STALL)
            finally:
                only.go_on()
            assert await asked(tractor.find_actor, registry_addrs=[addr]) == uid

    run(main)


@gets_signals
@pytest.mark.usefixtures("impatient")
def test_a_wait_outlives_all_registrars() -> None:
    """Conformance case 72, in an actor with no other way to who is waited for."""
    addrs = three("tcp")

    async def main() -> None:
        async with system(addrs) as (an, kept):
            asker = await an.start_actor("asker", enable_modules=[__name__, *HERE])
            await same_tables(addrs, "asker")
            found: list[Any] = []

            async def wait() -> None:
                found.append(await asker.run(ep_discovery.wait_for, name="late"))

            async with trio.open_nursery() as tn:
                tn.start_soon(wait)
                with trio.fail_after(10):
                    while not await asker.run(is_waiting):
                        await trio.sleep(0.02)
                for one in kept:
                    await one.end(again=False)
                await kept[2].start()
                late = await an.start_actor("late", enable_modules=HERE)
                with trio.fail_after(15):
                    while not found:
                        await trio.sleep(0.02)
            assert found == [await late.run(ep_discovery.uid)]

    run(main)


@gets_signals
@pytest.mark.usefixtures("impatient")
def test_a_wait_ends_with_a_peer_that_no_registrar_can_tell_of() -> None:
    addrs = three("uds")

    async def main() -> None:
        async with system(addrs) as (an, kept):
            await same_tables(addrs, "root")
            found: list[Any] = []

            async def wait() -> None:
                async with tractor.wait_for_actor("late") as portal:
                    found.append(await portal.run(ep_discovery.uid))

            async with trio.open_nursery() as tn:
                tn.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked(0.1)
                for one in kept:
                    await one.end(again=False)
                late = await an.start_actor("late", enable_modules=HERE)
            # Its channel is its nursery's, and outlives the block of the wait.
            assert found == [await late.run(ep_discovery.uid)]

    run(main)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("where", ["there", "elsewhere"])
def test_a_wait_at_what_is_no_registrar_any_more(where: str) -> None:
    """It goes on at the next one, also in the very actor that was the registrar."""
    addr = free_addr("tcp")

    async def main() -> None:
        async with tractor.open_nursery(registrar=False, registry_addrs=[addr]) as an:
            one = await an.start_actor("one", enable_modules=[__name__, *HERE])
            two = await an.start_actor("two", enable_modules=[__name__, *HERE])
            asker = one if where == "there" else two
            found: list[Any] = []

            async def wait() -> None:
                found.append(await asker.run(ep_discovery.wait_for, name="late"))

            async with trio.open_nursery() as tn:
                async with one.open_context(tractor.registrar, addr=addr) as (ctx, _):
                    await same_tables([addr], "root", "one", "two")
                    tn.start_soon(wait)
                    with trio.fail_after(10):
                        while not (await waiters_of(one)):
                            await trio.sleep(0.02)
                    await ctx.cancel()
                async with two.open_context(tractor.registrar, addr=addr) as (ctx, _):
                    await an.start_actor("late", enable_modules=HERE)
                    with trio.fail_after(15):
                        while not found:
                            await trio.sleep(0.02)
                    assert found[0][0] == "late"
                    await ctx.cancel()
            await an.cancel()

    run(main)


async def waiters_of(registrar: tractor.Portal) -> bool:
    return await registrar.run(somebody_waits)


async def somebody_waits() -> bool:
    registry: Any = tractor.current_actor().registry
    return bool(registry.table._waiters)


async def is_waiting() -> bool:
    """Whether this actor has a request of `wait_for_actor()` open at each of its registrars."""
    actor = tractor.current_actor()
    registrars = [
        chan
        for chan in actor.ipc_server.peer_channels()
        if chan.aid is not None and chan.aid.is_registrar
    ]
    return len(registrars) == 3 and all(chan.dialogs for chan in registrars)


@gets_signals
@pytest.mark.usefixtures("impatient")
def test_what_is_killed_and_started_again_is_found_living_or_not_at_all() -> None:
    """Conformance case 59, by an actor that has no channel to it."""
    addrs = three("tcp")

    async def main() -> None:
        async with system(addrs) as (an, _):
            asker = await an.start_actor("asker", enable_modules=[__name__, *HERE])
            told: list[Any] = []
            over = trio.Event()

            async def look() -> None:
                while not over.is_set():
                    told.append(await asker.run(living_or_none, name="feed"))

            async def feed() -> list[Any]:
                """One life; its uid."""
                uid: list[Any] = []
                with contextlib.suppress(tractor.ActorFailure, tractor.TransportClosed):
                    async with tractor.open_nursery() as mortal:
                        portal = await mortal.start_actor("feed", enable_modules=HERE)
                        uid = await portal.run(ep_discovery.uid)
                        assert await asker.run(ep_discovery.wait_for, name="feed") == uid
                        assert portal.chan.aid is not None
                        assert portal.chan.aid.pid is not None
                        os.kill(portal.chan.aid.pid, signal.SIGKILL)
                        await trio.sleep_forever()
                return uid

            async with trio.open_nursery() as tn:
                tn.start_soon(look)
                lives = [await feed() for _ in range(20)]
                over.set()
            assert len({uid[1] for uid in lives}) == 20
            assert set(map(str, told)) <= {"None", *map(str, lives), "['ended since']"}

    run(main)


@gets_signals
def test_a_child_that_was_just_killed_is_not_found_over_its_old_channel() -> None:
    """Conformance case 59, in the actor that has started it: nothing is awaited between the kill and the look-up."""

    async def main() -> None:
        async with tractor.open_root_actor():
            for _ in range(10):
                with contextlib.suppress(tractor.ActorFailure):
                    async with tractor.open_nursery() as an:
                        portal = await an.start_actor("feed", enable_modules=HERE)
                        assert await asked(tractor.find_actor, "feed") is not None
                        assert portal.chan.aid is not None
                        assert portal.chan.aid.pid is not None
                        os.kill(portal.chan.aid.pid, signal.SIGKILL)
                        with trio.CancelScope(shield=True):
                            async with tractor.find_actor("feed") as found:
                                assert found is None

    run(main)


async def living_or_none(name: str) -> Any:
    """What a look-up gives; a portal must answer, unless its process has ended since."""
    async with tractor.find_actor(name) as portal:
        if portal is None:
            return None
        assert isinstance(portal, tractor.Portal)
        try:
            return await portal.run(ep_discovery.uid)
        except tractor.TransportClosed:
            return ["ended since"]
