"""What is no loss: a parent that is stopped or holds its GIL, a network that is away for a while."""

from __future__ import annotations

import signal
import time

import ep_elsewhere
import pytest
import trio
from bed import Bed
from bed_ways import MODULES, Way, is_ready, open_tree, skip_a_drop_by_other_ways, start_program

DEADLINE = 3.0
SSH = "ssh", "tunnel"
"""Which engine it is makes no difference to the link process."""

pytestmark = pytest.mark.long


def test_a_parent_that_is_stopped_loses_nobody(bed: Bed) -> None:
    way = Way(bed, *SSH)
    with start_program(way, "h1", what="stop itself", deadline=DEADLINE) as program:
        is_ready(program)
        before = {process.pid for process in way.there("h1")}
        time.sleep(2 * DEADLINE)
        assert {process.pid for process in way.there("h1")} == before
        program.send_signal(signal.SIGCONT)
        assert program.stdout is not None
        assert program.stdout.readline() == "goes on\n"
        assert {process.pid for process in way.there("h1")} == before
        program.kill()


def test_a_parent_that_holds_its_gil_loses_nobody(bed: Bed) -> None:
    way = Way(bed, *SSH)

    async def main() -> None:
        async with open_tree(way, "h1", deadline=DEADLINE) as (an, [h1]):
            far = await an.start_actor("far", host=h1, enable_modules=MODULES)
            pid = await far.run(ep_elsewhere.pid)
            time.sleep(2 * DEADLINE)
            assert await far.run(ep_elsewhere.pid) == pid
            await an.cancel()

    trio.run(main)


@pytest.mark.parametrize("how", ["cut", "drop"])
def test_a_short_cut_is_survived(usual_way: Way, how: str) -> None:
    way = usual_way
    skip_a_drop_by_other_ways(way, how)
    # By then TCP tries again every few seconds only: what it tries at half of a short deadline may come too late.
    deadline = 10.0

    async def main() -> None:
        async with open_tree(way, "h1", deadline=deadline) as (an, [h1]):
            far = await an.start_actor("far", host=h1, enable_modules=MODULES)
            pid = await far.run(ep_elsewhere.pid)
            getattr(way.bed, how)("h1")
            await trio.sleep(deadline / 2)
            way.bed.heal("h1")
            await h1.ping()
            assert await far.run(ep_elsewhere.pid) == pid
            await an.cancel()

    trio.run(main)
