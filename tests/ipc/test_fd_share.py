"""Rings of the actor 'ringd', whose descriptors travel over a Unix socket."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import ep_shm
import pytest
import trio
import trio.testing
from ep_run import run

import tractor
from tractor.ipc import RingBuffReceiver, RingBuffSender, fd_share
from tractor.testing import get_rando_addr

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="rings are Linux's"),
    pytest.mark.usefixtures("no_segment_is_left", "forked_actors"),
]

NAME = f"{ep_shm.PREFIX}-shared-ring"


@asynccontextmanager
async def open_tree(transport: str = "uds") -> AsyncIterator[tractor.ActorNursery]:
    async with tractor.open_nursery(
        enable_transports=[transport], registry_addrs=[get_rando_addr(transport)]
    ) as an:
        await an.start_actor("ringd", enable_modules=["tractor.ipc.fd_share"])
        yield an
        await an.cancel()


async def gone(name: str) -> None:
    """Wait until there is no such ring: whoever held it has told ringd, which has taken notice."""
    while name in os.listdir("/dev/shm"):
        await trio.sleep(0.005)


@pytest.mark.parametrize("transport", ["tcp", "uds", "shm"])
def test_two_actors_share_a_ring_by_name(transport: str) -> None:
    parts = [1, 9000, 50_000]

    async def main() -> None:
        async with open_tree(transport) as an:
            portal = await an.start_actor("sender", enable_modules=["ep_shm"])
            opening = portal.open_context(ep_shm.shared_sender, name=NAME, size=4096, parts=parts)
            async with opening as (ctx, _), fd_share.open_ringbuf(NAME, 4096) as token:
                assert (token.shm_name, token.buf_size) == (NAME, 4096)
                async with RingBuffReceiver(token) as receiver:
                    assert await ep_shm.receive_all(receiver) == sum(parts)
                assert await ctx.wait_for_result() == sum(parts)
                # The sender has left it, this side has not.
                assert NAME in os.listdir("/dev/shm")
            await gone(NAME)

    run(main)


def test_who_opens_it_twice_gets_two_tokens_of_one_ring() -> None:
    async def main() -> None:
        async with (
            open_tree(),
            fd_share.open_ringbuf(NAME) as one,
            fd_share.open_ringbuf(NAME) as other,
        ):
            assert one.buf_size == 10_240
            assert not set(one.fds) & set(other.fds)
            async with RingBuffSender(one) as sender, RingBuffReceiver(other) as receiver:
                await sender.send_all(b"through two tokens")
                assert await receiver.receive_some() == b"through two tokens"

    run(main)


def test_what_can_not_be_opened_is_told() -> None:
    async def main() -> None:
        async with open_tree():
            async with fd_share.open_ringbuf(NAME, 100):
                with pytest.raises(
                    tractor.RemoteActorError, match="has 100 bytes, not 200"
                ) as info:
                    async with fd_share.open_ringbuf(NAME, 200):
                        pass
                assert info.value.boxed_type is ValueError
            with pytest.raises(tractor.RemoteActorError) as info:
                async with fd_share.open_ringbuf(NAME, 0):
                    pass
            assert info.value.boxed_type is ValueError
            # It serves on.
            async with fd_share.open_ringbuf(NAME, 300):
                pass

    run(main)


def test_without_the_actor_it_is_said_how_to_start_it() -> None:
    async def main() -> None:
        async with tractor.open_nursery():
            with pytest.raises(
                RuntimeError, match=r"start_actor\('ringd', enable_modules=\['tractor"
            ):
                async with fd_share.open_ringbuf(NAME):
                    pass

    run(main)


def test_an_error_in_the_block_is_that_error_and_leaves_nothing() -> None:
    async def main() -> None:
        async with open_tree():
            fds = set(os.listdir("/proc/self/fd"))
            with pytest.raises(KeyError, match="mine"):
                async with fd_share.open_ringbuf(NAME):
                    raise KeyError("mine")
            with trio.move_on_after(0.02):
                async with fd_share.open_ringbuf(NAME):
                    await trio.sleep_forever()
            await gone(NAME)
            assert len(os.listdir("/proc/self/fd")) <= len(fds) + 1

    run(main)


def test_an_actor_that_was_killed_has_left_its_ring() -> None:
    async def main() -> None:
        with pytest.raises(tractor.ActorFailure, match="SIGKILL"):
            await _kill_sender()

    run(main)


async def _kill_sender() -> None:
    async with open_tree() as an:
        portal = await an.start_actor("sender", enable_modules=["ep_shm"])
        with pytest.raises(tractor.TransportClosed):
            await _kill_while_open(portal)
        await gone(NAME)


async def _kill_while_open(portal: tractor.Portal) -> None:
    opening = portal.open_context(ep_shm.shared_sender, name=NAME, size=64, parts=[])
    async with opening as (_, pid), fd_share.open_ringbuf(NAME, 64) as token:
        async with RingBuffReceiver(token) as receiver:
            with trio.CancelScope(shield=True):
                os.kill(pid, signal.SIGKILL)
                with pytest.raises(trio.BrokenResourceError, match="is dead"):
                    await receiver.receive_some()
        await trio.sleep_forever()


def test_the_loss_of_ringd_is_told_and_open_ends_go_on() -> None:
    async def main() -> None:
        with pytest.raises(tractor.ActorFailure, match="SIGKILL"):
            await _kill_ringd()

    run(main)


async def _kill_ringd() -> None:
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("ringd", enable_modules=["tractor.ipc.fd_share", "ep_shm"])
        pid = await portal.run(ep_shm.my_pid)
        with pytest.raises(tractor.TransportClosed):
            await _use_without_ringd(pid)


async def _use_without_ringd(pid: int) -> None:
    async with (
        fd_share.open_ringbuf(NAME) as token,
        RingBuffSender(token) as sender,
        RingBuffReceiver(token) as receiver,
    ):
        os.kill(pid, signal.SIGKILL)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await sender.send_all(b"still")
                assert await receiver.receive_some() == b"still"
