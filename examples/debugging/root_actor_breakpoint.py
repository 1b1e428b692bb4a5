"""A program of one actor pauses.

What to learn:

- `await tractor.pause()` opens a REPL on the line after it.
- `c` (continue) goes on. `q` (quit) raises `bdb.BdbQuit` in the task that had paused; here nobody
  catches it, so the program ends with it.
"""

import trio

import tractor


async def main() -> None:
    """Pause once."""
    async with tractor.open_root_actor(debug_mode=True):
        await tractor.pause()
        print("the root goes on")


if __name__ == "__main__":
    trio.run(main)
