"""An actor for each core in one line, ended by ctrl-c.

What to learn:

- `open_actor_cluster()` starts a number of daemons at the same time and gives a portal to each, by
  name.
- ctrl-c ends the tree: in the root it is the usual `KeyboardInterrupt`, the children end quietly,
  and none is left when the block has been left.

The script presses ctrl-c itself, so that it ends without anybody watching.
"""

import signal

import trio

import tractor


async def who_are_you() -> tuple[str, str]:
    """Run in each actor."""
    return tractor.current_actor().aid.uid


async def main() -> None:
    """Ask each actor for its uid, then wait for ctrl-c."""
    try:
        async with tractor.open_actor_cluster(modules=[__name__]) as portals:
            for name, portal in portals.items():
                print(f"{name} is {tuple(await portal.run(who_are_you))}")
            print("press ctrl-c to end")
            await trio.sleep(0.5)
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()
    except KeyboardInterrupt:
        print("the cluster was cancelled")


if __name__ == "__main__":
    trio.run(main)
