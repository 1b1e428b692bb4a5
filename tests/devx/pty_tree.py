"""A tree as deep as you like whose leaf pauses, crashes or hangs: ``python pty_tree.py WHAT DEPTH``.

The actors below the root are `level_1`, `level_2`, ...; the last one does WHAT:

- `pause`: pauses once and returns;
- `crash`: raises a ValueError;
- `stay`: pauses once, then sleeps until the tree is cancelled; the root says when the terminal is free again;
- `sync`: pauses in a worker thread and returns.
"""

from __future__ import annotations

import sys

import trio

import tractor
from tractor.devx.debug import Lock


def pause_in_thread() -> None:
    """Pause in a plain function."""
    tractor.pause_from_sync()
    print("the thread goes on", flush=True)


async def leaf(what: str) -> None:
    """What the last actor does."""
    if what == "crash":
        raise ValueError("the leaf fails")
    if what == "sync":
        await trio.to_thread.run_sync(pause_in_thread)
        return
    await tractor.pause()
    print("the leaf goes on", flush=True)
    if what == "stay":
        await trio.sleep_forever()


async def level(what: str, number: int, depth: int) -> None:
    """Run in each actor: have the next one, or do it."""
    if number == depth:
        await leaf(what)
        return
    async with tractor.open_nursery() as an:
        portal = await an.run_in_actor(
            level, name=f"level_{number + 1}", what=what, number=number + 1, depth=depth
        )
        await portal.wait_for_result()


async def say_when_free() -> None:
    """Run in the root: wait until the terminal was taken and given back."""
    for taken in (True, False):
        while (Lock.statistics().holder is not None) is not taken:
            await trio.sleep(0.01)
    print("nobody has the terminal", flush=True)


async def main() -> None:
    """The root of it."""
    what, depth = sys.argv[1], int(sys.argv[2])
    async with (
        tractor.open_root_actor(debug_mode=True, maybe_enable_greenback=True),
        # So that ctrl-c comes out as itself.
        tractor.trionics.collapse_eg(),
        trio.open_nursery() as tn,
    ):
        if what == "stay":
            tn.start_soon(say_when_free)
        await level(what, 0, depth)
    print("the tree has ended")


if __name__ == "__main__":
    trio.run(main)
