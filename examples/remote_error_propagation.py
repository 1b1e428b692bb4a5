"""One crash cancels all: an error in one actor takes its siblings down and comes out of the block.

What to learn:

- An exception that leaves an actor's function is sent to the parent and raised there as
  `RemoteActorError`, which knows type, text, traceback and origin of the original one.
- As in a `trio` nursery, the first error cancels the siblings. Daemons, which never end by
  themselves, are not an exception: the block ends, and nothing of it is left.
"""

import trio

import tractor


async def crash() -> None:
    """Run in the child that fails."""
    raise ZeroDivisionError("nobody can divide by that")


async def main() -> None:
    """Three daemons and one actor that fails."""
    try:
        async with tractor.open_nursery() as an:
            for number in range(3):
                await an.start_actor(f"daemon_{number}", enable_modules=[__name__])
            await an.run_in_actor(crash, name="unlucky")
    except tractor.RemoteActorError as error:
        name, _ = error.src_uid or ("nobody", "")
        print(f"{name} failed with a {error.boxed_type_str}, the daemons are gone too")


if __name__ == "__main__":
    trio.run(main)
