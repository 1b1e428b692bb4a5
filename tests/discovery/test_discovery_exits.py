# ruff: noqa: PT012
# A nursery raises at the end of its block, so the block belongs into `pytest.raises()`.
"""However an actor ends, no entry of it remains in any registrar; and what becomes of registrars that end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import ep_discovery
import pytest
import trio
from ep_discovery_tools import (
    PROGRAM,
    RegistrarProgram,
    free_addr,
    half_open,
    names,
    registrar,
    run,
    stop,
    stopped,
    until,
)
from ep_marks import gets_signals, outlives_its_root
from ep_supervise_tools import Program, free_uds, program, spoken

import tractor
from tractor.discovery import _registration

pytestmark = pytest.mark.usefixtures("forked_actors")

HERE = ["ep_discovery"]
MODES = ["tcp", "uds"] if hasattr(os, "fork") else ["tcp"]


@pytest.fixture(scope="module")
def pairs() -> Iterator[dict[str, tuple[RegistrarProgram, RegistrarProgram]]]:
    """For each transport two registrars that every actor of a test registers with."""
    with ExitStack() as stack:
        yield {
            proto: (
                stack.enter_context(registrar(f"one_{proto}", free_addr(proto))),
                stack.enter_context(registrar(f"two_{proto}", free_addr(proto))),
            )
            for proto in MODES
        }


# -- the ways in which a subactor ends; each returns when its process is gone --


async def child(an: tractor.ActorNursery) -> tractor.Portal:
    return await an.start_actor("mortal", enable_modules=HERE)


async def portal_cancel(everywhere: Callable[[], Awaitable[None]]) -> None:
    async with tractor.open_nursery() as an:
        portal = await child(an)
        await everywhere()
        await portal.cancel_actor()


async def nursery_cancel(everywhere: Callable[[], Awaitable[None]]) -> None:
    async with tractor.open_nursery() as an:
        await child(an)
        await everywhere()
        await an.cancel()


async def hard_kill(everywhere: Callable[[], Awaitable[None]]) -> None:
    async with tractor.open_nursery() as an:
        await child(an)
        await everywhere()
        await an.cancel(hard_kill=True)


async def error_in_the_block(everywhere: Callable[[], Awaitable[None]]) -> None:
    with pytest.raises(KeyError):
        async with tractor.open_nursery() as an:
            await child(an)
            await everywhere()
            raise KeyError("in the block")


async def one_shot(everywhere: Callable[[], Awaitable[None]]) -> None:
    async with tractor.open_nursery() as an:
        portal = await an.run_in_actor(ep_discovery.uid, name="mortal")
        assert (await portal.wait_for_result())[0] == "mortal"


async def crash(everywhere: Callable[[], Awaitable[None]]) -> None:
    with pytest.raises(tractor.RemoteActorError):
        async with tractor.open_nursery() as an:
            await an.run_in_actor(ep_discovery.fail, name="mortal")


async def failing_boot(everywhere: Callable[[], Awaitable[None]]) -> None:
    async with tractor.open_nursery() as an:
        with pytest.raises(Exception, match="no_such_module"):
            await an.start_actor("mortal", enable_modules=["no_such_module"])


async def cancelled_boot(everywhere: Callable[[], Awaitable[None]]) -> None:
    for seconds in (0.05, 0.1, 0.15, 0.2, 0.25):
        async with tractor.open_nursery() as an:
            with trio.move_on_after(seconds):
                await child(an)
            await an.cancel()


def by_itself(how: str) -> Callable[..., Awaitable[None]]:
    async def ends(everywhere: Callable[[], Awaitable[None]]) -> None:
        with contextlib.suppress(tractor.ActorFailure):
            async with tractor.open_nursery() as an:
                portal = await child(an)
                await everywhere()
                with contextlib.suppress(tractor.RemoteActorError, tractor.TransportClosed):
                    await portal.run(ep_discovery.die, how=how)
                await an.cancel()

    return ends


def knows(addr: Any, *expected: str) -> Callable[[], Awaitable[bool]]:
    """Whether a registrar knows these: an actor's start waits for one registrar, not for all."""

    async def known() -> bool:
        there = await names(addr)
        return sorted(expected) == sorted(name for name in there if name in expected)

    return known


SIGNALS = ("SIGTERM", "SIGINT", "SIGKILL", "SIGSEGV", "os._exit")

EXITS: dict[str, Callable[..., Awaitable[None]]] = {
    "portal cancel": portal_cancel,
    "nursery cancel": nursery_cancel,
    "hard kill": hard_kill,
    "error in the block": error_in_the_block,
    "one-shot": one_shot,
    "crash": crash,
    "failing boot": failing_boot,
    "cancelled boot": cancelled_boot,
    **{how: by_itself(how) for how in SIGNALS},
}

WITHOUT_A_WORD = {"hard kill", "SIGKILL", "SIGSEGV", "os._exit", "cancelled boot", "failing boot"}
"""The process has had no time to unregister: the registrars learn it from the end of a channel."""


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=gets_signals if how in SIGNALS else ()) for how in EXITS]
)
def test_no_entry_of_a_subactor_remains(
    how: str, tpt_proto: str, pairs: dict[str, tuple[RegistrarProgram, RegistrarProgram]]
) -> None:
    addrs = [one.addr for one in pairs[tpt_proto]]

    async def everywhere() -> None:
        for addr in addrs:
            await until(knows(addr, "asker", "mortal"))

    async def main() -> None:
        async with tractor.open_root_actor(name="asker", registry_addrs=addrs):
            await EXITS[how](everywhere)
            for addr in addrs:

                async def gone(addr: Any = addr) -> bool:
                    return (await names(addr))[1:] == ["asker"]

                if how in WITHOUT_A_WORD:
                    await until(gone)
                assert await gone(), await names(addr)

    run(main)


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, signal.SIGINT, pytest.param(signal.SIGKILL, marks=outlives_its_root)],
)
def test_no_entry_of_a_program_remains(
    number: int, tpt_proto: str, pairs: dict[str, tuple[RegistrarProgram, RegistrarProgram]]
) -> None:
    addrs = [one.addr for one in pairs[tpt_proto]]

    async def main() -> None:
        async with tractor.open_root_actor(name="asker", registry_addrs=addrs):
            with program("family", "clan", *map(spoken, addrs), script=PROGRAM) as clan:
                assert [uid[0] for uid in json.loads(clan.read_line())] == ["clan", "child_of_clan"]
                for addr in addrs:
                    await until(knows(addr, "asker", "clan", "child_of_clan"))
                os.kill(clan.pid, number)
                await trio.to_thread.run_sync(clan.process.wait)
                for addr in addrs:

                    async def gone(addr: Any = addr) -> bool:
                        return (await names(addr))[1:] == ["asker"]

                    # After SIGKILL the subactor has 2 s to notice.
                    await until(gone)
                remove_root_socket(clan)

    run(main)


def remove_root_socket(killed: Program) -> None:
    """What a killed root can't remove itself, and nobody else does."""
    directory = free_uds()[0]
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(directory, f"clan@{killed.pid}.sock"))


def test_a_registrar_that_ends_in_good_order_forgets_nobody_else(
    tpt_proto: str, pairs: dict[str, tuple[RegistrarProgram, RegistrarProgram]], reg_addr: Any
) -> None:
    one = pairs[tpt_proto][0]

    async def main() -> None:
        with registrar("brief", reg_addr) as brief:
            async with tractor.open_root_actor(name="asker", registry_addrs=[one.addr, reg_addr]):
                for addr in (one.addr, reg_addr):
                    await until(knows(addr, "asker"))
                stop(brief)
                assert (await names(one.addr))[1:] == ["asker"]

    run(main)


# -- registrars that are lost and come back --


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test wait seconds for what never answers, or until the next try."""
    monkeypatch.setattr(_registration, "ATTEMPT_TIMEOUT", 0.4)
    monkeypatch.setattr(_registration, "BACKOFF_FIRST", 0.01)
    monkeypatch.setattr(_registration, "BACKOFF_LIMIT", 0.05)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_actors_register_again_with_a_registrar_that_comes_back(reg_addr: Any, number: int) -> None:
    async def main() -> None:
        first = RegistrarProgram("first", reg_addr)
        try:
            async with tractor.open_nursery(name="asker", registry_addrs=[reg_addr]) as an:
                kid = await an.start_actor("kid", enable_modules=HERE)
                assert await names(reg_addr) == ["first", "asker", "kid"]
                os.kill(first.pid, number)
                await trio.to_thread.run_sync(first.process.wait)
                await look_up_in_the_gap()
                with registrar("second", reg_addr) as second:
                    assert second.uid[1] != first.uid[1]

                    async def all_there() -> bool:
                        return sorted(await names(reg_addr)) == ["asker", "kid", "second"]

                    await until(all_there)
                    assert await kid.run(ep_discovery.own_table, addr=reg_addr)
                    async with tractor.query_actor("kid", regaddr=reg_addr) as (addr, _):
                        assert addr is not None
                    await an.cancel()
        finally:
            stop(first)

    run(main)


async def look_up_in_the_gap() -> None:
    """The registrar is gone: each look-up says so, and none hangs."""
    for opener in (
        lambda: tractor.find_actor("nobody"),
        lambda: tractor.find_actor("nobody", only_first=False),
        lambda: tractor.wait_for_actor("nobody"),
        lambda: tractor.query_actor("nobody"),
        lambda: tractor.get_registry(),
    ):
        with pytest.raises(tractor.RuntimeFailure, match="registrar"):
            async with opener():
                pytest.fail("opened")
    async with tractor.find_actor("kid") as portal:
        assert isinstance(portal, tractor.Portal), "a connected peer needs no registrar"


@pytest.mark.usefixtures("brief")
def test_an_actor_starts_without_its_registrar_and_registers_when_it_comes(reg_addr: Any) -> None:
    """A subactor that is started in the gap."""

    async def main() -> None:
        first = RegistrarProgram("first", reg_addr)
        try:
            async with tractor.open_nursery(name="asker", registry_addrs=[reg_addr]) as an:
                stop(first, signal.SIGKILL)
                await an.start_actor("kid", enable_modules=HERE)
                with registrar("second", reg_addr):

                    async def there() -> bool:
                        return "kid" in await names(reg_addr)

                    await until(there)
                    await an.cancel()
        finally:
            stop(first)

    run(main)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("how", ["stopped", "half-open"])
def test_a_registrar_that_does_not_answer_holds_nobody_up(how: str, reg_addr: Any) -> None:
    """Neither the start of an actor nor its end; and it registers when the registrar is well again."""

    async def main() -> None:
        with registrar("well", reg_addr) as there:
            async with tractor.open_root_actor(name="asker", registry_addrs=[reg_addr]) as actor:
                with ExitStack() as stack:
                    if how == "stopped":
                        stack.enter_context(stopped(there))
                    else:
                        await trio.to_thread.run_sync(stop, there)
                        stack.enter_context(half_open(reg_addr))
                    registration = _registration.Registration(actor)
                    with trio.fail_after(20):
                        await registration.start()
                        assert registration.link(reg_addr) is None
                        await registration.stop()
                    again = _registration.Registration(actor)
                    await again.start()
                if how == "half-open":
                    stack.enter_context(registrar("second", reg_addr))

                async def linked() -> bool:
                    return again.link(reg_addr) is not None

                await until(linked)
                assert "asker" in await names(reg_addr)
                await again.stop()
                await trio.to_thread.run_sync(stack.close)

    run(main)


@pytest.mark.usefixtures("brief")
def test_an_actor_whose_channel_is_lost_registers_again(reg_addr: Any) -> None:
    """The registrar drops it with the channel, and takes it up again."""

    async def main() -> None:
        with registrar("there", reg_addr):
            async with tractor.open_root_actor(name="asker", registry_addrs=[reg_addr]) as actor:
                assert actor.registration is not None
                before = actor.registration.link(reg_addr)
                assert before is not None
                before.abort()

                async def again() -> bool:
                    assert actor.registration is not None
                    return actor.registration.link(reg_addr) not in (None, before)

                await until(again)

                async def once() -> bool:
                    return await names(reg_addr) == ["there", "asker"]

                await until(once)

    run(main)


def test_the_list_of_registrars_can_be_changed(
    tpt_proto: str, pairs: dict[str, tuple[RegistrarProgram, RegistrarProgram]]
) -> None:
    one, two = (p.addr for p in pairs[tpt_proto])

    async def only_at(here: Any, there: Any, who: str) -> None:
        async def moved() -> bool:
            return who in await names(here) and who not in await names(there)

        await until(moved)

    async def main() -> None:
        async with tractor.open_nursery(name="asker", registry_addrs=[one]) as an:
            actor = tractor.current_actor()
            await only_at(one, two, "asker")
            actor.reg_addrs = [two]
            await only_at(two, one, "asker")
            async with tractor.get_registry() as portal:
                assert portal.chan is not None
                assert portal.chan.aid is not None
                assert portal.chan.aid.uid == pairs[tpt_proto][1].uid
            await an.start_actor("kid", enable_modules=HERE)
            await only_at(two, one, "kid")
            actor.reg_addrs = [one, two]

            async def at_both() -> bool:
                return "asker" in await names(one) and "asker" in await names(two)

            await until(at_both)
            await an.cancel()
        async with tractor.open_root_actor(name="observer", registry_addrs=[one, two]):
            for addr in (one, two):
                await until(knows(addr, "observer"))
                assert (await names(addr))[1:] == ["observer"]

    run(main)


def test_a_registrar_can_register_with_others(
    tpt_proto: str,
    pairs: dict[str, tuple[RegistrarProgram, RegistrarProgram]],
    reg_addr: Any,
) -> None:
    """A child of a registrar registers with its parent and with the others; it may leave its parent, too."""
    other = pairs[tpt_proto][0].addr

    async def main() -> None:
        async with tractor.open_nursery(name="here", registry_addrs=[reg_addr]) as an:
            actor = tractor.current_actor()
            assert actor.is_registrar
            actor.reg_addrs = [reg_addr, other]

            async def there() -> bool:
                return (await names(other))[1:] == ["here"]

            await until(there)
            kid = await an.start_actor("kid", enable_modules=HERE)
            for addr in (reg_addr, other):
                await until(knows(addr, "here", "kid"))
            await kid.run(ep_discovery.set_reg_addrs, addrs=[other])

            async def left() -> bool:
                return await names(reg_addr) == ["here"]

            await until(left)
            assert (await names(other))[1:] == ["here", "kid"]
            await kid.run(ep_discovery.set_reg_addrs, addrs=[reg_addr])

            async def moved() -> bool:
                return "kid" in await names(reg_addr) and "kid" not in await names(other)

            await until(moved)
            await an.cancel()
        async with tractor.open_root_actor(name="observer", registry_addrs=[other]):
            assert (await names(other))[1:] == ["observer"]

    run(main)
