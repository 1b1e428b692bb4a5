"""A loop pauses in each turn.

What to learn:

- `n` (next) steps and keeps the REPL; `c` leaves it until the next `pause()`. Stepping over a
  `pause()` opens no second REPL inside the first.
- `q` is the way out of such a loop.
"""

import trio

import tractor


async def main() -> None:
    """Pause again and again."""
    async with tractor.open_root_actor(debug_mode=True):
        turn = 0
        while True:
            await tractor.pause()
            turn += 1
            await trio.sleep(0)


if __name__ == "__main__":
    trio.run(main)
