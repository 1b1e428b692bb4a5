"""The root's patience ends while its crashed child is being debugged.

What to learn:

- Time-outs of your own run on while you sit in a REPL, for other actors do not stop. But their
  consequences wait: the child keeps the terminal for as long as you like.
- When you continue, both errors are there. The root's REPL shows them as a group: the child's, and
  its own `TooSlowError`.
"""

import trio

import tractor
from tractor.devx.debug import Lock


async def name_error() -> None:
    """Run in the child."""
    raise NameError("there is no such name")


async def main() -> None:
    """Wait for the child, but not for ever."""
    async with tractor.open_nursery(debug_mode=True) as an:
        portal = await an.run_in_actor(name_error)
        while Lock.statistics().holder is None:
            await trio.sleep(0.01)
        try:
            with trio.fail_after(0.1):
                await portal.wait_for_result()
        except trio.TooSlowError:
            print("the root has waited long enough", flush=True)
            raise


if __name__ == "__main__":
    trio.run(main)
