"""Pictures of trees that are spread over hosts."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import ep_elsewhere
import pytest
import trio
from ep_run import run

import tractor
from tractor.devx._picture import ActorPicture, pretty_picture
from tractor.devx._tree_picture import tree_record

sys.path.insert(0, str(Path(__file__).parent))

from hosts_tools import CONT, LIMIT, STOP, plain, relayed, signal_relays

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes by /proc")


@pytest.fixture(autouse=True)
def _no_relay() -> Iterator[None]:
    yield
    signal_relays(signal.SIGKILL)


def test_it_reaches_through_three_levels() -> None:
    async def main() -> ActorPicture:
        async with tractor.open_nursery() as an:
            urls = ["command://there", "command://beyond"]
            async with tractor.hosts.open_host("command://first", **plain()) as host:
                portal = await an.start_actor("first", host=host, enable_modules=["ep_elsewhere"])
                async with portal.open_context(ep_elsewhere.chain, urls=urls, options=plain()) as (
                    ctx,
                    _,
                ):
                    record = await tree_record(LIMIT)
                    await ctx.cancel()
            await an.cancel()
        return record

    at = run(main, limit=LIMIT)
    seen = []
    while at.children:
        (at,) = at.children
        seen.append((at.name, at.place, at.state, at.note))
    assert seen == [
        ("first", "command://first", "running", ""),
        ("next", "command://there", "running", ""),
        ("next", "command://beyond", "running", ""),
    ]
    assert any("chain" in task.name for task in at.tasks)


async def _until(told: Callable[[ActorPicture], bool]) -> ActorPicture:
    while True:
        (far,) = (await tree_record(LIMIT)).children
        if told(far):
            return far
        await trio.sleep(0.1)


def test_a_host_that_is_silent_is_lost_until_it_is_heard_again() -> None:
    async def main() -> str:
        async with (
            tractor.open_nursery() as an,
            tractor.hosts.open_host("command://here", **relayed(deadline=8.0)) as host,
        ):
            await an.start_actor("far", host=host)
            signal_relays(STOP)
            far = await _until(lambda far: far.state == "lost")
            signal_relays(CONT)
            await _until(lambda far: far.state == "running" and not far.note)
            await an.cancel()
        return pretty_picture(far)

    shown = run(main, limit=LIMIT)
    assert " at command://here  lost" in shown
    assert "! no sign of life of its host for " in shown
