"""The builtin `breakpoint()` is the tree's while a runtime is open, and Python's own afterwards.

What to learn:

- Inside the runtime `breakpoint()` waits for the tree's terminal; its prompt is `(Pdb+)`. It needs
  debug mode and the package `greenback` (`trio-tractor[sync-pause]`).
- When the root has closed, hook and environment are what they were before: the same line opens
  Python's own debugger, whose prompt is `(Pdb)`.
"""

import os
import sys

import trio

import tractor


async def main() -> None:
    """The same builtin, inside and after."""
    hook, variable = sys.breakpointhook, os.environ.get("PYTHONBREAKPOINT")
    async with tractor.open_root_actor(debug_mode=True, maybe_enable_greenback=True):
        breakpoint()
        print("the root goes on", flush=True)
    assert sys.breakpointhook is hook
    assert os.environ.get("PYTHONBREAKPOINT") == variable
    breakpoint()
    print("the runtime is closed")


if __name__ == "__main__":
    trio.run(main)
