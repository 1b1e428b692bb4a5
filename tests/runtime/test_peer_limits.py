"""What one peer can make an actor hold or do: each limit at its number, and others beside it served."""

from __future__ import annotations

from typing import Any

import ep_limits
import ep_peer
import pytest
import trio
import trio.testing
from ep_peer import open_peer, run

import tractor
from tractor import Limits
from tractor.ipc import Channel
from tractor.msg.types import Aid, Start

pytestmark = pytest.mark.usefixtures("forked_actors")


def test_the_whole_tree_has_the_limits_of_the_root() -> None:
    async def main() -> None:
        async with open_peer("ep_limits", limits=Limits(max_served=7)) as portal:
            told = await portal.run(ep_limits.limits)
            assert told == Limits(max_served=7).to_dict()

    run(main)


@pytest.mark.parametrize("size", [2**20, 2**30])
def test_the_frame_size_is_one_of_them(size: int) -> None:
    async def main() -> None:
        async with tractor.open_root_actor(limits=Limits(max_frame_size=2**20)):
            pass
        if size != 2**20:
            with pytest.raises(ValueError, match="differ"):
                async with tractor.open_root_actor(
                    limits=Limits(max_frame_size=2**20), max_frame_size=2**21
                ):
                    pass

    run(main)


def test_calls_beyond_what_a_peer_serves_wait_here(reg_addr: Any) -> None:
    async def main() -> None:
        seen: list[int] = []

        async def call() -> None:
            seen.append(await portal.run(ep_limits.brief))

        async with open_peer("ep_limits", reg_addr=reg_addr, limits=Limits(max_served=5)) as portal:
            async with trio.open_nursery() as tn:
                for _ in range(20):
                    tn.start_soon(call)
            assert len(seen) == 20
            assert max(seen) == 5
            assert await portal.run(ep_limits.counters) == {}

    run(main)


def test_a_call_that_waits_for_its_place_can_be_cancelled() -> None:
    async def main() -> None:
        async with open_peer("ep_limits", limits=Limits(max_served=1)) as portal:
            async with portal.open_context(ep_limits.stays) as (ctx, _):
                with trio.move_on_after(0.05) as scope:
                    await portal.run(ep_peer.ping)
                assert scope.cancelled_caught
                await ctx.cancel()
            assert await portal.run(ep_peer.ping) == "pong"

    run(main)


def test_a_context_that_has_no_place_is_told_so_and_nothing_ran(reg_addr: Any) -> None:
    async def main() -> None:
        async with open_peer("ep_limits", reg_addr=reg_addr, limits=Limits(max_served=2)) as portal:
            async with (
                portal.open_context(ep_limits.stays) as (one, _),
                portal.open_context(ep_limits.stays) as (two, _),
            ):
                with pytest.raises(tractor.ActorBusy, match="serves 2 dialogs"):
                    async with portal.open_context(ep_limits.stays):
                        pass
                await one.cancel()
                await two.cancel()
            assert (await portal.run(ep_limits.counters))["max_served"] == 1
            async with portal.open_context(ep_limits.stays) as (ctx, _):
                await ctx.cancel()

    run(main)


def test_who_is_told_by_another_actor_that_it_is_busy_knows_where_it_came_from() -> None:
    """Relayed it is an error of the endpoint like others, and says nothing of the endpoint's own actor."""
    exc = tractor.pack_error(tractor.ActorBusy("elsewhere"), 1, ("a", "b"))
    again = tractor.unpack_error(exc)
    assert isinstance(again, tractor.RemoteActorError)
    assert again.src_type is tractor.ActorBusy


def test_many_refused_requests_close_the_channel(reg_addr: Any) -> None:
    async def main() -> None:
        async with tractor.open_nursery(
            registry_addrs=[reg_addr], limits=Limits(max_refused=50)
        ) as an:
            portal = await an.start_actor("peer", enable_modules=["ep_limits", "ep_peer"])
            assert portal.chan.aid is not None
            addr = tuple(await portal.run(ep_peer.address))
            async with tractor.discovery.maybe_open_portal(addr, "peer") as other:
                assert other is not None
                chan = other.chan
                for n in range(60):
                    cid = chan.new_cid()
                    chan.transport.put(Start(cid, "ep_limits", f"no_{n}", {}, chan.local_uid))
                while chan.connected():
                    await trio.testing.wait_all_tasks_blocked(0.01)
            # The first one's channel is another one.
            assert (await portal.run(ep_limits.counters))["max_refused"] == 1
            await portal.cancel_actor()

    run(main)


def test_replies_that_nobody_takes_hold_back_requests_and_nothing_else(reg_addr: Any) -> None:
    async def main() -> None:
        limits = Limits(max_unsent=1_000_000)
        async with tractor.open_nursery(registry_addrs=[reg_addr], limits=limits) as an:
            portal = await an.start_actor("peer", enable_modules=["ep_limits", "ep_peer"])
            addr = tuple(await portal.run(ep_peer.address))
            async with tractor.discovery.maybe_open_portal(addr, "peer") as other:
                assert other is not None
                chan: Any = other.chan
                # A peer that takes nothing: its reader is held up.
                gate = trio.Event()
                chan.transport.io = Deaf(chan.transport.io, gate)
                sizes: list[int] = []

                async def call() -> None:
                    sizes.append(len(await other.run(ep_limits.large, size=800_000)))

                async with trio.open_nursery() as tn:
                    for _ in range(3):
                        tn.start_soon(call)
                    await trio.testing.wait_all_tasks_blocked()
                    # The rightful one is served beside it, and sees what was kept.
                    while not (await portal.run(ep_limits.counters)).get("max_unsent"):
                        tn.start_soon(call)
                        await trio.testing.wait_all_tasks_blocked(0.01)
                    assert len(sizes) <= 1
                    gate.set()
                assert set(sizes) == {800_000}
            await portal.cancel_actor()

    run(main, limit=20)


class Deaf:
    """A pipe whose reader waits for an event first."""

    def __init__(self, io: Any, gate: trio.Event) -> None:
        self._io = io
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._io, name)

    async def wait_readable(self) -> None:
        await self._gate.wait()
        await self._io.wait_readable()

    def recv_nowait(self, max_bytes: int) -> Any:
        return self._io.recv_nowait(max_bytes) if self._gate.is_set() else None


@pytest.mark.parametrize("name", ["two\nlines", "x" * 256, "\x1b[31m"])
def test_a_name_that_cannot_stand_in_a_log_is_refused(name: str) -> None:
    async def main() -> None:
        async with tractor.open_root_actor() as actor:
            chan = await Channel.from_addr(actor.accept_addr)
            with pytest.raises(tractor.TransportClosed):  # noqa: PT012
                await chan.handshake(Aid(name, "0", 1))
                while True:
                    await chan.recv()
            chan.abort()

    run(main)
