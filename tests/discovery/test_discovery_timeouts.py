"""How long look-ups take, and what is said of an actor that is registered and can't be had."""

from __future__ import annotations

import logging
import math
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import ep_discovery
import pytest
import trio
import trio.testing
from ep_discovery_tools import (
    RegistrarProgram,
    free_addr,
    half_open,
    names,
    registrar,
    run,
    stopped,
)
from ep_marks import gets_signals

import tractor
from tractor.discovery import get_root, maybe_open_portal
from tractor.discovery._bounds import Bound, Way, bound_of, first_in_order, first_of

pytestmark = pytest.mark.usefixtures("forked_actors")

HERE = ["ep_discovery"]
BRIEF = 0.4


def distinct(proto: str, count: int) -> list[Any]:
    """Addresses at which nobody listens; of a port that is free the system may think so twice."""
    found: set[Any] = set()
    while len(found) < count:
        found.add(free_addr(proto))
    return sorted(found)


def openers(timeout: Any, at: Any) -> dict[str, Any]:
    """Each look-up that goes over a connection, with a time-out."""
    return {
        "find_actor": lambda: tractor.find_actor("nobody", registry_addrs=[at], timeout=timeout),
        "wait_for_actor": lambda: tractor.wait_for_actor("nobody", at, timeout=timeout),
        "query_actor": lambda: tractor.query_actor("nobody", at, timeout=timeout),
        "get_registry": lambda: tractor.get_registry(at, timeout=timeout),
        "maybe_open_portal": lambda: maybe_open_portal(at, "nobody", timeout=timeout),
        "get_root": lambda: get_root(timeout=timeout),
    }


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (-1, ValueError),
        (-0.001, ValueError),
        (math.nan, ValueError),
        ("3", TypeError),
        (True, TypeError),
    ],
)
def test_what_is_no_time(bad: Any, error: type[Exception], reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[reg_addr]):
            for opener in openers(bad, reg_addr).values():
                with pytest.raises(error, match="timeout is a number of seconds"):
                    async with opener():
                        pytest.fail("opened")

    run(main)


@pytest.mark.parametrize("good", [None, math.inf, 5, 0.5])
def test_what_is_one(good: Any, reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            await an.start_actor("kid", enable_modules=HERE)
            async with (
                tractor.find_actor("kid", timeout=good) as one,
                tractor.find_actor("kid", registry_addrs=[reg_addr], timeout=good) as two,
                tractor.wait_for_actor("kid", reg_addr, timeout=good) as three,
                tractor.query_actor("kid", reg_addr, timeout=good) as (addr, _),
                tractor.get_registry(reg_addr, timeout=good),
                maybe_open_portal(addr or "", "kid", timeout=good) as four,
            ):
                for portal in (one, two, three, four):
                    assert isinstance(portal, tractor.Portal)
                    assert await portal.run(ep_discovery.uid)
            await an.cancel()

    run(main)


@pytest.mark.parametrize("silent", ["half-open", pytest.param("stopped", marks=gets_signals)])
def test_a_registrar_that_does_not_answer_in_time(silent: str, tpt_proto: str) -> None:
    own = free_addr(tpt_proto)

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[own]):
            for name, opener in openers(BRIEF, at).items():
                if name == "get_root":
                    continue
                if name == "maybe_open_portal":
                    async with opener() as portal:
                        assert portal is None
                    continue
                with pytest.raises(tractor.RuntimeFailure, match=r"registrar .*within 0.4 s"):
                    async with opener():
                        pytest.fail("opened")

    at = free_addr(tpt_proto)
    with ExitStack() as stack:
        if silent == "half-open":
            stack.enter_context(half_open(at))
        else:
            stack.enter_context(stopped(stack.enter_context(registrar("other", at))))
        run(main)


def test_nobody_comes_in_time(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            kid = await an.start_actor("kid", enable_modules=HERE)
            text = "no actor 'never' was registered within 0.4 s"
            with pytest.raises(tractor.ActorTooSlowError, match=text):
                async with tractor.wait_for_actor("never", timeout=BRIEF):
                    pytest.fail("found")
            with pytest.raises(tractor.RemoteActorError, match=text):
                await kid.run(ep_discovery.wait_for, name="never", timeout=BRIEF)
            registrar: Any = tractor.current_actor()
            with trio.fail_after(20):
                while registrar.registry.table._waiters:
                    await trio.sleep(0.005)
            await an.cancel()

    run(main)


def test_the_time_of_a_wait_is_not_that_of_its_block(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            await an.start_actor("kid", enable_modules=HERE)
            async with tractor.wait_for_actor("kid", reg_addr, timeout=1.0) as portal:
                await trio.sleep(1.1)
                assert await portal.run(ep_discovery.uid)
            await an.cancel()

    run(main)


def test_one_time_for_all_addresses_that_do_not_answer(tpt_proto: str) -> None:
    """Each alone would take it; and every one was tried."""
    addrs = distinct(tpt_proto, 30)

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[free_addr(tpt_proto)]) as actor:
            assert isinstance(actor, tractor.Registrar)
            for addr in addrs:
                await actor.register_actor(("svc", "x"), addr)
            for only_first in (True, False):
                began = trio.current_time()
                with pytest.raises(tractor.ActorTooSlowError) as caught:
                    async with tractor.find_actor("svc", only_first=only_first, timeout=1):
                        pytest.fail("found")
                # 30 s would be one after the other.
                assert trio.current_time() - began < 10
                assert all(str(addr) in str(caught.value) for addr in addrs)
            # Nobody knows whether they are dead.
            assert len(await actor.find_actor("svc") or ()) == 30

    with ExitStack() as stack:
        for addr in addrs:
            stack.enter_context(half_open(addr))
        run(main)


def test_one_time_for_all_actors_that_do_not_answer(tpt_proto: str) -> None:
    addrs = distinct(tpt_proto, 30)

    async def main() -> None:
        async with tractor.open_root_actor(registry_addrs=[free_addr(tpt_proto)]) as actor:
            assert isinstance(actor, tractor.Registrar)
            for number, addr in enumerate(addrs):
                await actor.register_actor(("svc", str(number)), addr)
            began = trio.current_time()
            with pytest.raises(tractor.ActorTooSlowError, match="'svc'"):
                async with tractor.find_actor("svc", only_first=False, timeout=1):
                    pytest.fail("found")
            assert trio.current_time() - began < 10

    with ExitStack() as stack:
        for addr in addrs:
            stack.enter_context(half_open(addr))
        run(main)


def test_many_dead_ones_are_passed_over(tpt_proto: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[free_addr(tpt_proto)]) as an:
            actor = tractor.current_actor()
            assert isinstance(actor, tractor.Registrar)
            kid = await an.start_actor("svc", enable_modules=HERE)
            for number in range(50):
                await actor.register_actor(("svc", str(number)), free_addr(tpt_proto))
            async with tractor.find_actor(
                "svc", registry_addrs=actor.reg_addrs, timeout=20
            ) as found:
                assert isinstance(found, tractor.Portal)
                assert await found.run(ep_discovery.uid) == await kid.run(ep_discovery.uid)
            assert await names(actor.reg_addrs[0]) == ["root", "svc"]
            await an.cancel()

    run(main)


def test_an_address_that_does_not_answer_does_not_hide_the_others(tpt_proto: str) -> None:
    """It is tried first, as the newest of its kind."""
    silent = free_addr(tpt_proto)

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[free_addr(tpt_proto)]) as an:
            actor = tractor.current_actor()
            assert isinstance(actor, tractor.Registrar)
            kid = await an.start_actor("kid", enable_modules=HERE)
            uid = await kid.run(ep_discovery.uid)
            await actor.register_actor((uid[0], uid[1]), silent)
            asked = list(actor.reg_addrs)
            openers: list[Callable[[], Any]] = [
                lambda: tractor.find_actor("kid", registry_addrs=asked, timeout=60),
                lambda: tractor.find_actor(
                    "kid", registry_addrs=asked, only_first=False, timeout=60
                ),
                lambda: tractor.wait_for_actor("kid", asked[0]),
            ]
            for opener in openers:
                with trio.fail_after(20):
                    async with opener() as found:
                        (portal,) = found if isinstance(found, list) else (found,)
                        assert await portal.run(ep_discovery.uid) == uid
            assert list(silent) in [list(a) for a in await actor.find_actor("kid") or ()]
            await an.cancel()

    with half_open(silent):
        run(main)


@gets_signals
def test_all_of_a_name_but_those_that_do_not_answer(
    reg_addr: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "tractor")

    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr], loglevel="warning") as an:
            actor = tractor.current_actor()
            assert isinstance(actor, tractor.Registrar)
            twins = [await an.start_actor("twin", enable_modules=HERE) for _ in range(3)]
            uids = [await twin.run(ep_discovery.uid) for twin in twins]
            await actor.register_actor(("twin", "dead"), free_addr("tcp"))
            assert twins[1].chan.aid is not None
            pid = twins[1].chan.aid.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            try:
                async with tractor.find_actor("twin", only_first=False, timeout=3) as found:
                    assert isinstance(found, list)
                    assert [await p.run(ep_discovery.uid) for p in found] == [uids[2], uids[0]]
            finally:
                os.kill(pid, signal.SIGCONT)
            (warning,) = [r.message for r in caplog.records if "is registered at" in r.message]
            assert "'twin'" in warning
            assert "did not answer within 3 s" in warning
            # What is dead is deleted, what is silent is not.
            assert (await names(reg_addr)).count("twin") == 3
            async with tractor.find_actor("twin", only_first=False) as found:
                assert isinstance(found, list)
                assert [await p.run(ep_discovery.uid) for p in found] == uids[::-1]
            await an.cancel()

    run(main)


def test_the_newest_that_accepts_is_waited_for_wherever_it_is_registered(tpt_proto: str) -> None:
    own, at, silent = (free_addr(tpt_proto) for _ in range(3))

    async def main(other: RegistrarProgram) -> None:
        async with tractor.open_root_actor(registry_addrs=[own]) as actor:
            assert isinstance(actor, tractor.Registrar)
            await actor.register_actor(("other", "older"), silent, started=1.0)
            async with tractor.find_actor("other", registry_addrs=[own, at], timeout=5) as found:
                assert isinstance(found, tractor.Portal)
                assert await found.run(ep_discovery.uid) == list(other.uid)
            await actor.register_actor(("other", "newer"), silent)
            with pytest.raises(tractor.ActorTooSlowError, match="'other' is registered"):
                async with tractor.find_actor("other", registry_addrs=[own, at], timeout=BRIEF):
                    pytest.fail("found")
            # Nobody at the other one: then it is the answer.
            await actor.register_actor(("svc", "x"), silent)
            with pytest.raises(tractor.ActorTooSlowError, match="'svc' is registered"):
                async with tractor.find_actor("svc", registry_addrs=[own, at], timeout=BRIEF):
                    pytest.fail("found")

    with half_open(silent), registrar("other", at) as other:
        run(main, other)


def test_an_actor_that_another_name_begins_with(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[reg_addr]) as an:
            for name in ("a.b", "a", "a.b.c"):
                await an.start_actor(name, enable_modules=HERE)
            for name in ("a", "a.b", "a.b.c"):
                async with tractor.find_actor(name, only_first=False) as found:
                    assert isinstance(found, list)
                    assert [(await p.run(ep_discovery.uid))[0] for p in found] == [name]
            await an.cancel()

    run(main)


# -- several ways at once --


def test_the_next_way_is_tried_when_the_one_before_has_failed_or_takes_long() -> None:
    begun: list[str] = []

    async def attempt(way: str) -> str | None:
        begun.append(way)
        if way.startswith("slow"):
            await trio.sleep(60)
        await trio.lowlevel.checkpoint()
        return way if way.startswith("good") else None

    async def main() -> None:
        bound = bound_of(1)
        assert await first_of(["bad", "good", "never"], attempt, bound) == "good"
        assert begun == ["bad", "good"]
        begun.clear()
        assert await first_of(["slow", "slow 2", "good"], attempt, bound) == "good"
        assert begun == ["slow", "slow 2", "good"]
        assert await first_of(["bad", "bad"], attempt, bound) is None
        assert await first_of([], attempt, bound) is None

    trio.run(main)


def test_a_failure_of_this_side_ends_all_ways() -> None:
    async def attempt(way: int) -> int | None:
        if way == 0:
            await trio.sleep(60)
        raise tractor.RuntimeFailure(f"of {way}")

    async def main() -> None:
        with pytest.raises(tractor.RuntimeFailure, match="of 1"):
            await first_of([0, 1, 2], attempt, bound_of(1))

    trio.run(main)


def test_a_step_is_no_longer_than_what_is_left() -> None:
    async def main() -> None:
        assert bound_of(None) == Bound(math.inf, math.inf)
        assert bound_of(None).step().seconds == 3
        short = bound_of(1)
        assert short.step() == short
        assert 0 < short.left() <= 1
        assert bound_of(0).left() == 0

    trio.run(main)


def test_ways_in_order() -> None:
    """What is begun later is taken only where what comes before has ended, or does not hold for long."""

    async def attempt(way: str, state: Way) -> str | None:
        if "holds" in way:
            state.hold()
        if "slow" in way:
            await trio.sleep(2)
        if "silent" in way:
            await trio.sleep(60)
        await trio.lowlevel.checkpoint()
        if "fails" in way:
            raise tractor.RuntimeFailure(way)
        return None if "nothing" in way else way

    async def ask(*ways: str) -> str | None:
        return await first_in_order(ways, attempt, lambda value: "good" in value, bound_of(10))

    async def main() -> None:
        assert await ask() is None
        assert await ask("nothing") is None
        assert await ask("bad") == "bad"
        assert await ask("nothing", "nothing 2") is None
        assert await ask("bad", "nothing", "good", "good 2") == "good"
        assert await ask("bad", "bad 2") == "bad"
        assert await ask("silent", "silent 2", "good") == "good"
        assert await ask("slow good", "good") == "good"
        assert await ask("holds slow good", "good") == "holds slow good"
        assert await ask("holds slow bad", "good") == "holds slow bad"
        assert await ask("holds slow nothing", "good") == "good"
        with pytest.raises(tractor.RuntimeFailure, match="fails"):
            await ask("silent", "fails", "good")

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01))
