"""A child that hangs in a shielded scope: look at it from outside, then end it.

What to learn:

- SIGUSR1 to the root's process makes each actor print its tree of tasks, parent before child, and
  append it to `/tmp/tractor-stackscope-<pid>.log`. Nothing stops. It needs the package `stackscope`
  (`trio-tractor[dumps]`).
- ctrl-c cancels the tree. The child ignores that, since its scope is shielded; so after a moment it
  is killed, which the log says: "#T-800 deployed to collect zombie B0".

From another terminal: `kill -USR1 <pid>`, then press ctrl-c in this one.
"""

import os

import trio

import tractor


@tractor.context
async def hang(ctx: tractor.Context) -> None:
    """Run in the child: sleep where no cancellation comes through."""
    with trio.CancelScope(shield=True):
        await ctx.started(os.getpid())
        await trio.sleep_forever()


async def main() -> None:
    """Wait for the child, which never ends by itself."""
    async with tractor.open_nursery(enable_stack_on_sig=True) as an:
        portal = await an.start_actor("hanger", enable_modules=[__name__])
        async with portal.open_context(hang) as (_, pid):
            print(f"root {os.getpid()}, hanger {pid}: press ctrl-c to end", flush=True)
            await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)
