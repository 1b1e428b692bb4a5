"""What a peer may ask for by message, and that nothing of it takes an actor down."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import tractor
from tractor.testing import get_rando_addr

pytestmark = pytest.mark.usefixtures("forked_actors")


async def ping() -> str:
    """It still serves."""
    return "pong"


BAD: list[dict[str, Any]] = [
    {},
    {"path": [], "request": {"op": "hello"}},
    {"path": [], "request": {"op": "hello"}, "limit": float("nan")},
    {"path": [], "request": {"op": "hello"}, "limit": float("inf")},
    {"path": [], "request": {"op": "hello"}, "limit": "soon"},
    {"path": "x" * 1000, "request": {"op": "hello"}, "limit": 1.0},
    {"path": [1], "request": {"op": "hello"}, "limit": 1.0},
    {"path": [], "request": [], "limit": 1.0},
    {"path": [], "request": {"op": "hello"}, "limit": 1.0, "pid": "me"},
]
ANSWERED: list[dict[str, Any]] = [
    {"path": ["nobody"] * 1000, "request": {"op": "hello"}, "limit": 1.0},
    {"path": [], "request": {}, "limit": 1.0},
    {"path": [], "request": {"op": ["hello"]}, "limit": -1e308},
    {"path": [], "request": {"op": "no such"}, "limit": 1.0},
    {"path": [], "request": {"op": "recent", "since": {}}, "limit": 1.0},
    {"path": [], "request": {"op": "log", "spec": "error", "for": float("nan")}, "limit": 1.0},
]


def test_bad_questions_harm_nobody() -> None:
    async def main() -> None:
        async with tractor.open_nursery(registry_addrs=[get_rando_addr("tcp")]) as an:
            portal = await an.start_actor("asked", enable_modules=[__name__])
            with trio.fail_after(30):
                for kwargs in BAD:
                    with pytest.raises(tractor.RemoteActorError):
                        await portal.run_from_ns("self", "_ask", **kwargs)
                for kwargs in ANSWERED:
                    told = await portal.run_from_ns("self", "_ask", **kwargs)
                    assert set(told) == {"error"}, kwargs
                assert await portal.run(ping) == "pong"
            await portal.cancel_actor()

    trio.run(main)


def test_an_answer_above_the_frame_limit_is_told_as_that() -> None:
    async def main() -> None:
        async with tractor.open_nursery(
            registry_addrs=[get_rando_addr("tcp")], max_frame_size=16 * 1024
        ) as an:
            portal = await an.start_actor("asked", enable_modules=[__name__])
            with trio.fail_after(30):
                request = {"op": "stacks"}
                async with trio.open_nursery() as tn:
                    for _ in range(40):
                        tn.start_soon(portal.run, trio_sleep)
                    await trio.sleep(0.2)
                    told = await portal.run_from_ns(
                        "self", "_ask", path=[], request=request, limit=5.0
                    )
                    assert set(told) == {"error"}
                    assert "16384" in str(told) or "frame" in str(told)
                    tn.cancel_scope.cancel()
                assert await portal.run(ping) == "pong"
            await portal.cancel_actor()

    trio.run(main)


async def trio_sleep() -> None:
    """Something to be seen."""
    await trio.sleep_forever()
