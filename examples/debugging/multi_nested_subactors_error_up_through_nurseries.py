"""An error climbs through four levels of actors, in two trees at the same time.

What to learn:

- The leaf that fails opens the first REPL. Each parent that the error reaches opens the next: level
  by level, up to the root.
- `RemoteActorError` keeps the way: `relay_path` has the uid of each actor that the error came
  through, `boxed_type` says `RemoteActorError` from the second hop on, `src_type` what it was at
  first.
- At each stop, both `c` and `q` let the error climb on.
"""

import trio

import tractor

LEVELS = 4


async def spawn_until(tree: str, level: int) -> None:
    """Run in each actor: start the next one, or fail in the last."""
    if level == 1:
        raise ValueError(f"the leaf of {tree} fails")
    async with tractor.open_nursery() as an:
        await an.run_in_actor(
            spawn_until, name=f"{tree}_level_{level - 1}", tree=tree, level=level - 1
        )


async def grow(tree: str, errors: list[Exception]) -> None:
    """Have a tree; note how it fails."""
    try:
        async with tractor.open_nursery() as an:
            await an.run_in_actor(
                spawn_until, name=f"{tree}_level_{LEVELS}", tree=tree, level=LEVELS
            )
    except tractor.RemoteActorError as error:
        errors.append(error)


async def main() -> None:
    """Two trees."""
    errors: list[Exception] = []
    async with tractor.open_root_actor(debug_mode=True):
        async with trio.open_nursery() as tn:
            for tree in ("oak", "elm"):
                tn.start_soon(grow, tree, errors)
        raise ExceptionGroup("both trees failed", errors)


if __name__ == "__main__":
    trio.run(main)
