"""An actor for each core; the root fails after two seconds; nothing is left.

What to learn: a nursery is a promise about processes. However its block is left, also by an error
of its own, every process that was started in it has ended by then. Watch them with `ps` or `htop`
while it runs.
"""

import os

import trio

import tractor

SECONDS = 2


async def live() -> None:
    """Run in each child: say so, and stay."""
    actor = tractor.current_actor()
    print(f"{actor.name} lives in process {os.getpid()}", flush=True)
    await trio.sleep_forever()


async def main() -> None:
    """Start them all, count down, fail."""
    try:
        async with tractor.open_nursery() as an:
            for core in range(os.cpu_count() or 1):
                await an.run_in_actor(live, name=f"worker_{core}")
            for left in range(SECONDS, 0, -1):
                print(f"the root fails in {left} s", flush=True)
                await trio.sleep(1)
            raise RuntimeError("the root has had enough")
    except RuntimeError as error:
        print(f"{error}: everything was contained, no process is left")


if __name__ == "__main__":
    trio.run(main)
