"""Shielded and unshielded pauses in a cancelled scope, and post-mortems after it.

What to learn:

- `pause()` in a cancelled scope can't wait for the terminal. It says so, with a hint, and raises
  `trio.Cancelled` like anything else that waits.
- `pause(shield=True)` and `post_mortem(shield=True)` do open their REPL there: again and again in a loop, and in a
  sub-task.
- Outside of the scope `post_mortem()` needs no shield. It does not count as the actor's own look at a crash: where the
  error then leaves, in the child and in the root, one more REPL opens.
"""

import trio

import tractor


async def pause_in_subtask() -> None:
    """Run in a task of a nursery that is cancelled already."""
    await tractor.pause(shield=True)


async def pause_in_cancelled_scope() -> None:
    """Run in the root and in a child."""
    with trio.CancelScope() as scope:
        scope.cancel()
        for _ in range(2):
            await tractor.pause(shield=True)
        async with trio.open_nursery() as tn:
            tn.start_soon(pause_in_subtask)
        await tractor.pause()
        print("this is never printed")
    print("the scope has ended", flush=True)


async def fail() -> None:
    """Run in the child: look at the error inside a cancelled scope, and after it, then let it out."""
    await pause_in_cancelled_scope()
    try:
        raise RuntimeError("the child has failed")
    except RuntimeError:
        with trio.CancelScope() as scope:
            scope.cancel()
            await tractor.post_mortem(shield=True)
        await tractor.post_mortem()
        raise


async def main() -> None:
    """The root first, then a child, whose error then reaches the root."""
    async with tractor.open_nursery(debug_mode=True) as an:
        await pause_in_cancelled_scope()
        portal = await an.start_actor("child", enable_modules=[__name__])
        try:
            await portal.run(fail)
        except tractor.RemoteActorError:
            await tractor.post_mortem()
            raise


if __name__ == "__main__":
    trio.run(main)
