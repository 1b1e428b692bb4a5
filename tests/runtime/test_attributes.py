"""What is looked up with each message is found quickly."""

from __future__ import annotations

from typing import Any

import ep_streams
from ep_peer import open_peer, run

import tractor

MOST = 30
"""Attributes in an object's dict up to which CPython finds each by its place."""


def test_objects_on_the_way_of_a_message_have_few_attributes_in_their_dicts(reg_addr: Any) -> None:
    async def main() -> None:
        async with (
            open_peer("ep_streams", reg_addr=reg_addr) as portal,
            portal.open_context(ep_streams.echoes) as (ctx, _),
            ctx.open_stream() as stream,
        ):
            await stream.send(1)
            assert await stream.receive() == 1
            chan = portal.chan
            for one in (ctx, ctx._core, portal, chan, chan.transport, tractor.current_actor()):
                assert len(vars(one)) <= MOST, type(one)

    run(main)
