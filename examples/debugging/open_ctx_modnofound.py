"""A context whose module the child does not serve.

What to learn:

- An actor runs only functions of modules that it was told to enable. Any other request is refused
  with `ModuleNotExposed`, which names the module and how to enable it.
- Nothing ran in the child, so no REPL opens there: the first one is the root's, for the boxed error.
"""

import trio

import tractor


@tractor.context
async def endpoint(ctx: tractor.Context) -> None:
    """Never run: the child's `enable_modules` does not have this module."""
    await ctx.started()


async def main() -> None:
    """Ask for it all the same."""
    async with tractor.open_nursery(debug_mode=True) as an:
        portal = await an.start_actor("closed")
        async with portal.open_context(endpoint):
            print("this is never printed")


if __name__ == "__main__":
    trio.run(main)
