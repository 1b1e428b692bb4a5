"""A child pauses in a loop, until you quit.

What to learn:

- `pause()` is the same everywhere: the child's REPL uses the root's terminal, and ctrl-c neither
  ends the child nor the root while it is open.
- `q` raises `bdb.BdbQuit` in the child. No REPL opens there for that, but its parent sees the error
  boxed as any other, and stops.
"""

import trio

import tractor


async def breakpoint_forever() -> None:
    """Run in the child."""
    turn = 0
    while True:
        await tractor.pause()
        turn += 1
        await trio.sleep(0)


async def main() -> None:
    """One child, which pauses again and again."""
    async with tractor.open_nursery(debug_mode=True) as an:
        portal = await an.run_in_actor(breakpoint_forever)
        await portal.wait_for_result()


if __name__ == "__main__":
    trio.run(main)
