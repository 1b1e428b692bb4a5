"""Many actors want the terminal at the same time; they get it one after the other.

What to learn:

- Whoever pauses or crashes asks the root for the terminal and waits for its turn: first come, first
  served, at any depth. What two actors print is never mixed within a REPL.
- `spawn_error` crashes because of its own child: a REPL in that child, then one in itself.
- An error that is caught is not a crash. The root catches what each child fails with, so that no
  failure cancels the others, and then raises them all: its own REPL is the last one.

`c` as often as you like in the actor that pauses for ever, `q` to end it.
"""

from collections.abc import Awaitable, Callable

import trio

import tractor


async def breakpoint_forever() -> None:
    """Run in a child: pause until somebody quits."""
    while True:
        await tractor.pause()
        await trio.sleep(0.1)


async def name_error() -> None:
    """Run in a child, and in a grandchild."""
    raise NameError("there is no such name")


async def spawn_error() -> None:
    """Run in a child: have a child of its own that fails."""
    async with tractor.open_nursery() as an:
        await an.run_in_actor(name_error, name="name_error_1")


async def watch(fn: Callable[[], Awaitable[None]], errors: list[Exception]) -> None:
    """Run a function in an actor; note how it fails."""
    try:
        async with tractor.open_nursery() as an:
            await an.run_in_actor(fn)
    except tractor.RemoteActorError as error:
        errors.append(error)


async def main() -> None:
    """Three children, each in an actor nursery of its own."""
    errors: list[Exception] = []
    async with tractor.open_root_actor(debug_mode=True):
        async with trio.open_nursery() as tn:
            for fn in (breakpoint_forever, name_error, spawn_error):
                tn.start_soon(watch, fn, errors)
        raise ExceptionGroup("all children failed", errors)


if __name__ == "__main__":
    trio.run(main)
