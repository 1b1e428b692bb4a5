"""A context to an endpoint that sleeps, in a program that uses other libraries too; ends on ctrl-c.

What to learn: third-party libraries that a script imports are imported in its children as well,
because a child gets the script's module to find the endpoints in it. Neither that nor what they do
at import time, threads included, stands in the way of ctrl-c.
"""

import importlib
import os

import trio

import tractor

# Whatever of these is installed; numpy starts threads when it is imported.
WANTED = ("numpy", "anyio", "msgspec", "pygments", "platformdirs")
LOADED = []
for name in WANTED:
    try:
        LOADED.append(importlib.import_module(name).__name__)
    except ImportError:
        print(f"(not installed here: {name})", flush=True)


@tractor.context
async def sleep_here(ctx: tractor.Context) -> None:
    """Run in the child."""
    await ctx.started((os.getpid(), LOADED))
    await trio.sleep_forever()


async def main() -> None:
    """Open the context and wait for ctrl-c."""
    try:
        async with tractor.open_nursery() as an:
            portal = await an.start_actor("sleeper", enable_modules=[__name__])
            async with portal.open_context(sleep_here) as (_, (pid, loaded)):
                assert loaded == LOADED
                print(f"process {pid} sleeps, beside {', '.join(loaded)}; press ctrl-c", flush=True)
                await trio.sleep_forever()
    except KeyboardInterrupt:
        print("ended by ctrl-c, the child is gone", flush=True)


if __name__ == "__main__":
    trio.run(main)
