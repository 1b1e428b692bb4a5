"""One error, looked at four times on its way up.

What to learn:

- `await tractor.post_mortem()` in an `except` block opens a REPL for an error that is being handled,
  also where debug mode would not.
- The automatic REPL comes where the error leaves the actor: once in each actor, however many scopes
  it crosses there. The manual one does not count.
"""

import trio

import tractor


async def name_error() -> None:
    """Run in the child: one manual stop; the automatic one follows."""
    try:
        raise NameError("there is no such name")
    except NameError:
        await tractor.post_mortem()
        raise


async def main() -> None:
    """The same in the root, with the boxed error."""
    async with tractor.open_nursery(debug_mode=True) as an:
        portal = await an.start_actor("name_error", enable_modules=[__name__])
        try:
            await portal.run(name_error)
        except tractor.RemoteActorError:
            await tractor.post_mortem()
            raise


if __name__ == "__main__":
    trio.run(main)
