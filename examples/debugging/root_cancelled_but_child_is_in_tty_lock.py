"""The root cancels everything while a grandchild is being debugged.

What to learn:

- An actor that holds or awaits the REPL is neither cancelled nor killed from under you, and no
  actor between it and the root is. A cancel waits until you continue.
- Afterwards all is as ever: the cancelled tree ends.
"""

import trio

import tractor
from tractor.devx.debug import Lock


async def pause_once() -> None:
    """Run in the grandchild."""
    await tractor.pause()
    print("the grandchild goes on", flush=True)
    await trio.sleep_forever()


async def spawner() -> None:
    """Run in the child."""
    async with tractor.open_nursery() as an:
        await an.run_in_actor(pause_once, name="grandchild")


async def main() -> None:
    """Cancel as soon as the terminal is taken."""
    async with tractor.open_root_actor(debug_mode=True):
        with trio.CancelScope() as scope:
            async with tractor.open_nursery() as an:
                await an.run_in_actor(spawner)
                while Lock.statistics().holder is None:
                    await trio.sleep(0.01)
                print("the root cancels now", flush=True)
                scope.cancel()
        print("the tree has ended")


if __name__ == "__main__":
    trio.run(main)
