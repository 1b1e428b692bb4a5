"""The root fails while children are being debugged: it waits for them.

What to learn:

- A root that fails does not take the terminal away. It waits until nobody below holds or awaits the
  REPL, and only then opens its own.
- Nothing is lost meanwhile: the root's REPL shows a group of its own error and the children's.
- Its error is raised whatever the user does, and however fast: also if the nursery's cancellation, because
  a child has failed first, ends the wait for the REPLs.
- `Lock.statistics()` tells in the root who has the terminal and who waits for it.
"""

import trio

import tractor
from tractor.devx.debug import Lock


async def name_error() -> None:
    """Run in one child."""
    raise NameError("there is no such name")


async def value_error() -> None:
    """Run in the other one."""
    raise ValueError("there is no such value")


async def main() -> None:
    """Two children crash; while the user looks at them, the root does."""
    async with tractor.open_nursery(debug_mode=True) as an:
        try:
            await an.run_in_actor(name_error)
            await an.run_in_actor(value_error)
            while not (Lock.statistics().holder and Lock.statistics().waiting):
                await trio.sleep(0.01)
        finally:
            print("the root fails now", flush=True)
            raise AssertionError("the root has a problem of its own")


if __name__ == "__main__":
    trio.run(main)
