"""Shielded and unshielded pauses in a cancelled scope.

What to learn:

- `pause()` in a cancelled scope can't wait for the terminal. It says so, with a hint, and raises
  `trio.Cancelled` like anything else that waits.
- `pause(shield=True)` and `post_mortem(shield=True)` do open their REPL there.
"""

import trio

import tractor


async def pause_in_cancelled_scope() -> None:
    """Run in the root and in a child."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await tractor.pause(shield=True)
        await tractor.pause()
        print("this is never printed")
    print("the scope has ended", flush=True)


async def fail_in_cancelled_scope() -> None:
    """Run in the child: look at the error inside the cancelled scope, then let it out."""
    await pause_in_cancelled_scope()
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            raise RuntimeError("the child has failed")
        except RuntimeError:
            await tractor.post_mortem(shield=True)
            raise


async def main() -> None:
    """The root first, then a child, whose error then reaches the root."""
    async with tractor.open_nursery(debug_mode=True) as an:
        await pause_in_cancelled_scope()
        portal = await an.run_in_actor(fail_in_cancelled_scope, name="child")
        await portal.wait_for_result()


if __name__ == "__main__":
    trio.run(main)
