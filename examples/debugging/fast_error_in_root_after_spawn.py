"""The root fails while a child is starting.

What to learn:

- It does not matter how far the child has come: a start that is cancelled leaves no process.
- The root's REPL opens after its children have ended; the error is still the root's own.
"""

import trio

import tractor


async def main() -> None:
    """Start an actor in the background, and fail."""
    async with (
        tractor.open_nursery(debug_mode=True) as an,
        trio.open_nursery() as tn,
    ):
        tn.start_soon(an.start_actor, "late")
        await trio.sleep(0.01)
        raise AssertionError("the root was faster")


if __name__ == "__main__":
    trio.run(main)
