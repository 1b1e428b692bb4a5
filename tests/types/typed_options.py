"""What a type checker knows of a root's options, where another function hands them on; it is checked, and never run."""

from __future__ import annotations

import tractor


async def opens_nurseries() -> None:
    """Known options, each with its type."""
    async with tractor.open_nursery(hide_tb=False, debug_mode=True, name="top", limits=None):
        pass
    tractor.open_nursery(debug_mod=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    tractor.open_nursery(name=7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async with tractor.open_supervisor("one_for_one", registry_addrs=[("127.0.0.1", 1616)]):
        pass
    tractor.open_supervisor(nam="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
