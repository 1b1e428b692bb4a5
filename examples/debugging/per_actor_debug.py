"""Only one actor of the tree is debugged.

What to learn:

- `start_actor(debug_mode=True)` arms one child, while the root and its other children stay as they
  are. The terminal is still the root's, which lends it to that child.
- A crash of an actor that is not armed opens no REPL: it is an error as ever.
"""

import trio

import tractor


async def fail(what: str) -> None:
    """Run in both children."""
    raise RuntimeError(f"{what} has failed")


async def main() -> None:
    """Call a child that is debugged, then one that is not."""
    async with tractor.open_nursery() as an:
        debugged = await an.start_actor("debugged_boi", enable_modules=[__name__], debug_mode=True)
        crashing = await an.start_actor("crash_boi", enable_modules=[__name__])
        try:
            await debugged.run(fail, what="debugged_boi")
        except tractor.RemoteActorError as error:
            print("handled:", error.boxed_type_str)
        await crashing.run(fail, what="crash_boi")


if __name__ == "__main__":
    trio.run(main)
