"""Parent and child burn a core each, side by side.

What to learn: an actor is a process, so work that keeps Python busy really runs in parallel, and
the parent goes on with its own while the child computes.
"""

import os
import time

import trio

import tractor

SECONDS = 1.0


def burn(seconds: float) -> int:
    """Keep one core busy; return how often the loop ran."""
    rounds = 0
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        rounds += 1
    return rounds


async def burn_in_child(seconds: float) -> tuple[int, float]:
    """Run in the child; return its pid and when it began, by the clock that all processes share."""
    began = time.time()
    burn(seconds)
    return os.getpid(), began


async def main() -> None:
    """Both at once."""
    async with tractor.open_nursery() as an:
        portal = await an.run_in_actor(burn_in_child, seconds=SECONDS)
        # Nothing is awaited here: the child's process does not need this one's loop.
        burn(SECONDS)
        done = time.time()
        pid, child_began = await portal.wait_for_result()

    assert pid != os.getpid()
    assert child_began < done, "one waited for the other"
    print(f"collected the pid {pid} of the child; this is {os.getpid()}")


if __name__ == "__main__":
    trio.run(main)
