"""What `proc_kwargs` gives a fresh interpreter besides what `Popen` knows: limits, sockets by name, a path."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import tractor

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors are handed down")

if sys.platform != "win32":
    from ep_handed_down import told, told_below


def _run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        with trio.fail_after(60):
            await main()

    trio.run(limited)


def test_what_a_child_is_given(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            options: dict[str, Any] = {
                "limits": {"nofile": 150},
                "sockets": {"http": sock.fileno()},
                "env": {**os.environ, "PYTHONPATH": str(tmp_path)},
            }
            async with tractor.open_nursery() as an:
                portal = await an.start_actor(
                    "child", enable_modules=["ep_handed_down"], proc_kwargs=options
                )
                assert await portal.run(told) == {
                    "nofile": [150, 150],
                    "sockets": {"http": list(sock.getsockname())},
                    "same": True,
                    "inheritable": [False],
                    "first": str(tmp_path),
                }
                # Limits and paths go down the tree; sockets are the child's alone.
                below = await portal.run(told_below)
                assert below["nofile"] == [150, 150]
                assert below["sockets"] == {}
                await portal.cancel_actor()
        assert tractor.inherited_sockets() == {}

    _run(main)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"limits": {"nofiles": 5}}, ValueError, "this platform has no limit 'nofiles'"),
        ({"limits": 5}, TypeError, "must be limits by name"),
        ({"sockets": {"x": "y"}}, TypeError, "descriptors of sockets by name"),
        ({"limits": {"nofile": True}}, TypeError, "whole numbers"),
    ],
)
def test_what_is_none_is_refused(options: Any, error: type[Exception], text: str) -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(error, match=text):
                await an.start_actor("child", proc_kwargs=options)

    _run(main)


def test_a_limit_that_cannot_be_set_tells_why() -> None:
    async def main() -> None:
        async with tractor.open_nursery() as an:
            with pytest.raises(
                tractor.ActorFailure, match="the limit 'nofile' can't be set to 2147483647"
            ):
                await an.start_actor("child", proc_kwargs={"limits": {"nofile": 2**31 - 1}})

    _run(main)
