"""Feeds, and what drives them from outside."""

from __future__ import annotations

import enum
import math
import os
import signal

import msgspec
import trio

import tractor
from tractor import topics


class Side(enum.Enum):
    BID = "bid"
    ASK = "ask"


class Tick(msgspec.Struct):
    symbol: str
    price: int


_publishers: list[topics.Publisher[Tick]] = []
_ended = 0


async def _run(pub: topics.Publisher[Tick]) -> None:
    global _ended
    _publishers.append(pub)
    try:
        await trio.sleep_forever()
    finally:
        _publishers.remove(pub)
        _ended += 1


@topics.publisher(pld_spec=Tick)
async def driven(pub: topics.Publisher[Tick], side: Side = Side.BID) -> None:
    """Sends what :func:`put` tells it to."""
    assert isinstance(side, Side)
    await _run(pub)


@topics.publisher(pld_spec=Tick, keep_last=True, linger=math.inf)
async def kept(pub: topics.Publisher[Tick]) -> None:
    """Goes on when nobody listens, and keeps the last values."""
    await _run(pub)


@topics.publisher(pld_spec=Tick, linger=0.2)
async def lingering(pub: topics.Publisher[Tick]) -> None:
    """Goes on for a moment."""
    await _run(pub)


async def put(ticks: list[Tick]) -> list[bool]:
    """Have the feeds that run send these; was anybody listening?"""
    return [await pub.send(tick, topic=tick.symbol) for tick in ticks for pub in _publishers]


async def runs() -> list[int]:
    """How many feeds run, and how many have ended."""
    return [len(_publishers), _ended]


async def wanted() -> list[str] | None:
    """What anybody listens to."""
    (pub,) = _publishers
    return None if pub.topics is None else sorted(pub.topics)


@topics.publisher
async def counts(pub: topics.Publisher[int], end: int, fails: bool = False) -> None:
    """The numbers up to ``end``, as fast as they are taken; then the end, or an error."""
    for number in range(end):
        await pub.send(number)
    if fails:
        raise ValueError("the feed's own")


@topics.publisher(pld_spec=int)
async def wrong(pub: topics.Publisher[str]) -> None:
    """Sends what it has not declared."""
    await pub.send("one")
    await trio.sleep_forever()


@tractor.context
async def listens_and_dies(ctx: tractor.Context, name: str) -> None:
    """Subscribe, read nothing, and die when told to."""
    async with (
        tractor.wait_for_actor(name) as portal,
        topics.subscribe(portal, driven, "dead", size=1),
    ):
        await ctx.started()
        async with ctx.open_stream() as stream:
            await stream.receive()
            os.kill(os.getpid(), signal.SIGKILL)
