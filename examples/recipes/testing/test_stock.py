import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import stock
import trio

import tractor
from tractor.testing import tractor_test


@asynccontextmanager
async def open_stock() -> AsyncIterator[tractor.Portal]:
    """An actor with a stock of its own, for the length of a block."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("stock", enable_modules=["stock"])
        yield portal
        await portal.cancel_actor()


def test_the_function_alone():
    # No actor is needed: it is a function.
    assert trio.run(stock.buy, 0) == 3


@tractor_test
async def test_the_actor_keeps_the_state():
    async with open_stock() as portal:
        assert await portal.run(stock.buy, 1) == 2
        assert await portal.run(stock.buy, 1) == 1


@tractor_test
async def test_an_error_arrives():
    async with open_stock() as portal:
        with pytest.raises(tractor.RemoteActorError, match="5 apples are not there") as caught:
            await portal.run(stock.buy, 5)
    assert caught.value.matches(stock.OutOfStock)


@tractor_test(timeout=20)
async def test_a_dialog():
    async with open_stock() as portal, portal.open_context(stock.sell) as (ctx, first):
        assert first == 3
        async with ctx.open_stream() as stream:
            await stream.send(2)
            assert await stream.receive() == 1
        assert await ctx.wait_for_result() == 2


async def kill_the_stock() -> None:
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("stock", enable_modules=["stock"])
        async with portal.open_context(stock.sell):
            os.kill(portal.chan.aid.pid, signal.SIGKILL)
            await trio.sleep_forever()


@tractor_test
async def test_its_death_is_told():
    with pytest.raises(tractor.ActorFailure) as caught:
        await kill_the_stock()
    assert caught.value.returncode == -signal.SIGKILL
