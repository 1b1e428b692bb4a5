"""What a type checker knows of feeds and their subscribers; it is checked, and never run."""

from __future__ import annotations

from typing import assert_type

import msgspec

import tractor
from tractor import topics


class Tick(msgspec.Struct):
    price: float


@topics.publisher(pld_spec=Tick)
async def ticks(pub: topics.Publisher[Tick], exchange: str) -> None:
    """A feed sends its own values."""
    assert_type(await pub.send(Tick(1.0), topic="a"), bool)
    await pub.send("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def listens(portal: tractor.Portal) -> None:
    """A subscriber knows their type."""
    async with topics.subscribe(portal, ticks, "a", slow="latest", exchange="x") as sub:
        async for topic, tick in sub:
            assert_type(topic, str)
            assert_type(tick, Tick)
        assert_type(sub.dropped, int)
        assert_type(await sub.receive(), topics.Item[Tick])
    topics.subscribe(portal, ticks, slow="fast")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
