"""A child crashes: the REPL opens in the child first, then in its parent.

What to learn:

- The REPL opens in the process that failed, whichever that is, and all share this one terminal.
- When you continue, the error goes up the tree, and each parent that it reaches opens a REPL of its
  own: there it is a `RemoteActorError` that boxes the child's error and shows its traceback.
"""

import trio

import tractor


async def name_error() -> None:
    """Run in the child."""
    raise NameError("there is no such name")


async def main() -> None:
    """One child, which crashes."""
    async with tractor.open_nursery(debug_mode=True) as an:
        portal = await an.run_in_actor(name_error)
        await portal.wait_for_result()


if __name__ == "__main__":
    trio.run(main)
