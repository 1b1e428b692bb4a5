"""A payload beyond the limits costs its own dialog, at the sender and at the receiver."""

from __future__ import annotations

from typing import Any

import ep_bounds as ep
import pytest
from ep_peer import open_peer, run

import tractor
from tractor import Limits, MsgTypeError
from tractor.msg.bounded._bounded import bounds

pytestmark = pytest.mark.usefixtures("forked_actors")

MOST = 1000
ANY = 10**9


async def in_a_call(portal: tractor.Portal) -> None:
    await portal.run(ep.takes, value=ep.lists(MOST))


async def in_one_of_two_arguments(portal: tractor.Portal) -> None:
    half = ep.lists(MOST // 2)
    await portal.run(ep.takes_list, value=half, other=half)


async def in_a_result(portal: tractor.Portal) -> None:
    await portal.run(ep.gives, n=MOST + 1)


async def in_a_generator(portal: tractor.Portal) -> None:
    async with portal.open_stream_from(ep.yields, n=MOST + 1) as stream:
        await stream.receive()


async def in_a_context(portal: tractor.Portal) -> None:
    async with portal.open_context(ep.echo) as (ctx, _), ctx.open_stream() as stream:
        await stream.send(ep.lists(MOST))
        assert await stream.receive() == MOST
        await stream.send(ep.lists(MOST + 1))
        await stream.receive()


def test_that_dialog_alone() -> None:
    async def main() -> None:
        async with open_peer("ep_bounds", limits=Limits(max_containers=MOST)) as portal:
            for dialog in (
                in_a_call,
                in_one_of_two_arguments,
                in_a_result,
                in_a_generator,
                in_a_context,
            ):
                # Each as it is; then with a sender that keeps to no limit.
                for here, there in ((MOST, MOST), (ANY, MOST), (MOST, ANY)):
                    await portal.run(ep.heed, most=there)
                    bounds.max_containers = here
                    with pytest.raises(MsgTypeError, match="max_containers"):
                        await dialog(portal)
                    assert await portal.run(ep.takes, value=ep.lists(MOST - 1)) == MOST - 1
            assert len(await portal.run(ep.gives, n=MOST)) == MOST
            told = (await portal.run(ep.reached))["max_containers"]
            assert told > 3
            assert tractor.current_actor().statistics().limits_reached["max_containers"] > 3

    run(main, limit=30)
    assert bounds.max_containers == Limits().max_containers


def test_a_stream_goes_on_after_a_message_that_was_not_sent() -> None:
    async def main() -> Any:
        async with (
            open_peer("ep_bounds", limits=Limits(max_containers=MOST)) as portal,
            portal.open_context(ep.echo) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            with pytest.raises(MsgTypeError, match="max_containers"):
                await stream.send(ep.lists(MOST + 1))
            await stream.send([1, 2])
            return await stream.receive()

    assert run(main) == 2
