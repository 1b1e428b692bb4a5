"""A daemon actor: a process that serves calls until somebody cancels it.

What to learn:

- `start_actor()` starts a process that runs nothing of its own accord. `enable_modules` says which
  modules' functions it lets others call; `__name__` is this script.
- `portal.run()` calls one function there and waits for its result, as often as you like.
- A daemon never ends by itself, so the nursery waits for it for ever, unless it is cancelled.
"""

import trio

import tractor


async def weight_of_the_earth() -> str:
    """Run in the child, once for each call."""
    return "About six thousand trillion tons."


async def main() -> None:
    """Ask a daemon twice, then end it."""
    async with tractor.open_nursery() as an:
        portal = await an.start_actor("geologist", enable_modules=[__name__])

        for _ in range(2):
            print(await portal.run(weight_of_the_earth))

        await portal.cancel_actor()


if __name__ == "__main__":
    trio.run(main)
