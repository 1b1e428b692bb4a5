"""Debugging inside a scope that is cancelled already.

What to learn:

- In a cancelled scope nothing can wait, a REPL included. `pause(shield=True)` shields itself: it
  works, and afterwards the cancellation goes on.
- The REPL for a crash of the root's block is shielded where it must be, without being told.
"""

import trio

import tractor


async def main() -> None:
    """Cancel the own block, pause, crash."""
    with trio.CancelScope() as scope:
        async with tractor.open_root_actor(debug_mode=True):
            scope.cancel()
            await tractor.pause(shield=True)
            assert not scope.cancel_called, "the root has cancelled itself"


if __name__ == "__main__":
    trio.run(main)
