"""The root crashes, and a REPL opens where it did.

What to learn:

- `debug_mode=True` arms the tree: an unhandled error stops at the line that raised it, with all
  variables as they were.
- It is looked at, not repaired: `c` (continue) and `q` (quit) both let the error go on, and the
  program ends with it.

Try `ll` (the whole function), `p wanted, found`, then `c`.
"""

import trio

import tractor


async def main() -> None:
    """Crash."""
    async with tractor.open_root_actor(debug_mode=True):
        wanted, found = 42, 6 * 9
        assert wanted == found, "the answer is wrong"


if __name__ == "__main__":
    trio.run(main)
